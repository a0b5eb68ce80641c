-- What must be answered before a tenant is known: which districts there are, whose e-mail, session or device this is.
-- The functions run as rollcall_lookup, which row-level security lets read exactly the columns named here, so they work
-- on servers where the owner is no superuser too. search_path is pinned: nobody can put another table in their way.
grant select (district, name) on rollcall.district to rollcall_lookup;
grant select on rollcall.account, rollcall.session, rollcall.device to rollcall_lookup;
create policy lookup on rollcall.district for select to rollcall_lookup using (true);
create policy lookup on rollcall.account for select to rollcall_lookup using (true);
create policy lookup on rollcall.session for select to rollcall_lookup using (true);
create policy lookup on rollcall.device for select to rollcall_lookup using (true);

-- The districts of this server, by name.
create function rollcall.districts() returns table (district uuid, name text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$ select d.district, d.name from rollcall.district d order by d.name $$;

-- The account that signs in with this e-mail address (lower case), if there is one.
create function rollcall.account_by_email(wanted text)
    returns table (district uuid, account uuid, password_hash text, role text, person uuid, school uuid, disabled boolean)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$
        select a.district, a.id, a.password_hash, a.role, a.person, a.school, a.disabled
        from rollcall.account a where a.email = wanted
    $$;

-- The session with this token hash and its account, unless it has expired or the account is disabled.
create function rollcall.session_by_token(wanted bytea)
    returns table (district uuid, account uuid, kind text, email text, role text, person uuid, school uuid,
                   created_at timestamptz, seen_at timestamptz, expires_at timestamptz)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$
        select s.district, s.account, s.kind, a.email, a.role, a.person, a.school, s.created_at, s.seen_at, s.expires_at
        from rollcall.session s join rollcall.account a on a.district = s.district and a.id = s.account
        where s.token_hash = wanted and s.expires_at > now() and not a.disabled
    $$;

-- The district of a device, disabled or not. The rest is read under that tenant.
create function rollcall.device_district(wanted uuid) returns uuid
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$ select d.district from rollcall.device d where d.id = wanted $$;

-- A new owner must be able to create in the schema for a moment.
grant create on schema rollcall to rollcall_lookup;
do $$
declare f text;
begin
    foreach f in array array['districts()', 'account_by_email(text)', 'session_by_token(bytea)', 'device_district(uuid)']
    loop
        execute format('alter function rollcall.%s owner to rollcall_lookup', f);
        execute format('revoke execute on function rollcall.%s from public', f);
        execute format('grant execute on function rollcall.%s to rollcall_app', f);
    end loop;
end
$$;
revoke create on schema rollcall from rollcall_lookup;
