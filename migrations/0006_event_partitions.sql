-- Daily partitions of the event tables on plain PostgreSQL. The program owns nothing, so it asks these functions, which
-- run as the owner. There is no default partition: rows that fell into one would stop the day's own partition from
-- being created. Instead the sink creates the partition of every day that it is about to write.

-- Creates the partition of one UTC day unless it is there; says whether it did. Building the table first and attaching
-- it then needs no lock that a long-running reader could hold up.
create function rollcall.create_event_partition(kind text, day date) returns boolean
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
    execute format('alter table event.%I attach partition event.%I for values from (%L) to (%L)',
        kind, partition, to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    return true;
end
$$;

-- Drops the partitions of all days before the given one and says how many. Refuses to touch the last seven days,
-- whatever it is asked.
create function rollcall.drop_event_partitions(kind text, before date) returns int
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
    as $$
declare
    partition text;
    dropped int := 0;
begin
    if before > (now() at time zone 'UTC')::date - 7 then
        raise exception 'partitions younger than seven days are never dropped';
    end if;
    for partition in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = to_regclass(format('event.%I', kind))
          and to_date(right(c.relname, 8), 'YYYYMMDD') < before
    loop
        execute format('drop table event.%I', partition);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;
revoke execute on function rollcall.create_event_partition(text, date), rollcall.drop_event_partitions(text, date) from public;
grant execute on function rollcall.create_event_partition(text, date), rollcall.drop_event_partitions(text, date) to rollcall_app;
