-- Saved questions that are written to the operator's object storage on a schedule. The row of a schedule is locked while
-- it runs, so that of several servers one runs it.
create table rollcall.export_schedule (
    district     uuid not null,
    id           uuid not null,
    query        uuid not null,                  -- its owner is whose rights the run has
    every        text not null constraint export_schedule_every check (every in ('hourly', 'daily', 'weekly')),
    weekday      smallint constraint export_schedule_weekday check (weekday between 1 and 7),
    at           time not null,                  -- local wall-clock time
    zone         text not null,                  -- IANA time zone of `at`
    format       text not null constraint export_schedule_format check (format in ('csv', 'parquet')),
    enabled      boolean not null default true,
    due          timestamptz not null,
    not_before   timestamptz not null,
    attempts     smallint not null default 0,
    last_at      timestamptz,
    last_outcome text constraint export_schedule_outcome check (last_outcome in ('done', 'failed', 'skipped')),
    last_error   text,
    last_file    text,
    last_rows    bigint,
    last_bytes   bigint,
    version      bigint not null default 1,
    created_at   timestamptz not null default now(),
    primary key (district, id),
    foreign key (district, query) references rollcall.saved_query on delete cascade,
    constraint export_schedule_week check ((weekday is not null) = (every = 'weekly'))
);
comment on table rollcall.export_schedule is 'Scheduled exports of saved questions';
comment on column rollcall.export_schedule.district is 'The tenant';
comment on column rollcall.export_schedule.id is 'Random';
comment on column rollcall.export_schedule.query is 'The saved question; its owner is whose rights the run has';
comment on column rollcall.export_schedule.every is 'hourly, daily or weekly';
comment on column rollcall.export_schedule.weekday is 'Of weekly: 1 Monday to 7 Sunday; else null';
comment on column rollcall.export_schedule.at is 'Local time of day; of hourly only its minute counts';
comment on column rollcall.export_schedule.zone is 'IANA time zone of at: the district''s when the schedule was made';
comment on column rollcall.export_schedule.format is 'csv or parquet';
comment on column rollcall.export_schedule.enabled is 'False: paused by its owner';
comment on column rollcall.export_schedule.due is 'The instant that the next run is for; names its file';
comment on column rollcall.export_schedule.not_before is 'Earliest instant of the next attempt: due, or later after a failure';
comment on column rollcall.export_schedule.attempts is 'Attempts for due that have failed';
comment on column rollcall.export_schedule.last_at is 'When the last run ended; null: none yet';
comment on column rollcall.export_schedule.last_outcome is 'done, failed, or skipped because the account may not';
comment on column rollcall.export_schedule.last_error is 'Why the last run failed or was skipped, for its owner';
comment on column rollcall.export_schedule.last_file is 'File of the last run that was done, below the operator''s place';
comment on column rollcall.export_schedule.last_rows is 'Rows of that file';
comment on column rollcall.export_schedule.last_bytes is 'Bytes of that file';
comment on column rollcall.export_schedule.version is 'Grows by one with every change by its owner';
comment on column rollcall.export_schedule.created_at is 'When it was made';
create index export_schedule_query on rollcall.export_schedule (district, query);
create index export_schedule_due on rollcall.export_schedule (not_before) where enabled;

alter table rollcall.export_schedule enable row level security;
alter table rollcall.export_schedule force row level security;
create policy tenant on rollcall.export_schedule using (district = rollcall.current_district()) with check (district = rollcall.current_district());
grant select, insert, update, delete on rollcall.export_schedule to rollcall_app;

-- Which exports of whichever district are due, the longest first. Like the lookups of 0005: only ids are told.
grant select (district, id, not_before, enabled) on rollcall.export_schedule to rollcall_lookup;
create policy lookup on rollcall.export_schedule for select to rollcall_lookup using (true);
create function rollcall.due_exports(now timestamptz, most int) returns table (district uuid, id uuid)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$ select e.district, e.id from rollcall.export_schedule e where e.enabled and e.not_before <= now order by e.not_before, e.id limit most $$;
grant create on schema rollcall to rollcall_lookup;
alter function rollcall.due_exports(timestamptz, int) owner to rollcall_lookup;
revoke execute on function rollcall.due_exports(timestamptz, int) from public;
grant execute on function rollcall.due_exports(timestamptz, int) to rollcall_app;
revoke create on schema rollcall from rollcall_lookup;
