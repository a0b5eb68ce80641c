-- Questions that people keep on the analyst's desk: a text in SQL and how its answer is shown. The text runs with the
-- rights of whoever runs it; sharing shows the text, never rows.
create table rollcall.saved_query (
    district   uuid not null,
    id         uuid not null,
    owner      uuid not null,                    -- account that saved it and alone may change it
    title      text not null constraint saved_query_title check (char_length(title) between 1 and 120),
    sql        text not null constraint saved_query_sql check (octet_length(sql) between 1 and 65536),
    view       jsonb not null default '{}' constraint saved_query_view check (jsonb_typeof(view) = 'object' and octet_length(view::text) <= 8192),
    shared     boolean not null default false,
    version    bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (district, id),
    foreign key (district, owner) references rollcall.account
);
comment on table rollcall.saved_query is 'Saved questions of the analyst''s desk';
comment on column rollcall.saved_query.district is 'The tenant';
comment on column rollcall.saved_query.id is 'Random';
comment on column rollcall.saved_query.owner is 'Account that saved it and alone may change it';
comment on column rollcall.saved_query.title is 'As its owner named it, 1 to 120 characters';
comment on column rollcall.saved_query.sql is 'The text, run with the rights of whoever runs it';
comment on column rollcall.saved_query.view is 'How the answer is shown: chart and axes, an object of the page''s own';
comment on column rollcall.saved_query.shared is 'Whether everybody of the district who may ask questions sees it';
comment on column rollcall.saved_query.version is 'Grows by one with every change; a change names the one that it was made of';
comment on column rollcall.saved_query.created_at is 'When it was saved first';
comment on column rollcall.saved_query.updated_at is 'When it was changed last';
create index saved_query_owner on rollcall.saved_query (district, owner);

alter table rollcall.saved_query enable row level security;
alter table rollcall.saved_query force row level security;
create policy tenant on rollcall.saved_query using (district = rollcall.current_district()) with check (district = rollcall.current_district());
grant select, insert, update, delete on rollcall.saved_query to rollcall_app;
