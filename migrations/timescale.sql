-- Turns the event tables into compressed hypertables; run after events.sql where the timescaledb extension is there, at
-- every start; changes nothing that is there. How long rows are kept is set afterwards by the program from its
-- configuration, with set_event_retention().
--
-- Segmented by the district, a column of few values, and ordered by device and time: 12 bytes a row; segmented by
-- device it would be 82. Chunks are converted once their day can receive no more ordinary rows.
select create_hypertable('event.scan', by_range('ts', interval '1 day'), create_default_indexes => false, if_not_exists => true);
select create_hypertable('event.telemetry', by_range('ts', interval '1 day'), create_default_indexes => false, if_not_exists => true);
select create_hypertable('event.activity', by_range('ts', interval '1 day'), create_default_indexes => false, if_not_exists => true);
select create_hypertable('event.device_status', by_range('ts', interval '1 day'), create_default_indexes => false, if_not_exists => true);

do $$
declare
    t text;
    ordering text;
begin
    foreach t in array array['scan', 'telemetry', 'activity', 'device_status']
    loop
        -- Setting it again would be refused once there are compressed chunks.
        continue when (select compression_enabled from timescaledb_information.hypertables
            where hypertable_schema = 'event' and hypertable_name = t);
        ordering := case t when 'telemetry' then 'device, metric, ts' else 'device, ts' end;
        execute format('alter table event.%I set (timescaledb.enable_columnstore, timescaledb.segmentby = %L, timescaledb.orderby = %L)',
            t, 'district', ordering);
    end loop;
end
$$;

call add_columnstore_policy('event.scan', after => interval '2 days', if_not_exists => true);
call add_columnstore_policy('event.telemetry', after => interval '2 days', if_not_exists => true);
call add_columnstore_policy('event.activity', after => interval '2 days', if_not_exists => true);
call add_columnstore_policy('event.device_status', after => interval '2 days', if_not_exists => true);

-- Replaces the retention policy of one event table. Owned by the migrating role and not for the program's role.
create or replace function rollcall.set_event_retention(kind text, keep_days int) returns void
    language plpgsql set search_path = public, pg_catalog, pg_temp
    as $$
begin
    if keep_days < 7 then
        raise exception 'events are kept for at least seven days';
    end if;
    -- Made anew at every start it would never come to run on a server that is restarted daily.
    if exists (select from timescaledb_information.jobs where proc_name = 'policy_retention' and hypertable_schema = 'event'
        and hypertable_name = kind and (config ->> 'drop_after')::interval = make_interval(days => keep_days)) then
        return;
    end if;
    perform remove_retention_policy(format('event.%I', kind)::regclass, if_exists => true);
    perform add_retention_policy(format('event.%I', kind)::regclass, drop_after => make_interval(days => keep_days));
end
$$;
revoke execute on function rollcall.set_event_retention(text, int) from public;

-- The UTC days of which an event table may have rows: those of its chunks.
create or replace function rollcall.event_days(kind text) returns setof date
    language sql stable set search_path = public, pg_catalog, pg_temp
    as $$
        select (range_start at time zone 'UTC')::date from timescaledb_information.chunks
        where hypertable_schema = 'event' and hypertable_name = kind
    $$;
