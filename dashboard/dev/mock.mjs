// A server with made-up people for looking at the pages while the real one is not at hand. Never part of dist.
//
//   npm run build && npm run mock            then http://127.0.0.1:8180, any password,
//   teacher@, office@, guardian@, analyst@ or it@mock.example
//
// POST /mock/scan {"student": <index>, "dir": "in"}, /mock/gate {"connected": false}, /mock/cut, /mock/fail {"marks": true}.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { tableFromArrays, tableToIPC } from '@uwdata/flechette';
import { WebSocketServer } from 'ws';

const dist = new URL('../dist/', import.meta.url).pathname;
const port = Number(process.env.PORT ?? 8180);
const uuid = (kind, n) => `00000000-0000-4000-8${String(kind).padStart(3, '0')}-${String(n).padStart(12, '0')}`;
const [DISTRICT, SCHOOL, PERIOD, GATE, GATE2, SCANNER] = [uuid(1, 1), uuid(2, 1), uuid(3, 1), uuid(5, 1), uuid(5, 2), uuid(5, 3)];
const GIVEN = 'Amara Ben Chloé Diego Elif Farid Grace Hana Ivan Jamila Kofi Leila Maximiliano Nadia Oscar Priya Quinn Rosa Samir Tara Umar Vera Wei Xenia Yusuf Zoë Aisha Bruno Carmen Dmitri'.split(' ');
const FAMILY = 'Okafor Lindqvist Moreau Núñez Yılmaz Haddad O’Brien Sato Petrov Diallo Mensah Haddad Featherstonehaugh-Cholmondeley Rahman Wilde Sharma Baker Ruiz Nasser Quist Khalid Novak Chen Popov Demir Bauer Bello Costa Vega Volkov'.split(' ');
const students = GIVEN.map((given, n) => ({ id: uuid(4, n + 1), given, family: FAMILY[n], grade: '08', kind: 'student' }));
const now = () => new Date().toISOString();
const start = new Date(Date.now() - 3 * 60_000);
const end = new Date(start.getTime() + 50 * 60_000);
const sections = ['Algebra I', 'Biology', 'World History', 'English 8', 'Art'].map((title, n) => ({
  id: uuid(6, n + 1), title, room: String(201 + n), school: SCHOOL, school_name: 'Cedar Hill Middle School', teachers: [{ id: uuid(7, 1), name: 'M. Okello' }],
  meets_now: n === 0, period_name: `Period ${n + 1}`,
  starts: new Date(start.getTime() + n * 3_600_000).toISOString(), ends: new Date(end.getTime() + n * 3_600_000).toISOString(),
}));
const date = now().slice(0, 10);
let seq = 1800;
let failMarks = false;

// Live topics: a keyed state with a version, as the hub has them, and all deltas since the start.
const topics = new Map();
const sockets = new Set();
function topic(name) {
  if (!topics.has(name)) topics.set(name, { version: 1, data: {}, deltas: [] });
  return topics.get(name);
}
function update(name, changes) {
  const state = topic(name);
  for (const [collection, keys] of Object.entries(changes)) {
    const held = (state.data[collection] ??= {});
    for (const [key, value] of Object.entries(keys)) value === null ? delete held[key] : (held[key] = value);
  }
  state.version += 1;
  state.deltas.push({ version: state.version, data: changes });
  for (const socket of sockets) {
    for (const [id, followed] of socket.followed) if (followed === name) say(socket, { op: 'delta', id, version: state.version, data: changes });
  }
}
const say = (socket, message) => socket.send(JSON.stringify(message));

const board = `section/${sections[0].id}/attendance`;
const building = `school/${SCHOOL}/attendance`;
const blank = () => ({ evidence: [], mark: null, behind: [], flags: [], present_min: 0, scheduled_min: 50, starts: start.toISOString(), ends: end.toISOString(), arrival: null, departure: null, grace_min: 5, tardy_cutoff_min: 20 });
const inferred = new Map();
const marks = new Map();
let offset = 0;

