-- Engagement, definition 1: who counts in a window, the enrolled students who are present in a part of it, once however often they came back.
--
-- A row of `presence` is a stay of a student; `previous` is when the one before it ended. Of several stays in a window the first one counts.
select win.w, presence.s
from win join presence on presence.m = win.m and presence.since < win.ends and presence.until > win.starts
    and presence.previous <= win.starts
