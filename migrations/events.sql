-- The event tables and their views, run after the numbered migrations at every start; changes nothing that is there.
--
-- Append-only, in the log's order, divided by day of event time; no unique index, because duplicates are removed before
-- the log and a unique index makes loading seven times slower; no trigger and no foreign key, which would make
-- TimescaleDB's direct compression fall back to rows. log_offset is the row's place in the log.
--
-- With the timescaledb extension they are hypertables (timescale.sql makes them so); without it they are partitioned
-- tables with a partition a day (0006_event_partitions.sql). The names and columns are the same.
--
-- Nobody but the owner reads schema event: TimescaleDB's columnstore excludes row-level security, so the only way for
-- rollcall_app is a security-barrier view on the transaction's tenant. It hides what was erased, until retention deletes it: taking
-- single rows out of compressed days would unpack the days.
do $$
declare
    t text;
    -- The columnstore and the policies need the community licence; without it the extension is left alone.
    division text := case when exists (select from pg_extension where extname = 'timescaledb')
        and current_setting('timescaledb.license', true) = 'timescale' then '' else ' partition by range (ts)' end;
begin
    execute $t$create table if not exists event.scan (
        district    uuid not null,
        school      uuid not null,
        device      uuid not null,
        seq         bigint not null,             -- the device's sequence number
        ts          timestamptz not null,        -- event time
        received    timestamptz not null,        -- when the server accepted it
        offline     boolean not null,            -- it waited in the device's queue
        person      uuid not null,
        badge       uuid not null,
        dir         smallint not null,           -- 1 in, 2 out, 3 auto
        method      smallint not null,           -- 1 qr, 2 nfc, 3 ble, 4 manual
        log_offset  bigint not null
    )$t$ || division;
    execute $t$create table if not exists event.telemetry (
        district    uuid not null,
        school      uuid not null,
        device      uuid not null,
        seq         bigint not null,
        ts          timestamptz not null,
        received    timestamptz not null,
        offline     boolean not null,
        person      uuid,                        -- whose wearable it is, when it is somebody's
        metric      text not null,               -- one row a metric
        value       double precision not null,
        log_offset  bigint not null
    )$t$ || division;
    execute $t$create table if not exists event.activity (
        district    uuid not null,
        school      uuid not null,
        device      uuid not null,
        seq         bigint not null,
        ts          timestamptz not null,
        received    timestamptz not null,
        offline     boolean not null,
        person      uuid not null,
        kind        smallint not null,           -- 1 opened .. 6 closed
        resource    text not null,
        section     uuid,
        dur_ms      bigint,
        log_offset  bigint not null
    )$t$ || division;
    execute $t$create table if not exists event.device_status (
        district    uuid not null,
        school      uuid not null,
        device      uuid not null,
        seq         bigint not null,
        ts          timestamptz not null,
        received    timestamptz not null,
        offline     boolean not null,
        battery     double precision,            -- 0 to 1
        fw          text,
        queued      bigint,                      -- events still waiting in the device
        uptime_s    bigint,
        connected   boolean,                     -- the gateway's own word: true connect, false disconnect; null: a heartbeat
        log_offset  bigint not null
    )$t$ || division;

    foreach t in array array['scan', 'telemetry', 'activity', 'device_status']
    loop
        execute format('create or replace view rollcall.%I with (security_barrier) as select * from event.%I e where district = rollcall.current_district()', t, t)
            || case t when 'device_status' then '' else ' and not exists (select from rollcall.erasure x
                where x.district = e.district and x.person = e.person and e.log_offset < x.before)' end;
        execute format('grant insert on event.%I to rollcall_app', t);
        execute format('grant select on rollcall.%I to rollcall_app', t);
    end loop;
end
$$;
-- A student's scans, a school's day, a device's last words. Telemetry and activity are read by time and in bulk, and come by the
-- hundred thousand a second: a B-tree on them cost twice as much as all the rest of taking a row in.
create index if not exists scan_person on event.scan (district, person, ts);
create index if not exists scan_school on event.scan (district, school, ts);
create index if not exists device_status_school on event.device_status (district, school, ts);
create index if not exists telemetry_ts on event.telemetry using brin (ts) with (pages_per_range = 32);
create index if not exists activity_ts on event.activity using brin (ts) with (pages_per_range = 32);
drop index if exists event.telemetry_school, event.activity_school;