function entryOf(id) {
  const base = inferred.get(id) ?? { status: 'expected', since: null, rule: 'before_start', detail: blank() };
  const mark = [...marks.values()].filter((mark) => mark.student === id).at(-1);
  if (!mark) return base;
  const status = mark.status.startsWith('absent') ? 'absent' : mark.status;
  const flags = status === 'absent' && base.detail.arrival ? ['in_but_marked_absent'] : status === 'present' && !base.detail.arrival ? ['missed_scan'] : [];
  return { status, since: mark.at, rule: 'teacher_mark', detail: { ...base.detail, mark, flags } };
}
function show(ids) {
  update(board, { students: Object.fromEntries(ids.map((id) => [id, entryOf(id)])), counts: {} });
  const counts = {};
  for (const student of students) { const { status } = entryOf(student.id); counts[status] = (counts[status] ?? 0) + 1; }
  const lines = Object.fromEntries(sections.map((section, n) => [section.id, { title: section.title, room: section.room, period: PERIOD, period_name: section.period_name, state: n === 0 ? 'running' : 'before', counts: n === 0 ? counts : { expected: 26 }, roll_taken: n === 0 }]));
  update(building, { sections: lines, counts: { ...counts, students: students.length, in_building: Object.keys(topic(building).data.building ?? {}).length } });
  update(`district/${DISTRICT}/attendance`, { schools: { [SCHOOL]: { name: 'Cedar Hill Middle School', counts, in_building: topic(building).data.counts.in_building, rounded_to: 1 }, [uuid(2, 2)]: { name: 'Ridgeway High School', counts: { present: 911, tardy: 14, absent: 40, expected: 2 }, in_building: 938, rounded_to: 1 } } });
}
function scan(index, dir = 'in', at = Date.now()) {
  const { id } = students[index];
  const ts = new Date(at).toISOString();
  const late = at - start.getTime() > 5 * 60_000;
  const held = inferred.get(id)?.detail ?? blank();
  const evidence = [...held.evidence, { device: GATE, seq: ++seq, ts, received: now(), dir, offline: false, offset: ++offset }];
  const detail = dir === 'in' ? { ...held, evidence, arrival: ts } : { ...held, evidence, departure: ts };
  const status = dir === 'out' ? 'early_departure' : late ? 'tardy' : 'present';
  inferred.set(id, { status, since: ts, rule: dir === 'out' ? 'left_before_end' : late ? 'arrived_after_grace' : 'arrived_by_grace', detail });
  update(building, { building: { [id]: dir === 'in' ? { since: ts, device: GATE } : null }, feed: { [offset]: { person: id, device: GATE, ts, received: now(), dir, offline: false } } });
  update(`student/${id}/day`, { day: { date, status, rule: 'arrived_by_grace', arrival: detail.arrival, departure: detail.departure, inside_since: dir === 'in' ? ts : null, detail } });
  show([id]);
}
function gate(connected) {
  const devices = {
    [GATE]: { name: 'Main gate', kind: 'gate', school: SCHOOL, connected, last_seen: now(), queued: connected ? 0 : 12, battery: 0.83, behind_since: connected ? null : now(), behind_reason: connected ? null : 'offline' },
    [GATE2]: { name: 'Bus gate', kind: 'gate', school: SCHOOL, connected: true, last_seen: now(), queued: 0, battery: 0.41, behind_since: null },
    [SCANNER]: { name: 'Room 204 scanner', kind: 'room', school: SCHOOL, connected: null, last_seen: null, never_seen: true, queued: null, battery: null, behind_since: null },
  };
  update(building, { devices });
  update(`district/${DISTRICT}/devices`, { devices });
  for (const { id } of students) {
    const held = inferred.get(id);
    if (held && held.status !== 'expected' && held.status !== 'unknown') continue;
    inferred.set(id, connected ? { status: 'expected', since: null, rule: 'awaited', detail: blank() } : { status: 'unknown', since: null, rule: 'gate_behind', detail: { ...blank(), behind: [{ device: GATE, reason: 'offline', since: now() }] } });
  }
  show(students.map(({ id }) => id));
}
update(board, { meta: { date, state: 'running', period: PERIOD, period_name: 'Period 1', starts: start.toISOString(), ends: end.toISOString() } });
update(building, { building: {}, feed: {} });
for (const { id } of students) update(`student/${id}/day`, { day: { date, status: 'expected', rule: 'before_start', arrival: null, departure: null, inside_since: null, detail: blank() } });
gate(true);
engagement();

/** A lesson that began half an hour ago: windows with much, little and no data, the last one still open. */
function engagement() {
  const window = 5 * 60_000;
  const begun = Date.now() - 28 * 60_000;
  const shapes = [[3.1, 12], [4.2, 24], [null, 0], [2.4, 8], [3.6, 25], [4.4, 26], [1.2, 25]];
  const windows = {};
  for (const [n, [active, withData]] of shapes.entries()) {
    const slot = Math.floor(begun / window) * window + n * window;
    if (slot > Date.now()) break;
    const isOpen = slot + window > Date.now();
    windows[new Date(slot).toISOString()] = {
      starts: new Date(Math.max(slot, begun)).toISOString(), ends: new Date(slot + window).toISOString(), state: isOpen ? 'open' : 'settled', data: withData > 0, corrections: n === 1 ? 1 : 0,
      definition: 1, present: 26, with_data: withData, events: withData * 9, late_events: 0, meaningful: withData * 5, active_ms: 0, allowed_ms: 0, coverage: withData / 26,
      active_min: active, interaction_rate: active === null ? null : 4.1, resource_alignment: null, quiz_present: null, quiz_responders: null, quiz_participation: null, quiz_latency_ms: null,
      wearers: null, worn_ratio: null, steps: null, movement_min: null,
    };
  }
  const meta = { state: 'running', definition: 1, window_min: 5, date, period: PERIOD, period_name: 'Period 1', starts: new Date(begun).toISOString(), ends: new Date(begun + 50 * 60_000).toISOString(), students: 30, consented: 28, is_restricted: false };
  update(`section/${sections[0].id}/engagement`, { windows, meta });
}

