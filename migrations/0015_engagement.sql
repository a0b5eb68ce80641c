-- Engagement: for what there is consent, what a teacher allows, and the history of windows.

-- Consents as they were stated, append-only: of one subject and purpose the newest row holds whose dates cover the day.
-- Without any row nothing is computed.
create table rollcall.consent (
    district    uuid not null,
    id          uuid not null,
    school      uuid not null,                   -- where it holds
    student     uuid,                            -- whose it is; null: the school's for all of its students, whose own rows stand above
    purpose     text not null constraint consent_purpose check (purpose in ('activity', 'wearable', 'wearable_pe')),
    granted     boolean not null,                -- false: refused or withdrawn
    starts      date not null default '-infinity', -- first day, inclusive
    ends        date not null default 'infinity',  -- first day no longer, exclusive
    recorded_at timestamptz not null default clock_timestamp(),
    recorded_by uuid default rollcall.current_caller(), -- account; null: the command line or the program itself
    primary key (district, id),
    foreign key (district, school) references rollcall.school,
    foreign key (district, student) references rollcall.person,
    constraint consent_dates check (starts < ends),
    -- A school may answer for learning apps, never for what is worn on the body.
    constraint consent_own check (student is not null or purpose = 'activity')
);
comment on table rollcall.consent is 'Consents for purposes of engagement, append-only; the newest row of a subject and purpose holds';
comment on column rollcall.consent.district is 'The tenant';
comment on column rollcall.consent.id is 'Random';
comment on column rollcall.consent.school is 'School in which it holds';
comment on column rollcall.consent.student is 'Whose consent; null: the school''s, for all of its students';
comment on column rollcall.consent.purpose is 'activity: learning apps; wearable: anywhere; wearable_pe: in sections of physical education';
comment on column rollcall.consent.granted is 'False: refused or withdrawn';
comment on column rollcall.consent.starts is 'First local date, inclusive';
comment on column rollcall.consent.ends is 'Local date, exclusive';
comment on column rollcall.consent.recorded_at is 'When it was put on file';
comment on column rollcall.consent.recorded_by is 'Account that put it on file; null: the program itself';
create index consent_school on rollcall.consent (district, school, student, purpose, recorded_at);

-- Resources that the teacher of a section allows. No row of a section: the teacher has not said.
create table rollcall.section_resource (
    district uuid not null,
    section  uuid not null,
    resource text not null constraint section_resource_name check (octet_length(resource) between 1 and 256),
    primary key (district, section, resource),
    foreign key (district, section) references rollcall.section
);
comment on table rollcall.section_resource is 'Resources that count as on task in a section; none: nobody has said';
comment on column rollcall.section_resource.district is 'The tenant';
comment on column rollcall.section_resource.section is 'The section';
comment on column rollcall.section_resource.resource is 'Name of a resource, or the beginning of names before a final *';

-- Sections of physical education, where readings of wearables may be used with consent for that.
create table rollcall.section_physical (
    district uuid not null,
    section  uuid not null,
    primary key (district, section),
    foreign key (district, section) references rollcall.section
);
comment on table rollcall.section_physical is 'Sections of physical education';
comment on column rollcall.section_physical.district is 'The tenant';
comment on column rollcall.section_physical.section is 'The section';

