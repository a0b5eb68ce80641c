-- Reports read the newest conclusion about each day of a school's year. Most rows of attendance_status are about
-- periods; this index holds those about days only, in the order in which they are read.
create index attendance_status_days on rollcall.attendance_status (district, school, date, student, id desc) where period is null;
