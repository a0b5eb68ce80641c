-- Engagement, definition 1: what one student did in one window.
--
-- A row of `step` leads from an event of a student (`previous`, null for the first) to the next one (`ts`); it stands in
-- every window that it may touch. A step of at most theta is activity, in the part of it that lies in the window. It
-- belongs to the resource of the event that it starts from, and to none when that event closed one. Meaningful are
-- opened (1), answered (3), submitted (4) and advanced (5).
--
-- A row of `carried` is what this query said of a student's earlier steps in the window; those are not in `step` again.
with clipped as (
    select step.w, step.s, step.kind, step.allowed,
        step.ts >= win.starts and step.ts < win.ends as is_inside,
        step.received >= win.ends + win.settle_ms as is_late,
        case when step.ts - step.previous <= win.theta_ms
            then greatest(least(step.ts, win.ends) - greatest(step.previous, win.starts), 0)
            else 0 end as active_ms
    from step join win on step.w = win.w
),
counted as (
    select w, s,
        cast(is_inside as bigint) as events,
        cast(is_inside and is_late as bigint) as late_events,
        cast(is_inside and kind in (1, 3, 4, 5) as bigint) as meaningful,
        active_ms,
        case when allowed then active_ms else 0 end as allowed_ms
    from clipped
    union all
    select w, s, events, late_events, meaningful, active_ms, allowed_ms from carried
)
select w, s,
    sum(events) as events,
    sum(late_events) as late_events,
    sum(meaningful) as meaningful,
    sum(active_ms) as active_ms,
    sum(allowed_ms) as allowed_ms
from counted
group by w, s
having sum(events) > 0 or sum(active_ms) > 0
