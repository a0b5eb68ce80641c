-- student_day of one district from its event tables.
insert into rollcall.student_day (district, school, student, date, scans, ins, outs, offline, late, first_scan, last_scan, first_in, last_out)
select rollcall.current_district(), scan.school, scan.person, (scan.ts at time zone coalesce(school.zone, 'UTC'))::date,
    count(*),
    count(*) filter (where dir = 1),
    count(*) filter (where dir = 2),
    count(*) filter (where scan.offline),
    count(*) filter (where received - ts > interval '5 minutes'),
    min(ts),
    max(ts),
    min(ts) filter (where dir = 1),
    max(ts) filter (where dir = 2)
from rollcall.scan
left join rollcall.school on school.id = scan.school
where not exists (select from rollcall.person where person.id = scan.person and person.kind <> 'student')
group by 2, 3, 4
