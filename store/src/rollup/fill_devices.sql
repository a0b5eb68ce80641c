-- device_day of one district and date from its event tables: what the log said before an offset. Merged with what is there.
-- $1 the date, $2 and $3 instants that no zone's date goes beyond, $4 the offset.
insert into rollcall.device_day as d (district, school, device, date, scans, readings, activities, heartbeats, connects, disconnects,
    first_event, last_event, offline, late, late_ms_max, battery_min, battery_max, queued_max, heard)
with word as (
    select school, device, ts, received, offline, 'scan' as kind, null::double precision as battery, null::bigint as queued from rollcall.scan
    where ts >= $2 and ts < $3 and log_offset < $4
    union all
    select school, device, ts, received, offline, 'reading', case when metric = 'battery' then value end, null from rollcall.telemetry
    where ts >= $2 and ts < $3 and log_offset < $4
    union all
    select school, device, ts, received, offline, 'activity', null, null from rollcall.activity
    where ts >= $2 and ts < $3 and log_offset < $4
    union all
    select school, device, ts, received, offline,
        case when connected is null then 'heartbeat' when connected then 'connect' else 'disconnect' end, battery, queued
    from rollcall.device_status
    where ts >= $2 and ts < $3 and log_offset < $4
),
zoned as (
    select word.*, kind not in ('connect', 'disconnect') as is_own, coalesce(school.zone, 'UTC') as zone
    from word left join rollcall.school on school.id = word.school
),
placed as (
    select *, received - ts > interval '5 minutes' as is_late,
        least(greatest(floor(extract(epoch from ts - ($1::date::timestamp at time zone zone)) / 300), 0), 299)::int as slot
    from zoned where (ts at time zone zone)::date = $1
)
select rollcall.current_district(), school, device, $1::date,
    count(*) filter (where kind = 'scan'),
    count(*) filter (where kind = 'reading'),
    count(*) filter (where kind = 'activity'),
    count(*) filter (where kind = 'heartbeat'),
    count(*) filter (where kind = 'connect'),
    count(*) filter (where kind = 'disconnect'),
    min(ts) filter (where is_own),
    max(ts) filter (where is_own),
    count(*) filter (where is_own and offline),
    count(*) filter (where is_own and is_late),
    coalesce(max(extract(epoch from received - ts) * 1000) filter (where is_own and is_late), 0)::bigint,
    min(battery) filter (where is_own and battery not in ('NaN', 'Infinity', '-Infinity')),
    max(battery) filter (where is_own and battery not in ('NaN', 'Infinity', '-Infinity')),
    max(queued) filter (where is_own),
    coalesce(bit_or((('1' || repeat('0', 299))::bit(300)) >> slot) filter (where is_own), repeat('0', 300)::bit(300))
from placed
group by school, device
-- The order in which the reader takes the rows too, so that neither waits for the other in a ring.
order by device, school