const roles = { teacher: uuid(7, 1), office: null, guardian: uuid(8, 1), analyst: null, it: null };
const problem = (status, code, detail) => ({ status, body: { type: `about:blank#${code}`, title: code, status, code, detail } });
const page = (items) => ({ status: 200, body: { items, next: null } });

function answer(method, path, body, role, query) {
  if (path === '/session' && method === 'POST') {
    const wanted = body.email.split('@')[0];
    if (!(wanted in roles) || body.password === 'wrong') return problem(401, 'wrong_credentials', 'the e-mail address or the password is wrong');
    return { ...answer('GET', path, null, wanted), cookie: `mock=${wanted}; Path=/; HttpOnly; SameSite=Lax` };
  }
  if (!(role in roles)) return problem(401, 'unauthenticated', 'sign in first');
  if (path === '/session' && method === 'DELETE') return { status: 204, cookie: 'mock=; Path=/; Max-Age=0' };
  if (path === '/session') return { status: 200, body: { account: { id: uuid(9, 1), email: `${role}@mock.example`, role, person: roles[role], school: role === 'office' ? SCHOOL : null }, district: { id: DISTRICT, name: 'Cedar Valley' }, expires: now() } };
  const school = { id: SCHOOL, name: 'Cedar Hill Middle School', zone: 'UTC', date, in_session: true };
  if (path === '/sql/catalog') {
    const column = (name, type, documentation) => ({ name, type, documentation });
    const at = column('ts', 'Timestamp(ms, "UTC")', 'When it happened at the device');
    return { status: 200, body: { tables: [
      { name: 'scans', documentation: 'A device saw a badge', columns: [at, column('school', 'Utf8', 'Where'), column('direction', 'Utf8', 'in, out or auto')] },
      { name: 'telemetry', documentation: 'Readings of wearables', columns: [at, column('metric', 'Utf8', 'Its name'), column('value', 'Float64', 'The reading')] },
    ] } };
  }
  if (path === '/schools') return page([school]);
  if (path === `/schools/${SCHOOL}`) return { status: 200, body: school };
  if (path === '/sections') return page(sections);
  if (path === '/people') return page(students);
  if (path === '/me/students') return page(students.slice(0, 2));
  if (path === '/dead-letters') return page([{ id: 1, device: GATE, received: now(), topic: 'v1/scan', code: 'unknown_badge', message: 'nobody has this badge' }]);
  if (/^\/sections\/[^/]+\/students$/.test(path)) return page(students);
  const day = /^\/students\/([^/]+)\/days\//.exec(path);
  if (day) {
    const entry = entryOf(day[1]);
    const said = { ...entry, explanation: 'Arrived 07:58, before the bell at 08:00.' };
    return { status: 200, body: { student: day[1], date, day: null, periods: [{ ...said, period: PERIOD, history: [{ ...said, status: 'expected', rule: 'before_start', recorded: start.toISOString(), explanation: 'Not yet seen; the bell rings at 08:00.' }, { ...said, recorded: now() }] }] } };
  }
  if (path === '/marks' && method === 'POST') {
    if (failMarks) return problem(503, 'log_unavailable', 'The server cannot store marks now.');
    const wanted = body.whole_class ? students.filter(({ id }) => !entryOf(id).detail.mark && ['expected', 'unknown', 'absent'].includes(entryOf(id).status)).map(({ id }) => ({ student: id, status: 'present' })) : body.marks;
    const made = wanted.map((mark) => ({ at: null, reason: null, ...mark, id: uuid(11, marks.size + Math.floor(Math.random() * 1e9)), authority: 'teacher', author: uuid(9, 1), recorded: now() }));
    for (const mark of made) marks.set(mark.id, mark);
    show(made.map((mark) => mark.student));
    return page(made);
  }
  const undone = /^\/marks\/([^/]+)\/undo$/.exec(path);
  if (undone) {
    const mark = marks.get(undone[1]);
    if (!mark) return problem(404, 'not_found', 'there is no such mark');
    marks.delete(mark.id);
    show([mark.student]);
    return { status: 200, body: mark };
  }
  return problem(404, 'not_found', `there is no ${path}${query}`);
}

