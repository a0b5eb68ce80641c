-- An export whose question reads history may lack rows for good: a damaged file. Its owner is told.
alter table rollcall.export_schedule add column last_warning text;
comment on column rollcall.export_schedule.last_warning is 'What the file of the last run that was done lacks, for its owner; null: nothing';
