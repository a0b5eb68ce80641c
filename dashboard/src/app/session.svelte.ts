// Who is signed in. `null`: nobody; `undefined`: not known yet.

import { api, Problem } from '../api/client.ts';
import type { Role, Session } from '../api/types.ts';

/** The page a role starts on. */
export const START: Record<Role, string> = {
  teacher: '/board',
  office: '/school',
  guardian: '/family',
  analyst: '/district',
  it: '/devices',
};

class SignedIn {
  current = $state.raw<Session | null | undefined>(undefined);
  /** A session ended under the person's hands; the sign-in page says so. */
  hasEnded = $state(false);

  /** Asks the server. Without an answer what is known stays: a lost network signs nobody out. */
  async check(): Promise<void> {
    try {
      this.current = await api.session();
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        if (this.current) this.hasEnded = true;
        this.current = null;
      } else if (this.current === undefined) {
        throw error;
      }
    }
  }

  async signIn(email: string, password: string): Promise<void> {
    this.current = await api.signIn(email, password);
    this.hasEnded = false;
  }

  async signOut(): Promise<void> {
    await api.signOut().catch((error: unknown) => {
      if (!(error instanceof Problem) || error.status !== 401) throw error;
    });
    this.hasEnded = false;
    this.current = null;
  }
}

export const session = new SignedIn();
