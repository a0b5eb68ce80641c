-- Engagement, definition 1: who counts in a window, the enrolled students who are present in a part of it, once however often they came back.
select distinct win.w, presence.s
from win join presence on presence.m = win.m and presence.since < win.ends and presence.until > win.starts
