insert into rollcall.student_day as d (district, school, student, date, scans, ins, outs, offline, late, first_scan, last_scan, first_in, last_out)
select $1, n.* from unnest($2::uuid[], $3::uuid[], $4::date[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[]) as n
on conflict (district, student, date, school) do update set
    scans = d.scans + excluded.scans,
    ins = d.ins + excluded.ins,
    outs = d.outs + excluded.outs,
    offline = d.offline + excluded.offline,
    late = d.late + excluded.late,
    first_scan = least(d.first_scan, excluded.first_scan),
    last_scan = greatest(d.last_scan, excluded.last_scan),
    first_in = least(d.first_in, excluded.first_in),
    last_out = greatest(d.last_out, excluded.last_out)
