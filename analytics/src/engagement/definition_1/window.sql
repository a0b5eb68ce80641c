-- Engagement, definition 1: one window of one section, from the students' rows (`observed`, see student.sql).
--
-- Only students who are enrolled and present in the window count (`expected`). Without data of anybody every metric is null.
-- A quiz belongs to each window in which it was opened or answered for the first time by somebody, with what was
-- known at the window's end: its responders so far of those who were present when it was opened (`asked`).
-- Readings of wearables are here only for purposes with consent; nothing else is ever put into `reading`.
with class as (
    select expected.w,
        count(*) as present,
        count(observed.s) as with_data,
        coalesce(sum(observed.events), 0) as events,
        coalesce(sum(observed.late_events), 0) as late_events,
        coalesce(sum(observed.meaningful), 0) as meaningful,
        coalesce(sum(observed.active_ms), 0) as active_ms,
        coalesce(sum(observed.allowed_ms), 0) as allowed_ms
    from expected left join observed on observed.w = expected.w and observed.s = expected.s
    group by expected.w
),
current_quiz as (
    select w, resource from asked group by w, resource, at, starts having at >= starts or max(answered) >= starts
),
quizzes as (
    select asked.w, count(*) as asked, count(asked.answered) as responders, median(asked.answered - asked.at) as latency_ms
    from asked join current_quiz on current_quiz.w = asked.w and current_quiz.resource = asked.resource
    group by asked.w
),
worn as (
    select reading.w, reading.s, reading.ts / 60000 as minute,
        sum(reading.value) filter (where reading.metric = 1) as worn,
        count(*) filter (where reading.metric = 1) as worn_readings,
        sum(reading.value) filter (where reading.metric = 2) as steps
    from reading
    join win on win.w = reading.w and reading.ts >= win.starts and reading.ts < win.ends
    join expected on expected.w = reading.w and expected.s = reading.s
    group by reading.w, reading.s, reading.ts / 60000
),
movement as (
    select w,
        count(distinct s) as wearers,
        sum(worn) / nullif(cast(sum(worn_readings) as double), 0) as worn_ratio,
        sum(steps) as steps,
        count(*) filter (where steps > 0) as movement_min
    from worn
    group by w
)
select win.w,
    coalesce(class.present, 0) as present,
    coalesce(class.with_data, 0) as with_data,
    coalesce(class.events, 0) as events,
    coalesce(class.late_events, 0) as late_events,
    coalesce(class.meaningful, 0) as meaningful,
    coalesce(class.active_ms, 0) as active_ms,
    coalesce(class.allowed_ms, 0) as allowed_ms,
    cast(class.with_data as double) / class.present as coverage,
    case when class.with_data > 0 then class.active_ms / 60000.0 / class.with_data end as active_min,
    case when class.active_ms > 0 then class.meaningful * 60000.0 / class.active_ms end as interaction_rate,
    case when win.is_restricted and class.active_ms > 0 and class.with_data * 100 >= class.present * win.coverage_min_pct
        then cast(class.allowed_ms as double) / class.active_ms end as resource_alignment,
    quizzes.asked as quiz_present,
    quizzes.responders as quiz_responders,
    cast(quizzes.responders as double) / quizzes.asked as quiz_participation,
    cast(quizzes.latency_ms as bigint) as quiz_latency_ms,
    movement.wearers,
    movement.worn_ratio,
    movement.steps,
    case when movement.wearers > 0 then movement.movement_min end as movement_min
from win
left join class on class.w = win.w
left join quizzes on quizzes.w = win.w
left join movement on movement.w = win.w
order by win.w
