-- The directory: who and what there is. Every table carries its district; ids are UUIDs; `*_sealed` columns are
-- encrypted by the program (XChaCha20-Poly1305, key outside the database), so a dump shows no name and no contact.

create table rollcall.district (
    district   uuid primary key,                 -- the tenant
    name       text not null constraint district_name unique, -- shown to staff; unique on this server
    policy     jsonb not null default '{}',      -- district-wide policy overrides, see rollcall_model::policy
    created_at timestamptz not null default now()
);

create table rollcall.school (
    district   uuid not null references rollcall.district,
    id         uuid not null,
    source_id  text,                             -- OneRoster org sourcedId
    name       text not null,
    zone       text not null,                    -- IANA time zone
    primary key (district, id),
    constraint school_source unique (district, source_id),
    constraint school_name unique (district, name)
);

-- Policy of a school with effective dates; the newest row with valid_from <= date holds.
create table rollcall.policy (
    district   uuid not null,
    school     uuid not null,
    valid_from date not null,
    policy     jsonb not null,                   -- AttendancePolicy as JSON; minutes as integers
    primary key (district, school, valid_from),
    foreign key (district, school) references rollcall.school
);

-- A period of a school ("Period 1"), the same on all days and in all schedules.
create table rollcall.period (
    district   uuid not null,
    school     uuid not null,
    id         uuid not null,
    name       text not null,                    -- also how bell and meeting files name it
    ordinal    int not null,                     -- order within the day
    primary key (district, id),
    unique (district, school, name),
    foreign key (district, school) references rollcall.school
);

-- A bell schedule ("Regular", "Half day") as it holds from a date on. History keeps the old rows.
create table rollcall.bell_schedule (
    district   uuid not null,
    school     uuid not null,
    id         uuid not null,
    name       text not null,
    valid_from date not null,
    primary key (district, id),
    unique (district, school, name, valid_from),
    foreign key (district, school) references rollcall.school
);

create table rollcall.bell (
    district      uuid not null,
    schedule      uuid not null,
    period        uuid not null,
    starts        time not null,                 -- local wall-clock time
    ends          time not null,                 -- local wall-clock time, after starts
    instructional boolean not null default true, -- lunch and breaks are false
    primary key (district, schedule, period),
    foreign key (district, schedule) references rollcall.bell_schedule,
    foreign key (district, period) references rollcall.period,
    check (starts < ends)
);

-- One row a school and day in session. A date without a row is not in session.
create table rollcall.calendar_day (
    district uuid not null,
    school   uuid not null,
    date     date not null,                      -- local date
    schedule text not null,                      -- name of the bell schedule in force that day
    cycle    text,                               -- rotation day ("A", "B"); null: none
    primary key (district, school, date),
    foreign key (district, school) references rollcall.school
);

create table rollcall.person (
    district     uuid not null references rollcall.district,
    id           uuid not null,                  -- the pseudonym used everywhere else
    source_id    text,                           -- OneRoster user sourcedId
    kind         text not null constraint person_kind check (kind in ('student', 'staff', 'guardian')),
    given_sealed  bytea,                         -- given name, encrypted
    family_sealed bytea,                         -- family name, encrypted
    contact_sealed bytea,                        -- JSON of e-mail and phone, encrypted
    grade        text,                           -- OneRoster grade code, students only
    active       boolean not null default true,
    primary key (district, id),
    unique (district, source_id)
);

-- Which schools a person belongs to (a student's enrolment in a school, a staff member's assignment).
create table rollcall.membership (
    district uuid not null,
    person   uuid not null,
    school   uuid not null,
    starts   date not null default '-infinity',  -- first day, inclusive
    ends     date not null default 'infinity',   -- first day no longer, exclusive
    primary key (district, person, school, starts),
    foreign key (district, person) references rollcall.person,
    foreign key (district, school) references rollcall.school,
    check (starts < ends)
);
create index membership_school on rollcall.membership (district, school);

create table rollcall.section (
    district  uuid not null,
    school    uuid not null,
    id        uuid not null,
    source_id text,                              -- OneRoster class sourcedId
    title     text not null,                     -- "Algebra I - 3"
    course    text,
    room      text,
    starts    date not null default '-infinity', -- first day of its terms, inclusive
    ends      date not null default 'infinity',  -- exclusive
    active    boolean not null default true,
    primary key (district, id),
    unique (district, source_id),
    foreign key (district, school) references rollcall.school
);
create index section_school on rollcall.section (district, school);

