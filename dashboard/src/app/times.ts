// How instants read in a school's zone.

/** Formats instants in one zone; without one, or with one that the browser does not know, in the browser's own. */
export class Times {
  #short: Intl.DateTimeFormat;
  #long: Intl.DateTimeFormat;
  #date: Intl.DateTimeFormat;
  #day: Intl.DateTimeFormat;

  constructor(zone?: string | null) {
    const made = (options: Intl.DateTimeFormatOptions) => {
      const base = { hourCycle: 'h23', ...options } as const;
      try {
        return new Intl.DateTimeFormat('en-GB', zone ? { ...base, timeZone: zone } : base);
      } catch {
        return new Intl.DateTimeFormat('en-GB', base);
      }
    };
    this.#short = made({ hour: '2-digit', minute: '2-digit' });
    this.#long = made({ hour: '2-digit', minute: '2-digit', second: '2-digit' });
    this.#date = made({ weekday: 'long', day: 'numeric', month: 'long' });
    this.#day = made({ day: 'numeric', month: 'short', year: 'numeric' });
  }

  /** "08:03" */
  short(instant: string | number | null | undefined): string {
    return this.#say(this.#short, instant);
  }

  /** "08:03:12" */
  long(instant: string | number | null | undefined): string {
    return this.#say(this.#long, instant);
  }

  /** "Friday 20 November" */
  date(instant: string | number | null | undefined): string {
    return this.#say(this.#date, instant);
  }

  /** "08:03" of today, "18 Nov 2026, 08:03" of any other day: what was last seen on Wednesday must not read like this morning. */
  near(instant: string | number | null | undefined, now: number): string {
    const day = this.#say(this.#day, instant);
    if (day === '') return '';
    return day === this.#say(this.#day, now) ? this.short(instant) : `${day}, ${this.short(instant)}`;
  }

  #say(format: Intl.DateTimeFormat, instant: string | number | null | undefined): string {
    if (instant === null || instant === undefined) return '';
    const date = new Date(instant);
    return Number.isNaN(date.getTime()) ? '' : format.format(date);
  }
}
