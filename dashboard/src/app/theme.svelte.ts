// Light, dark, or as the system says. public/theme.js applies the choice before the first paint.

export type Theme = 'auto' | 'light' | 'dark';
const ORDER: readonly Theme[] = ['auto', 'light', 'dark'];
const KEY = 'rollcall.theme';

class ThemeChoice {
  current = $state<Theme>((document.documentElement.dataset['theme'] as Theme | undefined) ?? 'auto');

  next(): void {
    this.current = ORDER[(ORDER.indexOf(this.current) + 1) % ORDER.length] ?? 'auto';
    if (this.current === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = this.current;
    try {
      localStorage.setItem(KEY, this.current);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
  }
}

export const theme = new ThemeChoice();
