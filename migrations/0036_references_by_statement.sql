-- Foreign keys of the tables that an import fills by the million are checked once a statement, as sets, instead of once a row: two
-- thirds of the time of inserting 1.4 million enrolments went into asking for each row whether its section and its person exist.
--
-- What holds is the same: no row names a person, section, school, period or district that is not there, whoever writes and in whatever
-- order. A statement that adds rows checks them after itself. A statement that deletes what may be named first takes a lock that waits for
-- all who are adding such rows and keeps new ones out until it commits; then it looks. An adder therefore either is seen by the deleter
-- or sees its deletion. Keys of what may be named never change.

-- Arguments: pairs of a column of this table and the table that it names. The column "district" names a district.
create function rollcall.check_references() returns trigger language plpgsql set enable_nestloop = on set enable_seqscan = on
    as $$
declare
    missing boolean;
    condition text;
    -- The tables named may have been filled a moment ago, so the planner knows nothing of their size: it is told the way.
    -- One pass over them for many rows, the primary key for few.
    many boolean := (select count(*) > 1000 from added);
begin
    perform set_config(case when many then 'enable_nestloop' else 'enable_seqscan' end, 'off', true);
    for i in 0 .. tg_nargs / 2 - 1 loop
        condition := case tg_argv[2 * i] when 'district' then '' else format(' and named.id = added.%I', tg_argv[2 * i]) end;
        execute format('select exists (select from added where not exists (select from rollcall.%I named
            where named.district = added.district%s))', tg_argv[2 * i + 1], condition) into missing;
        if missing then
            raise exception 'a row of % names a % that is not there', tg_table_name, tg_argv[2 * i + 1]
                using errcode = 'foreign_key_violation', schema = 'rollcall', table = tg_table_name,
                    constraint = format('%s_%s_named', tg_table_name, tg_argv[2 * i]);
        end if;
    end loop;
    return null;
end
$$;

-- Arguments: pairs of a table that may name a deleted row and the column it does so with.
create function rollcall.check_not_named() returns trigger language plpgsql as $$
declare
    named boolean;
    condition text;
begin
    for i in 0 .. tg_nargs / 2 - 1 loop
        execute format('lock table rollcall.%I in share mode', tg_argv[2 * i]);
        condition := case tg_argv[2 * i + 1] when 'district' then '' else format(' and naming.%I = deleted.id', tg_argv[2 * i + 1]) end;
        execute format('select exists (select from deleted where exists (select from rollcall.%I naming
            where naming.district = deleted.district%s))', tg_argv[2 * i], condition) into named;
        if named then
            raise exception 'a row of % is still named by a %', tg_table_name, tg_argv[2 * i]
                using errcode = 'foreign_key_violation', schema = 'rollcall', table = tg_table_name,
                    constraint = format('%s_%s_named', tg_argv[2 * i], tg_argv[2 * i + 1]);
        end if;
    end loop;
    return null;
end
$$;

create function rollcall.refuse_new_key() returns trigger language plpgsql as $$
begin
    raise exception 'the key of a % never changes', tg_table_name using errcode = 'foreign_key_violation';
end
$$;

do $$
declare
    naming record;
    named record;
begin
    for naming in select * from (values
        ('person', array['district', 'district']),
        ('membership', array['person', 'person', 'school', 'school']),
        ('enrolment', array['section', 'section', 'person', 'person']),
        ('guardian', array['guardian', 'person', 'student', 'person']),
        ('meeting', array['section', 'section', 'period', 'period'])) as t(name, arguments)
    loop
        for named in select conname from pg_constraint where contype = 'f' and conrelid = format('rollcall.%I', naming.name)::regclass loop
            execute format('alter table rollcall.%I drop constraint %I', naming.name, named.conname);
        end loop;
        execute format('create trigger references_added after insert on rollcall.%I referencing new table as added
            for each statement execute function rollcall.check_references(%s)', naming.name,
            (select string_agg(quote_literal(a), ', ') from unnest(naming.arguments) a));
        execute format('create trigger references_changed after update on rollcall.%I referencing new table as added
            for each statement execute function rollcall.check_references(%s)', naming.name,
            (select string_agg(quote_literal(a), ', ') from unnest(naming.arguments) a));
    end loop;
    for named in select * from (values
        ('district', array['person', 'district']),
        ('school', array['membership', 'school']),
        ('section', array['enrolment', 'section', 'meeting', 'section']),
        ('period', array['meeting', 'period']),
        ('person', array['membership', 'person', 'enrolment', 'person', 'guardian', 'guardian', 'guardian', 'student'])) as t(name, arguments)
    loop
        execute format('create trigger still_named after delete on rollcall.%I referencing old table as deleted
            for each statement execute function rollcall.check_not_named(%s)', named.name,
            (select string_agg(quote_literal(a), ', ') from unnest(named.arguments) a));
        execute format('create trigger key_stays before update on rollcall.%1$I for each row when (old.%2$s is distinct from new.%2$s
            or old.district is distinct from new.district) execute function rollcall.refuse_new_key()', named.name,
            case named.name when 'district' then 'district' else 'id' end);
    end loop;
end
$$;
