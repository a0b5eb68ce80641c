// Where the page is: the path of the address bar and how it is looked at, changed without loading anything.

class Route {
  path = $state(location.pathname);
  /** The query part of the address. */
  search = $state(location.search);

  constructor() {
    addEventListener('popstate', () => {
      this.path = location.pathname;
      this.search = location.search;
    });
  }

  /** Goes to a path, with a query part if it has one. The page that is open stays as it is looked at. */
  go(address: string, replace = false): void {
    const { pathname, search } = new URL(address, location.href);
    if (pathname === this.path) return;
    history[replace ? 'replaceState' : 'pushState'](null, '', pathname + search);
    this.path = pathname;
    this.search = search;
    scrollTo(0, 0);
  }

  /** Says in the address how the page is looked at, so that its link reopens it like this. `end`: what stands after the path. */
  say(end: string): void {
    history.replaceState(null, '', location.pathname + end);
    this.search = location.search;
  }

  /** The parts of the path, such as ["board", "<id>"]. */
  get parts(): string[] {
    return this.path.split('/').filter((part) => part !== '');
  }
}

export const route = new Route();

/** For links: a plain click stays in the page, anything else is the browser's. */
export function follow(event: MouseEvent): void {
  const link = event.currentTarget as HTMLAnchorElement;
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  route.go(link.href);
}
