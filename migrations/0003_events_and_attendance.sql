-- What the log's readers write into row tables. The event tables are not here, because a partitioned table cannot become
-- a hypertable: events.sql makes them for the engine that the server has.
--
-- Tables that are filled from the log (mark, dead_letter) have no foreign keys: what was acknowledged must always be
-- storable, whatever has happened to the directory since.

-- Marks: append-only and bitemporal. recorded_at is transaction time; (date, period, at) is valid time.
create table rollcall.mark (
    district    uuid not null,
    id          uuid not null,
    school      uuid not null,
    student     uuid not null,
    section     uuid,                            -- null with period null: about the day
    period      uuid,
    date        date not null,                   -- the school's local date
    status      text not null constraint mark_status check (status in ('present', 'tardy', 'absent_unexcused', 'absent_excused', 'early_departure', 'cleared')),
    authority   text not null constraint mark_authority check (authority in ('teacher', 'office')),
    author      uuid not null,                   -- account
    reason      text,
    supersedes  uuid,
    at          timestamptz,                     -- when it holds from, for tardy and early departure
    recorded_at timestamptz not null,
    log_offset  bigint not null,
    primary key (district, id)
);
create index mark_student on rollcall.mark (district, student, date);
create index mark_day on rollcall.mark (district, school, date);

-- What the system concluded, append-only: a row for every change of a conclusion. "What did the board show at 09:05"
-- is the newest row with recorded_at <= 09:05. period null: the day.
create table rollcall.attendance_status (
    district    uuid not null references rollcall.district,
    school      uuid not null,
    student     uuid not null,
    date        date not null,
    section     uuid,
    period      uuid,
    status      text not null constraint attendance_status_status check (status in ('expected', 'present', 'tardy', 'absent', 'early_departure', 'unknown')),
    since       timestamptz,                     -- arrival for present and tardy, departure for early departure
    rule        text not null,
    detail      jsonb not null,                  -- StatusDetail: evidence, mark, flags, minutes
    recorded_at timestamptz not null,            -- when it was concluded
    id          bigint generated always as identity,
    primary key (district, id)
);
create index attendance_status_student on rollcall.attendance_status (district, student, date, period, id);
create index attendance_status_school on rollcall.attendance_status (district, school, date, id);

-- Payloads that were acknowledged but refused, with the reason.
create table rollcall.dead_letter (
    district    uuid not null,
    id          bigint generated always as identity,
    school      uuid,
    device      uuid not null,
    received    timestamptz not null,
    topic       text not null,                   -- MQTT topic, or ws, or http
    seq         bigint,                          -- what the payload claimed; 0: none that could be read
    code        text not null,                   -- stable reason code
    message     text not null,
    payload     bytea not null,                  -- at most the payload limit
    log_offset  bigint not null,
    primary key (district, id)
);
create index dead_letter_device on rollcall.dead_letter (district, device, id);
create index dead_letter_received on rollcall.dead_letter (district, received);

-- Where each reader of the log stands: every row before next is in the database. Not a tenant's: the log is one.
create table rollcall.consumer_offset (
    reader text primary key,
    next   bigint not null
);
