-- An erasure takes a student out of windows of engagement, which are append-only but for that.
grant update (students) on rollcall.engagement_window to rollcall_app;

-- Open erasures are read a page at a time. Those that are done are kept for good, and are not looked through for the open ones.
create index erasure_open on rollcall.erasure (district, person) where history_at is null;

drop function rollcall.open_erasures();
create function rollcall.open_erasures(after_district uuid, after_person uuid, most bigint)
    returns table (district uuid, person uuid, before bigint)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$
        select e.district, e.person, e.before from rollcall.erasure e
        where e.history_at is null and (e.district, e.person) > (after_district, after_person)
        order by e.district, e.person limit most
    $$;
grant create on schema rollcall to rollcall_lookup;
alter function rollcall.open_erasures(uuid, uuid, bigint) owner to rollcall_lookup;
revoke execute on function rollcall.open_erasures(uuid, uuid, bigint) from public;
grant execute on function rollcall.open_erasures(uuid, uuid, bigint) to rollcall_app;
revoke create on schema rollcall from rollcall_lookup;
