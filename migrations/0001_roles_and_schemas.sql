-- Roles. The one who migrates owns everything; the program acts as rollcall_app, which owns nothing, is bound by
-- row-level security, and may insert event rows but read them only through the views of schema rollcall.
do $$
begin
    if not exists (select from pg_roles where rolname = 'rollcall_app') then
        create role rollcall_app nologin noinherit nobypassrls;
    end if;
    execute format('grant rollcall_app to %I', current_user);
end
$$;

-- rollcall: directory, attendance and views, all bound to the transaction's tenant.
-- event: the event tables; no right to read for rollcall_app.
create schema if not exists rollcall;
create schema if not exists event;
grant usage on schema rollcall, event to rollcall_app;

-- The tenant of the transaction (SET LOCAL rollcall.district). Unset or empty: null, hence no rows anywhere.
create function rollcall.current_district() returns uuid
    language sql stable parallel safe
    as $$ select nullif(current_setting('rollcall.district', true), '')::uuid $$;
