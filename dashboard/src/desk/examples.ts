// Questions to begin with: each is answered for every role that has the desk, and shows one kind of chart.

import type { ChartKind } from './view.ts';

export interface Example {
  readonly name: 'weeks' | 'weekdays' | 'now';
  readonly sql: string;
  readonly chart: ChartKind;
}

export const EXAMPLES: readonly Example[] = [
  {
    name: 'weeks',
    chart: 'line',
    sql: `SELECT week, s.name AS school, round(100.0 * sum(attended_half_days) / sum(enrolled_half_days), 1) AS attended_percent
FROM attendance_day d
JOIN schools s ON s.school = d.school
WHERE closed
GROUP BY week, s.name
ORDER BY week, s.name`,
  },
  {
    name: 'weekdays',
    chart: 'heat',
    sql: `SELECT week, to_char(date, '%a') AS weekday, sum(absent_half_days) / 2.0 AS absent_days
FROM attendance_day
WHERE closed AND home
GROUP BY week, date
ORDER BY week, date_part('isodow', date)`,
  },
  {
    name: 'now',
    chart: 'bar',
    sql: `SELECT s.name AS school, status, count(*) AS students
FROM attendance_now n
JOIN schools s ON s.school = n.school
WHERE section IS NULL
GROUP BY s.name, status
ORDER BY s.name, status`,
  },
];
