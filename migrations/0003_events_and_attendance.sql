-- Event tables: append-only, in the log's order, partitioned by time; no unique index, because duplicates are removed
-- before the log and a unique index makes loading seven times slower. log_offset is the row's place in the log.
-- Where the server has TimescaleDB they become compressed hypertables (timescale.sql); otherwise the program
-- keeps one partition a day.

create table event.scan (
    district    uuid not null,
    school      uuid not null,
    device      uuid not null,
    seq         bigint not null,                 -- the device's sequence number
    ts          timestamptz not null,            -- event time
    received    timestamptz not null,            -- when the server accepted it
    offline     boolean not null,                -- it waited in the device's queue
    person      uuid not null,
    badge       uuid not null,
    dir         smallint not null,               -- 1 in, 2 out, 3 auto
    method      smallint not null,               -- 1 qr, 2 nfc, 3 ble, 4 manual
    log_offset  bigint not null
) partition by range (ts);
create index scan_person on event.scan (district, person, ts);
create index scan_school on event.scan (district, school, ts);

create table event.telemetry (
    district    uuid not null,
    school      uuid not null,
    device      uuid not null,
    seq         bigint not null,
    ts          timestamptz not null,
    received    timestamptz not null,
    offline     boolean not null,
    person      uuid,
    metric      text not null,
    value       double precision not null,
    log_offset  bigint not null
) partition by range (ts);

create table event.activity (
    district    uuid not null,
    school      uuid not null,
    device      uuid not null,
    seq         bigint not null,
    ts          timestamptz not null,
    received    timestamptz not null,
    offline     boolean not null,
    person      uuid not null,
    kind        smallint not null,               -- 1 opened .. 6 closed
    resource    text not null,
    section     uuid,
    dur_ms      bigint,
    log_offset  bigint not null
) partition by range (ts);

create table event.device_status (
    district    uuid not null,
    school      uuid not null,
    device      uuid not null,
    seq         bigint not null,
    ts          timestamptz not null,
    received    timestamptz not null,
    offline     boolean not null,
    battery     double precision,                -- 0 to 1
    fw          text,
    queued      bigint,                          -- events still waiting in the device
    uptime_s    bigint,
    connected   boolean,                         -- the gateway's own word: true connect, false disconnect
    log_offset  bigint not null
) partition by range (ts);

-- Marks: append-only and bitemporal. recorded_at is transaction time; (date, period, at) is valid time.
create table rollcall.mark (
    district    uuid not null references rollcall.district,
    id          uuid not null,
    school      uuid not null,
    student     uuid not null,
    section     uuid,                            -- null with period null: about the day
    period      uuid,
    date        date not null,                   -- the school's local date
    status      text not null check (status in ('present', 'tardy', 'absent_unexcused', 'absent_excused', 'early_departure', 'cleared')),
    authority   text not null check (authority in ('teacher', 'office')),
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
    status      text not null check (status in ('expected', 'present', 'tardy', 'absent', 'early_departure', 'unknown')),
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
    district    uuid not null references rollcall.district,
    id          bigint generated always as identity,
    school      uuid,
    device      uuid not null,
    received    timestamptz not null,
    topic       text not null,                   -- MQTT topic, or ws, or http
    seq         bigint,
    code        text not null,                   -- stable reason code
    message     text not null,
    payload     bytea not null,                  -- at most the payload limit
    primary key (district, id)
);
create index dead_letter_device on rollcall.dead_letter (district, device, id);

-- Where each reader of the log stands: every row before next is in the database.
create table rollcall.consumer_offset (
    reader text primary key,
    next   bigint not null
);
