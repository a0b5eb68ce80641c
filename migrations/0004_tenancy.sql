-- Row-level security for every row table, forced so that it binds the owner too, and the rights of rollcall_app.
do $$
declare t text;
begin
    foreach t in array array['district', 'school', 'policy', 'period', 'bell_schedule', 'bell', 'calendar_day', 'person',
        'membership', 'section', 'meeting', 'enrolment', 'guardian', 'device', 'badge', 'account', 'session',
        'idempotency', 'audit', 'mark', 'attendance_status', 'dead_letter']
    loop
        execute format('alter table rollcall.%I enable row level security', t);
        execute format('alter table rollcall.%I force row level security', t);
        execute format('create policy tenant on rollcall.%I using (district = rollcall.current_district()) with check (district = rollcall.current_district())', t);
        execute format('grant select, insert, update, delete on rollcall.%I to rollcall_app', t);
    end loop;
    -- What is append-only cannot be rewritten, not even by the program. Dead letters are only deleted, by age.
    foreach t in array array['mark', 'attendance_status', 'audit']
    loop
        execute format('revoke update, delete on rollcall.%I from rollcall_app', t);
    end loop;
    revoke update on rollcall.dead_letter from rollcall_app;
end
$$;
grant select, insert, update on rollcall.consumer_offset to rollcall_app;
grant usage on all sequences in schema rollcall to rollcall_app;

-- A change of the directory tells running servers, which reload what they keep in memory. Payload: the district and the
-- table, "<uuid>/<table>"; the district is "*" when the owner changed rows without a tenant. Row-level security lets a
-- statement touch one district only, so one notice a statement is enough, and PostgreSQL folds equal notices of a transaction.
create function rollcall.notify_directory() returns trigger language plpgsql as $$
begin
    perform pg_notify('rollcall_directory', coalesce(rollcall.current_district()::text, '*') || '/' || tg_table_name);
    return null;
end
$$;
do $$
declare t text;
begin
    foreach t in array array['district', 'school', 'policy', 'period', 'bell_schedule', 'bell', 'calendar_day', 'person',
        'membership', 'section', 'meeting', 'enrolment', 'guardian', 'device', 'badge', 'account']
    loop
        execute format('create trigger directory_changed after insert or update or delete on rollcall.%I for each statement execute function rollcall.notify_directory()', t);
    end loop;
end
$$;
