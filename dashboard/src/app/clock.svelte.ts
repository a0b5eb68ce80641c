// The wall clock that pages show.

class Clock {
  now = $state(Date.now());
  /** Zone of the school that the page is about; `null`: the browser's own. */
  zone = $state<string | null>(null);

  constructor() {
    const tick = () => {
      this.now = Date.now();
      setTimeout(tick, 1000 - (this.now % 1000));
    };
    tick();
  }
}

export const clock = new Clock();
