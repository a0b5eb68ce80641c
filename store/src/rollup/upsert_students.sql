insert into rollcall.student_day as d (district, school, student, date, scans, ins, outs, offline, late, first_scan, last_scan, first_in, last_out)
select $1, n.* from unnest($2::uuid[], $3::uuid[], $4::date[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[]) as n
