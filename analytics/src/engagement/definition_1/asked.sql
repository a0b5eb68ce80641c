-- Engagement, definition 1: who was asked by a quiz, and what is known at a window's end of when they answered.
--
-- A quiz is opened by the first opening (1); whoever is present then is asked. The first answer (3, 4) since then counts.
with opened as (
    select m, resource, min(ts) as at from quiz where kind = 1 group by m, resource
),
answer as (
    select quiz.m, quiz.resource, quiz.s, min(quiz.ts) as at
    from quiz join opened on opened.m = quiz.m and opened.resource = quiz.resource
    where quiz.kind in (3, 4) and quiz.ts >= opened.at
    group by quiz.m, quiz.resource, quiz.s
)
select win.w, win.starts, opened.resource, opened.at, answer.at as answered
from win
join opened on opened.m = win.m and opened.at < win.ends
join presence on presence.m = opened.m and presence.since <= opened.at and opened.at < presence.until
left join answer on answer.m = opened.m and answer.resource = opened.resource and answer.s = presence.s and answer.at < win.ends
