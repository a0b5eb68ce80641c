// What the test binary has prepared, from the JSON file that ROLLCALL_FIXTURE names:
// {"url", "mqtt": {"host", "port"}, "gate": {"id", "token"}, "tablet": {"id", "token"}, "teacher"/"office"/"guardian"/"it"/"analyst"/"schoolOffice": {"email", "password"},
//  "school": {"id"}, "section": {"id", "title"}, "students": [{"id", "given", "family", "badge"}]}
// "left": a student who has left the school today, like one of the students.
// "earlier": another district, with conclusions about four days of this weekday: {"analyst", "office", "school", "gate", "students", "weekday",
//  "date": the last of these days, "bell": its first bell in milliseconds, "usual": {"HH:MM": the share that has usually arrived by then}};
//  its last four students have none, and the last of them has no grade either
// The section meets now and has at least eight students; the guardian's child is the first; nobody has been scanned yet.

import { readFileSync } from 'node:fs';

const path = process.env.ROLLCALL_FIXTURE;
if (!path) throw new Error('ROLLCALL_FIXTURE must name the fixture file; cargo xtask test does that');

export const fixture = JSON.parse(readFileSync(path, 'utf8'));