-- When a section meets: a period, on which weekdays and rotation days, between which dates.
create table rollcall.meeting (
    district   uuid not null,
    section    uuid not null,
    period     uuid not null,
    weekdays   smallint not null default 127,    -- bit 0 Monday ... bit 6 Sunday
    cycle      text not null default '',         -- rotation day; empty: every
    valid_from date not null default '-infinity',
    valid_to   date not null default 'infinity', -- exclusive
    primary key (district, section, period, cycle, valid_from),
    foreign key (district, section) references rollcall.section,
    foreign key (district, period) references rollcall.period
);

create table rollcall.enrolment (
    district uuid not null,
    section  uuid not null,
    person   uuid not null,
    role     text not null constraint enrolment_role check (role in ('student', 'teacher')),
    starts   date not null default '-infinity',  -- inclusive
    ends     date not null default 'infinity',   -- exclusive
    primary key (district, section, person, role, starts),
    foreign key (district, section) references rollcall.section,
    foreign key (district, person) references rollcall.person,
    check (starts < ends)
);
create index enrolment_person on rollcall.enrolment (district, person);

create table rollcall.guardian (
    district uuid not null,
    guardian uuid not null,
    student  uuid not null,
    relation text,
    primary key (district, guardian, student),
    foreign key (district, guardian) references rollcall.person,
    foreign key (district, student) references rollcall.person
);

create table rollcall.device (
    district   uuid not null,
    id         uuid not null,
    school     uuid not null,
    kind       text not null constraint device_kind check (kind in ('gate', 'room', 'tablet', 'wearable', 'gateway')),
    name       text not null,
    token_hash bytea not null,                   -- SHA-256 of the device token; the token is 256 random bits
    gateway    uuid,                             -- the gateway it is registered behind
    person     uuid,                             -- a tablet or wearable assigned to one person
    section    uuid,                             -- a room scanner's section, when it has one
    disabled   boolean not null default false,
    created_at timestamptz not null default now(),
    primary key (district, id),
    constraint device_id unique (id),
    foreign key (district, school) references rollcall.school,
    foreign key (district, gateway) references rollcall.device,
    foreign key (district, person) references rollcall.person,
    foreign key (district, section) references rollcall.section
);
create index device_school on rollcall.device (district, school);

create table rollcall.badge (
    district   uuid not null,
    id         uuid not null,
    person     uuid not null,
    token_hash bytea not null,                   -- SHA-256 of the badge's random token
    issued_at  timestamptz not null default now(),
    revoked_at timestamptz,
    primary key (district, id),
    constraint badge_token unique (token_hash),
    foreign key (district, person) references rollcall.person
);
create index badge_person on rollcall.badge (district, person);

create table rollcall.account (
    district      uuid not null references rollcall.district,
    id            uuid not null,
    email         text not null,                 -- lower case; the name one signs in with
    password_hash text,                          -- Argon2id PHC string; null: may not sign in by password
    role          text not null constraint account_role check (role in ('teacher', 'office', 'analyst', 'guardian', 'it')),
    person        uuid,                          -- whose account it is; required for teacher and guardian
    school        uuid,                          -- an office account's school; null: all schools of the district
    disabled      boolean not null default false,
    created_at    timestamptz not null default now(),
    primary key (district, id),
    constraint account_email unique (email),
    constraint account_email_lower check (email = lower(email)),
    constraint account_has_person check (person is not null or role not in ('teacher', 'guardian')),
    foreign key (district, person) references rollcall.person,
    foreign key (district, school) references rollcall.school
);

create table rollcall.session (
    district   uuid not null,
    token_hash bytea not null,                   -- SHA-256 of the cookie's or API token's secret
    account    uuid not null,
    kind       text not null default 'cookie' constraint session_kind check (kind in ('cookie', 'api')),
    created_at timestamptz not null default now(),
    seen_at    timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (token_hash),
    foreign key (district, account) references rollcall.account
);
create index session_account on rollcall.session (district, account);
create index session_expiry on rollcall.session (district, expires_at);

-- Answers already given to writes that carried an Idempotency-Key, kept a day.
create table rollcall.idempotency (
    district   uuid not null,
    account    uuid not null,
    key        text not null,
    request    bytea not null,                   -- SHA-256 of method, path and body
    status     int not null,
    response   bytea not null,
    created_at timestamptz not null default now(),
    primary key (district, account, key),
    foreign key (district, account) references rollcall.account
);
create index idempotency_age on rollcall.idempotency (district, created_at);

create table rollcall.audit (
    district   uuid not null,
    id         bigint generated always as identity,
    at         timestamptz not null default now(),
    account    uuid default rollcall.current_caller(), -- null: the command line or the program itself
    action     text not null,                    -- "mark.create", "device.add", "student.read", ...
    subject    text,                             -- what it was about, an id
    detail     jsonb not null default '{}',      -- never a name
    primary key (district, id)
);
