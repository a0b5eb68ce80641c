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