function told(path, body) {
  if (path === '/mock/scan') scan(body.student, body.dir, body.ts);
  if (path === '/mock/gate') gate(body.connected);
  if (path === '/mock/cut') for (const socket of sockets) socket.terminate();
  if (path === '/mock/fail') failMarks = body.marks;
}

// A million rows for any question, a chart's worth for one that groups, and a fault for one with "wrong" in it.
function question(sql, response) {
  if (sql.includes('wrong')) {
    const lines = sql.slice(0, sql.indexOf('wrong')).split('\n');
    const problem = { code: 'sql_unknown_name', detail: 'there is no column "wrong"', line: lines.length, column: lines.at(-1).length + 1, hint: 'did you mean "worn"?' };
    return response.writeHead(422, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
  }
  const grouped = /group by/i.test(sql);
  const weeks = Array.from({ length: 12 }, (_, week) => `2026-W${36 + week}`);
  const schools = ['Cedar Hill Middle School', 'North High', 'Lakeview Elementary'];
  const pairs = weeks.flatMap((week) => schools.map((school) => [week, school]));
  const rows = 1_000_000;
  const table = grouped
    ? tableFromArrays({ week: pairs.map(([week]) => week), school: pairs.map(([, school]) => school), rate: pairs.map((_, n) => 0.9 + 0.06 * Math.sin(n * 1.7)) })
    : tableFromArrays({ row: Int32Array.from({ length: rows }, (_, n) => n), half: Float64Array.from({ length: rows }, (_, n) => n / 2) });
  response.setHeader('rollcall-warnings', JSON.stringify(grouped ? ['history is not reachable: only the last 6 hours are counted'] : []));
  response.end(tableToIPC(table, { format: 'stream' }));
}

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://mock');
  let text = '';
  for await (const part of request) text += part;
  const body = text ? JSON.parse(text) : {};
  const role = /mock=(\w+)/.exec(request.headers.cookie ?? '')?.[1];
  if (url.pathname === '/mock/fixture') {
    const account = (name) => ({ email: `${name}@mock.example`, password: 'x' });
    const accounts = Object.fromEntries(Object.keys(roles).map((name) => [name, account(name)]));
    const badged = students.map((student, n) => ({ ...student, badge: String(n) }));
    response.end(JSON.stringify({ url: `http://127.0.0.1:${port}`, gate: { id: GATE, token: 'x' }, ...accounts, school: { id: SCHOOL }, section: sections[0], students: badged }));
  } else if (url.pathname === '/ingest/v1') {
    for (const { badge, dir, ts } of body) scan(Number(badge), dir, ts);
    response.end(JSON.stringify({ accepted: body.length, duplicates: 0, rejected: [] }));
  } else if (url.pathname.startsWith('/mock/')) {
    told(url.pathname, body);
    response.end('{}');
  } else if (url.pathname === '/api/v1/sql') {
    question(body.sql, response);
  } else if (url.pathname.startsWith('/api/v1')) {
    const { status, body: out, cookie } = answer(request.method, url.pathname.slice(7), body, role, url.search);
    if (cookie) response.setHeader('set-cookie', cookie);
    response.writeHead(status, { 'content-type': 'application/json' }).end(out ? JSON.stringify(out) : undefined);
  } else {
    const wanted = normalize(url.pathname);
    const file = extname(wanted) ? wanted : '/index.html';
    const bytes = await readFile(join(dist, file)).catch(() => null);
    response.setHeader('content-security-policy', "default-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:");
    response.writeHead(bytes ? 200 : 404, { 'content-type': TYPES[extname(file)] ?? 'text/plain' }).end(bytes ?? 'no such file; run npm run build');
  }
});
new WebSocketServer({ server, path: '/live/v1' }).on('connection', (socket) => {
  socket.followed = new Map();
  sockets.add(socket);
  socket.on('close', () => sockets.delete(socket));
  socket.on('message', (text) => {
    const message = JSON.parse(text);
    if (message.op === 'ping') return say(socket, { op: 'pong' });
    if (message.op === 'unsubscribe') return socket.followed.delete(message.id);
    const state = topic(message.topic);
    socket.followed.set(message.id, message.topic);
    const missing = state.deltas.filter((delta) => delta.version > message.since);
    if (message.since === undefined) say(socket, { op: 'snapshot', id: message.id, version: state.version, data: state.data });
    else for (const delta of missing) say(socket, { op: 'delta', id: message.id, ...delta });
  });
});
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
