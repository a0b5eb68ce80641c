-- All dates of a rollup of one district that its events may have are to be made anew.
-- $1 the rollup, $2 days for which all of its events are kept, $3 days that its own rows are kept.
insert into rollcall.rollup_rebuild as r (district, rollup, date, oldest)
select rollcall.current_district(), $1, newest, oldest
from (
    select max(day) + 1 as newest,
        greatest(
            min(day) - 1,
            current_date - $3::int,
            -- What is known of dates that events do not give in full any more is better than what they would give. Null: nothing is known.
            (select current_date - $2::int
             where exists (select from rollcall.device_day where $1 = 'device_day' and date < current_date - $2::int)
                or exists (select from rollcall.student_day where $1 = 'student_day' and date < current_date - $2::int))) as oldest
    from unnest(case $1 when 'student_day' then array['scan'] else array['scan', 'telemetry', 'activity', 'device_status'] end) kind,
        rollcall.event_days(kind) day
) dates
where newest >= oldest
on conflict (district, rollup) do update set date = excluded.date, oldest = least(r.oldest, excluded.oldest), cut = null
