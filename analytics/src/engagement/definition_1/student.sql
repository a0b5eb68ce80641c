-- Engagement, definition 1: what one student did in one window.
--
-- A row of `step` leads from an event of a student (`previous`, null for the first) to the next one (`ts`); it stands in
-- every window that it may touch. A step of at most theta is activity, in the part of it that lies in the window. It
-- belongs to the resource of the event that it starts from, and to none when that event closed one. Meaningful are
-- opened (1), answered (3), submitted (4) and advanced (5).
with clipped as (
    select step.w, step.s, step.kind, step.allowed,
        step.ts >= win.starts and step.ts < win.ends as is_inside,
        step.received >= win.ends + win.settle_ms as is_late,
        case when step.ts - step.previous <= win.theta_ms
            then greatest(least(step.ts, win.ends) - greatest(step.previous, win.starts), 0)
            else 0 end as active_ms
    from step join win on step.w = win.w
)
select w, s,
    count(*) filter (where is_inside) as events,
    count(*) filter (where is_inside and is_late) as late_events,
    count(*) filter (where is_inside and kind in (1, 3, 4, 5)) as meaningful,
    sum(active_ms) as active_ms,
    sum(case when allowed then active_ms else 0 end) as allowed_ms
from clipped
group by w, s
having count(*) filter (where is_inside) > 0 or sum(active_ms) > 0
