-- Rollups of events by local date, for the application's own look-ups: a student's year, a device's week. A reader of the
-- log ("rollup") writes them in the same transaction as its offset, which is deleted to have them made anew from the event tables.
-- A late event changes the day on which it happened. Filled from the log, so without foreign keys.
--
-- They are row tables, because they are updated. Continuous aggregates would not do: they cannot stand on tables that
-- are compressed as they come.

create table rollcall.device_day (
    district      uuid not null,
    school        uuid not null,
    device        uuid not null,
    date          date not null,                 -- in the school's zone
    scans         bigint not null,
    readings      bigint not null,
    activities    bigint not null,
    heartbeats    bigint not null,
    connects      bigint not null,
    disconnects   bigint not null,
    first_event   timestamptz,
    last_event    timestamptz,
    offline       bigint not null,
    late          bigint not null,
    late_ms_max   bigint not null,
    battery_min   double precision,
    battery_max   double precision,
    queued_max    bigint,
    heard         bit(300) not null,
    primary key (district, device, date, school)
);
comment on table rollcall.device_day is 'What each device said on each date, by event time';
comment on column rollcall.device_day.district is 'The tenant';
comment on column rollcall.device_day.school is 'The school for which it spoke';
comment on column rollcall.device_day.device is 'The device';
comment on column rollcall.device_day.date is 'Local date of the events in the school''s zone';
comment on column rollcall.device_day.scans is 'Scans';
comment on column rollcall.device_day.readings is 'Readings: one a metric, so an event with four metrics counts four times';
comment on column rollcall.device_day.activities is 'Events of learning apps';
comment on column rollcall.device_day.heartbeats is 'Heartbeats, by the device''s own word';
comment on column rollcall.device_day.connects is 'Connections, by the gateway''s word';
comment on column rollcall.device_day.disconnects is 'Disconnections, by the gateway''s word';
comment on column rollcall.device_day.first_event is 'The first of the device''s own words; null: only the gateway spoke';
comment on column rollcall.device_day.last_event is 'The last of the device''s own words; null: only the gateway spoke';
comment on column rollcall.device_day.offline is 'Of the device''s own words those that waited in its queue';
comment on column rollcall.device_day.late is 'Of the device''s own words those that were received more than five minutes after they happened';
comment on column rollcall.device_day.late_ms_max is 'From the happening of a late one to its receipt at most, in milliseconds; 0 without any';
comment on column rollcall.device_day.battery_min is 'Least charge of heartbeats and readings of the metric battery, 0 to 1; null: none was said';
comment on column rollcall.device_day.battery_max is 'Greatest charge; null: none was said';
comment on column rollcall.device_day.queued_max is 'Most events that it said to be waiting in it; null: none was said';
comment on column rollcall.device_day.heard is 'One bit for each five minutes since the date began: whether the device itself said something then. The longest date has 300';

create table rollcall.student_day (
    district   uuid not null,
    school     uuid not null,
    student    uuid not null,
    date       date not null,                    -- in the school's zone
    scans      bigint not null,
    ins        bigint not null,
    outs       bigint not null,
    offline    bigint not null,
    late       bigint not null,
    first_scan timestamptz not null,
    last_scan  timestamptz not null,
    first_in   timestamptz,
    last_out   timestamptz,
    primary key (district, student, date, school)
);
comment on table rollcall.student_day is 'The evidence of attendance of each student on each date; what was concluded of it stands in attendance_status';
comment on column rollcall.student_day.district is 'The tenant';
comment on column rollcall.student_day.school is 'The school of the scanners';
comment on column rollcall.student_day.student is 'The student';
comment on column rollcall.student_day.date is 'Local date of the scans in the school''s zone';
comment on column rollcall.student_day.scans is 'Scans, whatever their direction';
comment on column rollcall.student_day.ins is 'Scans of the direction in';
comment on column rollcall.student_day.outs is 'Scans of the direction out';
comment on column rollcall.student_day.offline is 'Scans that waited in a scanner''s queue';
comment on column rollcall.student_day.late is 'Scans that were received more than five minutes after they happened';
comment on column rollcall.student_day.first_scan is 'The first scan';
comment on column rollcall.student_day.last_scan is 'The last scan';
comment on column rollcall.student_day.first_in is 'The first scan of the direction in; null: none';
comment on column rollcall.student_day.last_out is 'The last scan of the direction out; null: none';

do $$
declare t text;
begin
    foreach t in array array['device_day', 'student_day']
    loop
        execute format('alter table rollcall.%I enable row level security', t);
        execute format('alter table rollcall.%I force row level security', t);
        execute format('create policy tenant on rollcall.%I using (district = rollcall.current_district()) with check (district = rollcall.current_district())', t);
        execute format('grant select, insert, update, delete on rollcall.%I to rollcall_app', t);
    end loop;
end
$$;
