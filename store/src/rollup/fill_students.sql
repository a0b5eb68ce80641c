-- student_day of one district and date from its event tables: what the log said before an offset. Merged with what is there. Scans of
-- erased people are not in the view. $1 the date, $2 and $3 instants that no zone's date goes beyond, $4 the offset.
insert into rollcall.student_day as d (district, school, student, date, scans, ins, outs, offline, late, first_scan, last_scan, first_in, last_out)
select rollcall.current_district(), scan.school, scan.person, $1::date,
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
where ts >= $2 and ts < $3 and log_offset < $4 and (ts at time zone coalesce(school.zone, 'UTC'))::date = $1::date
    and not exists (select from rollcall.person where person.id = scan.person and person.kind <> 'student')
group by scan.school, scan.person
-- The order in which the reader takes the rows too, so that neither waits for the other in a ring.
order by scan.person, scan.school
