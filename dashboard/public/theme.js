// Runs before the first paint, so that a chosen theme never flashes. A file of its own, because the page's
// security policy refuses scripts inside the page.
try {
  const theme = localStorage.getItem('rollcall.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage can be switched off; the system's preference then stands.
}
