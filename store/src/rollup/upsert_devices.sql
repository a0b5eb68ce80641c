insert into rollcall.device_day as d (district, school, device, date, scans, readings, activities, heartbeats, connects, disconnects,
    first_event, last_event, offline, late, late_ms_max, battery_min, battery_max, queued_max, heard)
select $1, n.school, n.device, n.date, n.scans, n.readings, n.activities, n.heartbeats, n.connects, n.disconnects,
    n.first_event, n.last_event, n.offline, n.late, n.late_ms_max, n.battery_min, n.battery_max, n.queued_max, n.heard::bit(300)
from unnest($2::uuid[], $3::uuid[], $4::date[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
    $11::timestamptz[], $12::timestamptz[], $13::bigint[], $14::bigint[], $15::bigint[], $16::double precision[], $17::double precision[],
    $18::bigint[], $19::text[])
    as n (school, device, date, scans, readings, activities, heartbeats, connects, disconnects,
        first_event, last_event, offline, late, late_ms_max, battery_min, battery_max, queued_max, heard)
