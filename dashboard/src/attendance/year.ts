// A student's school year, as it is drawn.

/** The first of August before a date: no school year that is known begins earlier. */
export function yearBegins(date: string): string {
  const [year = 0, month = 1] = date.split('-').map(Number);
  return `${month >= 8 ? year : year - 1}-08-01`;
}

/** Days by month, both oldest first; `first` is the month's first date. */
export function months<Day extends { date: string }>(days: readonly Day[]): { first: string; days: Day[] }[] {
  const found = new Map<string, Day[]>();
  for (const day of [...days].sort((a, b) => a.date.localeCompare(b.date))) {
    const first = `${day.date.slice(0, 7)}-01`;
    found.set(first, [...(found.get(first) ?? []), day]);
  }
  return Array.from(found, ([first, of]) => ({ first, days: of }));
}
