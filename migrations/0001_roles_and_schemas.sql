-- Roles. The one who migrates owns everything. The program acts as rollcall_app, which owns nothing, is bound by
-- row-level security, and may insert event rows but read them only through the views of schema rollcall. It may log in,
-- without a password: that works on the private server's socket and nowhere that asks for one.
-- rollcall_lookup owns the few functions that must answer before a tenant is known (0005_lookups.sql); it may read the
-- columns they need and nobody can act as it.
do $$
begin
    if not exists (select from pg_roles where rolname = 'rollcall_app') then
        create role rollcall_app login noinherit nobypassrls;
    end if;
    if not exists (select from pg_roles where rolname = 'rollcall_lookup') then
        create role rollcall_lookup nologin noinherit nobypassrls;
    end if;
    execute format('grant rollcall_app, rollcall_lookup to %I', current_user);
end
$$;

-- rollcall: directory, attendance and views, all bound to the transaction's tenant.
-- event: the event tables; no right to read for rollcall_app.
create schema if not exists rollcall;
create schema if not exists event;
grant usage on schema rollcall, event to rollcall_app;
grant usage on schema rollcall to rollcall_lookup;

-- The tenant of the transaction (SET LOCAL rollcall.district). Unset or empty: null, hence no rows anywhere.
create function rollcall.current_district() returns uuid
    language sql stable parallel safe
    as $$ select nullif(current_setting('rollcall.district', true), '')::uuid $$;

-- Whose request the transaction carries out (SET LOCAL rollcall.caller), an account; null: the program itself.
create function rollcall.current_caller() returns uuid
    language sql stable parallel safe
    as $$ select nullif(current_setting('rollcall.caller', true), '')::uuid $$;
