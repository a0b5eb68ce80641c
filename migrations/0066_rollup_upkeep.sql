-- What keeps the rollups right: finding a date's rows, making them anew date by date, and forgetting a person.

-- Retention and rebuilding take the rows of a date. It changes with no update, so those stay cheap.
create index device_day_date on rollcall.device_day (district, date);
create index student_day_date on rollcall.student_day (district, date);

create table rollcall.rollup_rebuild (
    district uuid not null,
    rollup   text not null constraint rollup_rebuild_rollup check (rollup in ('device_day', 'student_day')),
    date     date not null,
    oldest   date not null,
    cut      bigint,
    primary key (district, rollup)
);
comment on table rollcall.rollup_rebuild is 'Rollups that are being made anew from the event tables, from the newest date to the oldest; a row goes when it is done';
comment on column rollcall.rollup_rebuild.district is 'The tenant';
comment on column rollcall.rollup_rebuild.rollup is 'The table: device_day or student_day';
comment on column rollcall.rollup_rebuild.date is 'The date that is next; newer ones are done';
comment on column rollcall.rollup_rebuild.oldest is 'The last date';
comment on column rollcall.rollup_rebuild.cut is 'Set: the date''s rows were deleted when the reader stood at this offset, so only events before it are still to be added; null: they were not yet';

create table rollcall.erasure (
    district uuid not null,
    person   uuid not null,
    before   bigint not null,
    asked_at timestamptz not null default now(),
    asked_by uuid,
    primary key (district, person)
);
comment on table rollcall.erasure is 'People of whom nothing may be shown or made any more that the log said before an offset. Kept for good: events may be read again';
comment on column rollcall.erasure.district is 'The tenant';
comment on column rollcall.erasure.person is 'Who was erased';
comment on column rollcall.erasure.before is 'Offset in the log: what it says from there on is not erased';
comment on column rollcall.erasure.asked_at is 'When it was asked for last';
comment on column rollcall.erasure.asked_by is 'The account that asked; null: the program itself';

do $$
declare t text;
begin
    foreach t in array array['rollup_rebuild', 'erasure']
    loop
        execute format('alter table rollcall.%I enable row level security', t);
        execute format('alter table rollcall.%I force row level security', t);
        execute format('create policy tenant on rollcall.%I using (district = rollcall.current_district()) with check (district = rollcall.current_district())', t);
        execute format('grant select, insert, update on rollcall.%I to rollcall_app', t);
        execute format('grant select on rollcall.%I to rollcall_lookup', t);
        execute format('create policy lookup on rollcall.%I for select to rollcall_lookup using (true)', t);
    end loop;
end
$$;
grant delete on rollcall.rollup_rebuild to rollcall_app;

-- For the reader of the log, which is no tenant's. Like the lookups of 0005.
create function rollcall.rollup_rebuilds() returns table (district uuid, rollup text, date date, oldest date, cut bigint)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$ select r.district, r.rollup, r.date, r.oldest, r.cut from rollcall.rollup_rebuild r order by r.date desc, r.district, r.rollup $$;

-- Erasures that concern any row from an offset on.
create function rollcall.erasures(since bigint) returns table (district uuid, person uuid, before bigint)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$ select e.district, e.person, e.before from rollcall.erasure e where e.before > since $$;

grant create on schema rollcall to rollcall_lookup;
do $$
declare f text;
begin
    foreach f in array array['rollup_rebuilds()', 'erasures(bigint)']
    loop
        execute format('alter function rollcall.%s owner to rollcall_lookup', f);
        execute format('revoke execute on function rollcall.%s from public', f);
        execute format('grant execute on function rollcall.%s to rollcall_app', f);
    end loop;
end
$$;
revoke create on schema rollcall from rollcall_lookup;

-- The UTC days of which an event table may have rows. timescale.sql says it for hypertables.
create function rollcall.event_days(kind text) returns setof date
    language sql stable set search_path = pg_catalog, pg_temp
    as $$
        select to_date(right(c.relname, 8), 'YYYYMMDD') from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = to_regclass(format('event.%I', kind))
    $$;
