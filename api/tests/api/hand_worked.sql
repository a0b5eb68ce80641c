-- A district whose every figure is worked out by hand in reports.rs. Two schools in two zones, ten days in session around
-- the night of 8 March 2026 in which clocks go forward; East changes its bells for the second week and ends with a half-day;
-- West is not in session on 6 March. Evidence only: nothing was concluded while it happened, but for Ada's first day.
insert into rollcall.district (district, name) values ('d0000000-0000-4000-8000-000000000000', 'Hand');
insert into rollcall.school (district, id, name, zone) values
    ('d0000000-0000-4000-8000-000000000000', 'e0000000-0000-4000-8000-000000000000', 'East', 'America/Chicago'),
    ('d0000000-0000-4000-8000-000000000000', 'f0000000-0000-4000-8000-000000000000', 'West', 'America/Denver');
insert into rollcall.period (district, school, id, name, ordinal)
    select district, id, gen_random_uuid(), 'Period ' || n, n from rollcall.school, generate_series(1, 2) n where name in ('East', 'West');
insert into rollcall.bell_schedule (district, school, id, name, valid_from)
    select district, id, gen_random_uuid(), s.name, s.valid_from
    from rollcall.school, (values ('East', 'Regular', date '2026-01-01'), ('East', 'Regular', '2026-03-09'), ('East', 'Half day', '2026-01-01'),
        ('West', 'Regular', '2026-01-01')) s (school, name, valid_from) where school.name = s.school;
-- Mornings are 180 minutes everywhere. The afternoon has 180, at East from 9 March on 120, and a half-day has none.
insert into rollcall.bell (district, schedule, period, starts, ends)
    select s.district, s.id, p.id, '08:00', '11:00' from rollcall.bell_schedule s join rollcall.period p on p.school = s.school
    where s.district = 'd0000000-0000-4000-8000-000000000000' and p.ordinal = 1;
insert into rollcall.bell (district, schedule, period, starts, ends)
    select s.district, s.id, p.id, '12:00', case when s.valid_from = '2026-03-09' then time '14:00' else '15:00' end
    from rollcall.bell_schedule s join rollcall.period p on p.school = s.school
    where s.district = 'd0000000-0000-4000-8000-000000000000' and p.ordinal = 2 and s.name = 'Regular';
insert into rollcall.calendar_day (district, school, date, schedule)
    select s.district, s.id, d::date, case when s.name = 'East' and d = '2026-03-13' then 'Half day' else 'Regular' end
    from rollcall.school s, generate_series(timestamp '2026-03-02', '2026-03-13', '1 day') d
    where s.district = 'd0000000-0000-4000-8000-000000000000' and extract(isodow from d) <= 5 and not (s.name = 'West' and d = '2026-03-06');
insert into rollcall.person (district, id, kind, grade) values
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000001', 'student', '09'), -- Ada
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000002', 'student', '09'), -- Ben
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000003', 'student', '10'), -- Cyd
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000004', 'student', '10'), -- Dee
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000005', 'student', '10'); -- Eli
-- Cyd enters on 9 March, Dee moves from East to West on that day. Ben's membership has no dates.
insert into rollcall.membership (district, person, school, starts, ends) values
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000000', '2025-08-01', 'infinity'),
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000002', 'e0000000-0000-4000-8000-000000000000', '-infinity', 'infinity'),
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000003', 'e0000000-0000-4000-8000-000000000000', '2026-03-09', 'infinity'),
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000004', 'e0000000-0000-4000-8000-000000000000', '2025-08-01', '2026-03-09'),
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000004', 'f0000000-0000-4000-8000-000000000000', '2026-03-09', 'infinity'),
    ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000005', 'f0000000-0000-4000-8000-000000000000', '2025-08-01', 'infinity');
-- One section a school, which meets in both periods and has everybody.
insert into rollcall.section (district, school, id, title) values
    ('d0000000-0000-4000-8000-000000000000', 'e0000000-0000-4000-8000-000000000000', 'c0000000-0000-4000-8000-000000000001', 'East class'),
    ('d0000000-0000-4000-8000-000000000000', 'f0000000-0000-4000-8000-000000000000', 'c0000000-0000-4000-8000-000000000002', 'West class');
