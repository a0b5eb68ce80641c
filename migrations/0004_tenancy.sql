-- Row-level security for every row table, forced so that it binds the owner too; the reading of event tables only
-- through security-barrier views on the transaction's tenant.
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
    foreach t in array array['mark', 'attendance_status', 'audit']
    loop
        execute format('revoke update, delete on rollcall.%I from rollcall_app', t);
    end loop;
    foreach t in array array['school', 'policy', 'period', 'bell_schedule', 'bell', 'calendar_day', 'person', 'membership',
        'section', 'meeting', 'enrolment', 'guardian', 'device', 'badge', 'account']
    loop
        execute format('create trigger directory_changed after insert or update or delete on rollcall.%I for each row execute function rollcall.notify_directory()', t);
    end loop;
    foreach t in array array['scan', 'telemetry', 'activity', 'device_status']
    loop
        execute format('create view rollcall.%I with (security_barrier) as select * from event.%I where district = rollcall.current_district()', t, t);
        execute format('grant insert on event.%I to rollcall_app', t);
        execute format('grant select on rollcall.%I to rollcall_app', t);
    end loop;
end
$$;
grant select, insert, update on rollcall.consumer_offset to rollcall_app;
grant usage on all sequences in schema rollcall to rollcall_app;
