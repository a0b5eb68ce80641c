-- The sink copies into a day's partition itself, which spares finding the partition for every row, so the program's role
-- may insert there too. It still reads nothing in schema event.
create or replace function rollcall.create_event_partition(kind text, day date) returns boolean
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $$
declare
    partition text := format('%s_%s', kind, to_char(day, 'YYYYMMDD'));
begin
    if kind not in ('scan', 'telemetry', 'activity', 'device_status') then
        raise exception 'no event table %', kind;
    end if;
    -- Maintenance and the sink may want the same day at the same time.
    perform pg_advisory_xact_lock(hashtext('rollcall.create_event_partition'));
    if to_regclass(format('event.%I', partition)) is not null then
        return false;
    end if;
    execute format('create table event.%I (like event.%I including defaults including constraints)', partition, kind);
    execute format('grant insert on event.%I to rollcall_app', partition);
    execute format('alter table event.%I attach partition event.%I for values from (%L) to (%L)',
        kind, partition, to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    return true;
end
$$;
do $$
declare
    partition regclass;
begin
    for partition in
        select i.inhrelid::regclass from pg_inherits i join pg_class p on p.oid = i.inhparent
        join pg_namespace n on n.oid = p.relnamespace
        where n.nspname = 'event' and p.relname in ('scan', 'telemetry', 'activity', 'device_status') and p.relkind = 'p'
    loop
        execute format('grant insert on %s to rollcall_app', partition);
    end loop;
end
$$;