-- Settled windows, append-only: the first value of a window is revision 1, every correction the next. Without data
-- there is no row. Filled from the log, so without foreign keys.
create table rollcall.engagement_window (
    district           uuid not null,
    school             uuid not null,
    section            uuid not null,
    period             uuid not null,
    date               date not null,
    slot               timestamptz not null,
    definition         smallint not null,
    revision           int not null,
    starts             timestamptz not null,
    ends               timestamptz not null,
    parameters         jsonb not null,
    present            int not null,
    with_data          int not null,
    events             bigint not null,
    late_events        bigint not null,
    meaningful         bigint not null,
    active_ms          bigint not null,
    allowed_ms         bigint not null,
    coverage           double precision,
    active_min         double precision,
    interaction_rate   double precision,
    resource_alignment double precision,
    quiz_present       int,
    quiz_responders    int,
    quiz_participation double precision,
    quiz_latency_ms    bigint,
    wearers            int,
    worn_ratio         double precision,
    steps              double precision,
    movement_min       int,
    students           jsonb not null,
    recorded_at        timestamptz not null,
    primary key (district, section, period, slot, definition, revision)
);
comment on table rollcall.engagement_window is 'Engagement of sections in windows of five minutes, append-only; the highest revision holds';
comment on column rollcall.engagement_window.district is 'The tenant';
comment on column rollcall.engagement_window.school is 'School of the section';
comment on column rollcall.engagement_window.section is 'The section';
comment on column rollcall.engagement_window.period is 'The period in which it met';
comment on column rollcall.engagement_window.date is 'The school''s local date';
comment on column rollcall.engagement_window.slot is 'Multiple of five minutes at which the window begins, before it is clipped';
comment on column rollcall.engagement_window.definition is 'Version of the definition of the metrics';
comment on column rollcall.engagement_window.revision is '1: as it settled; more: corrected that often, by late events, attendance or consent';
comment on column rollcall.engagement_window.starts is 'Beginning, clipped to the meeting';
comment on column rollcall.engagement_window.ends is 'End, clipped to the meeting, exclusive';
comment on column rollcall.engagement_window.parameters is 'theta_ms, coverage_min_pct and settle_ms that the values were computed with';
comment on column rollcall.engagement_window.present is 'Enrolled students who were present';
comment on column rollcall.engagement_window.with_data is 'How many of them there is data of';
comment on column rollcall.engagement_window.events is 'Events of them in the window';
comment on column rollcall.engagement_window.late_events is 'Events that were received after the window had settled';
comment on column rollcall.engagement_window.meaningful is 'Events that opened, answered, submitted or advanced something';
comment on column rollcall.engagement_window.active_ms is 'Active milliseconds, summed over the students';
comment on column rollcall.engagement_window.allowed_ms is 'Of these in resources that the teacher allows';
comment on column rollcall.engagement_window.coverage is 'with_data / present, 0 to 1';
comment on column rollcall.engagement_window.active_min is 'Active minutes of a student, mean over those with data; null: no data';
comment on column rollcall.engagement_window.interaction_rate is 'Meaningful events an active minute; null: no active time';
comment on column rollcall.engagement_window.resource_alignment is 'Share of active time in allowed resources, 0 to 1; null: too little coverage, no time, or none are set';
comment on column rollcall.engagement_window.quiz_present is 'Students who were present when the window''s quizzes were opened; null: no quiz';
comment on column rollcall.engagement_window.quiz_responders is 'How many of them had answered by the window''s end';
comment on column rollcall.engagement_window.quiz_participation is 'quiz_responders / quiz_present';
comment on column rollcall.engagement_window.quiz_latency_ms is 'Median milliseconds from the opening to the first answer';
comment on column rollcall.engagement_window.wearers is 'Present students with readings of a wearable and consent; null: none';
comment on column rollcall.engagement_window.worn_ratio is 'Share of readings that say worn, 0 to 1';
comment on column rollcall.engagement_window.steps is 'Steps of all wearers';
comment on column rollcall.engagement_window.movement_min is 'Minutes with steps, summed over the wearers';
comment on column rollcall.engagement_window.students is 'Present students with data: [{student, events, meaningful, active_ms, allowed_ms}]';
comment on column rollcall.engagement_window.recorded_at is 'When it was computed';
create index engagement_window_day on rollcall.engagement_window (district, section, date);
create index engagement_window_school on rollcall.engagement_window (district, school, date);

do $$
declare t text;
begin
    foreach t in array array['consent', 'section_resource', 'section_physical', 'engagement_window']
    loop
        execute format('alter table rollcall.%I enable row level security', t);
        execute format('alter table rollcall.%I force row level security', t);
        execute format('create policy tenant on rollcall.%I using (district = rollcall.current_district()) with check (district = rollcall.current_district())', t);
        execute format('grant select, insert, update, delete on rollcall.%I to rollcall_app', t);
    end loop;
    -- Append-only.
    foreach t in array array['consent', 'engagement_window']
    loop
        execute format('revoke update, delete on rollcall.%I from rollcall_app', t);
    end loop;
    -- Running servers take up a change at once.
    foreach t in array array['consent', 'section_resource', 'section_physical']
    loop
        execute format('create trigger directory_changed after insert or update or delete on rollcall.%I for each statement execute function rollcall.notify_directory()', t);
    end loop;
end
$$;