insert into rollcall.meeting (district, section, period)
    select s.district, s.id, p.id from rollcall.section s join rollcall.period p on p.school = s.school
    where s.district = 'd0000000-0000-4000-8000-000000000000';
insert into rollcall.enrolment (district, section, person, role, starts, ends)
    select m.district, s.id, m.person, 'student', m.starts, m.ends from rollcall.membership m join rollcall.section s on s.school = m.school
    where m.district = 'd0000000-0000-4000-8000-000000000000';

select rollcall.create_event_partition('scan', d::date) from generate_series(timestamp '2026-03-01', '2026-03-15', '1 day') d;
-- Everybody comes at 07:50 and nobody goes out, but for the exceptions that the table in reports.rs has.
create temp table coming as
    select m.school, m.person, c.date, (c.date + coalesce(e.at, time '07:50')) at time zone s.zone as ts, coalesce(e.comes, true) as comes
    from rollcall.membership m
    join rollcall.school s on s.id = m.school
    join rollcall.calendar_day c on c.school = m.school and c.date >= m.starts and c.date < m.ends
    left join (values
        ('a0000000-0000-4000-8000-000000000001'::uuid, date '2026-03-03', true, time '10:00'),
        ('a0000000-0000-4000-8000-000000000001', '2026-03-13', false, null),
        ('a0000000-0000-4000-8000-000000000004', '2026-03-05', false, null),
        ('a0000000-0000-4000-8000-000000000004', '2026-03-10', true, '08:12'),
        ('a0000000-0000-4000-8000-000000000005', '2026-03-04', false, null)) e (person, date, comes, at)
        on e.person = m.person and e.date = c.date
    where m.district = 'd0000000-0000-4000-8000-000000000000';
insert into event.scan (district, school, device, seq, ts, received, offline, person, badge, dir, method, log_offset)
    select 'd0000000-0000-4000-8000-000000000000', school, school, row_number() over (order by ts, person), ts,
        -- Cyd's scan of 9 March waits in a device until 20 March.
        case when person = 'a0000000-0000-4000-8000-000000000003' and date = '2026-03-09' then timestamptz '2026-03-20 12:00Z' else ts end,
        false, person, person, 1, 1, 1000000000 + row_number() over (order by ts, person)
    from coming where comes;
-- Ben leaves on 11 March at 10:00.
insert into event.scan (district, school, device, seq, ts, received, offline, person, badge, dir, method, log_offset)
    values ('d0000000-0000-4000-8000-000000000000', 'e0000000-0000-4000-8000-000000000000', 'e0000000-0000-4000-8000-000000000000', 1000,
        '2026-03-11 15:00Z', '2026-03-11 15:00Z', false, 'a0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000002', 2, 1, 1000001000);
-- The office excuses Ada's 13 March a day later, and knows at once why Dee is away on 5 March, which does not excuse it.
insert into rollcall.mark (district, id, school, student, date, status, authority, author, reason, recorded_at, log_offset) values
    ('d0000000-0000-4000-8000-000000000000', 'b0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000000',
        'a0000000-0000-4000-8000-000000000001', '2026-03-13', 'absent_excused', 'office', gen_random_uuid(), 'flu', '2026-03-14 15:00Z', 1000002000),
    ('d0000000-0000-4000-8000-000000000000', 'b0000000-0000-4000-8000-000000000002', 'e0000000-0000-4000-8000-000000000000',
        'a0000000-0000-4000-8000-000000000004', '2026-03-05', 'absent_unexcused', 'office', gen_random_uuid(), 'travel', '2026-03-05 16:00Z', 1000002001);
-- What was concluded when Ada's 2 March was over.
insert into rollcall.attendance_status (district, school, student, date, status, since, rule, detail, recorded_at) values
    ('d0000000-0000-4000-8000-000000000000', 'e0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000001', '2026-03-02',
        'present', '2026-03-02 13:50Z', 'arrived_by_grace',
        '{"present_min": 360, "scheduled_min": 360, "absent_half_days": 0, "starts": "2026-03-02T14:00:00Z", "ends": "2026-03-02T21:00:00Z", "arrival": "2026-03-02T13:50:00Z"}',
        '2026-03-02 21:00Z');
