-- An erasure is carried on into history after it was asked for; its state is told.
alter table rollcall.erasure add column history_at timestamptz;
comment on column rollcall.erasure.history_at is 'When history had no file with the person''s rows any more; null: not yet';

-- For the task that does so. Like the lookups of 0005.
create function rollcall.open_erasures() returns table (district uuid, person uuid, before bigint)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$ select e.district, e.person, e.before from rollcall.erasure e where e.history_at is null order by e.asked_at $$;
grant create on schema rollcall to rollcall_lookup;
alter function rollcall.open_erasures() owner to rollcall_lookup;
revoke execute on function rollcall.open_erasures() from public;
grant execute on function rollcall.open_erasures() to rollcall_app;
revoke create on schema rollcall from rollcall_lookup;
