//! What the drivers of BI tools ask a PostgreSQL server for when they connect and before they show its tables: the same tables, joins and
//! functions of the catalog as Npgsql (Power BI) and psqlodbc (Tableau, Excel) use, in texts of our own.

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::PASSWORD;
use serde_json::{Value, json};

use super::adbc::says;
use super::postgres::{connection, through_psql, through_psycopg};
use super::{ANALYST, Asked, OFFICE};

const ENVIRONMENT: [(&str, &str); 1] = [("ROLLCALL_SQL_POSTGRES", "127.0.0.1:0")];

/// Npgsql, when it connects: the version, all types with what their elements are, composite types, enums. Types of arrays are told by the
/// function that reads them.
const NPGSQL: [(&str, &str); 4] = [
    ("SELECT version()", "PostgreSQL"),
    (
        "SELECT ns.nspname, of_element.oid, of_element.typname, of_element.typtype, of_element.typnotnull, of_element.elemoid
         FROM (
             SELECT own.oid, own.typnamespace, own.typname, own.typtype, own.typrelid, own.typnotnull, own.relkind, own.typcategory,
                 elem.oid AS elemoid, elem.typname AS elemname, elem_class.relkind AS elemkind,
                 CASE WHEN elem_proc.proname = 'array_recv' THEN 'a' ELSE elem.typtype END AS elemtype
             FROM (
                 SELECT t.oid, typnamespace, typname, typrelid, typnotnull, relkind, t.typcategory, typelem AS ofelem,
                     CASE WHEN p.proname = 'array_recv' THEN 'a' ELSE t.typtype END AS typtype,
                     CASE WHEN p.proname = 'array_recv' THEN t.typelem
                          WHEN t.typtype = 'r' THEN rngsubtype
                          WHEN t.typtype = 'm' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = t.oid)
                          WHEN t.typtype = 'd' THEN t.typbasetype END AS elemoid
                 FROM pg_type AS t
                 LEFT JOIN pg_class AS c ON (c.oid = t.typrelid)
                 LEFT JOIN pg_proc AS p ON p.oid = t.typreceive
                 LEFT JOIN pg_range ON (pg_range.rngtypid = t.oid)
             ) AS own
             LEFT JOIN pg_type AS elem ON elem.oid = own.elemoid
             LEFT JOIN pg_class AS elem_class ON (elem_class.oid = elem.typrelid)
             LEFT JOIN pg_proc AS elem_proc ON elem_proc.oid = elem.typreceive
         ) AS of_element
         JOIN pg_namespace AS ns ON (ns.oid = typnamespace)
         WHERE typtype IN ('b', 'r', 'm', 'e', 'd') OR (typtype = 'c' AND relkind = 'c')
             OR (typtype = 'p' AND typname IN ('record', 'void', 'unknown'))
             OR (typtype = 'a' AND (elemtype IN ('b', 'r', 'm', 'e', 'd') OR (elemtype = 'p' AND elemname IN ('record', 'void'))
                 OR (elemtype = 'c' AND elemkind = 'c')))
         ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 WHEN typtype = 'c' THEN 1 WHEN typtype = 'r' THEN 2 WHEN typtype = 'm' THEN 3
             WHEN typtype = 'd' AND elemtype <> 'a' THEN 4 WHEN typtype = 'a' THEN 5 WHEN typtype = 'd' AND elemtype = 'a' THEN 6 END",
        "timestamptz",
    ),
    (
        "SELECT t.oid, a.attname, a.atttypid FROM pg_type AS t JOIN pg_namespace AS ns ON (ns.oid = t.typnamespace)
         JOIN pg_class AS c ON (c.oid = t.typrelid) JOIN pg_attribute AS a ON (a.attrelid = t.typrelid)
         WHERE (t.typtype = 'c' AND c.relkind = 'c') AND attnum > 0 AND NOT attisdropped ORDER BY t.oid, a.attnum",
        "",
    ),
    ("SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid ORDER BY oid, enumsortorder", ""),
];

/// Power BI, when it shows what there is: tables, the character set, columns, keys and the tables that they lead to.
const POWER_BI: [(&str, &str); 7] = [
    (
        "select TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE from INFORMATION_SCHEMA.tables
         where TABLE_SCHEMA not in ('information_schema', 'pg_catalog') order by TABLE_SCHEMA, TABLE_NAME",
        "attendance_day",
    ),
    ("select character_set_name from INFORMATION_SCHEMA.character_sets", "UTF8"),
    (
        "select COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, case when (data_type like '%unsigned%') then DATA_TYPE || ' unsigned'
         else DATA_TYPE end as DATA_TYPE from INFORMATION_SCHEMA.columns where TABLE_SCHEMA = 'public' and TABLE_NAME = 'scans'
         order by TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        "timestamp with time zone",
    ),
    (
        "select i.CONSTRAINT_SCHEMA || '_' || i.CONSTRAINT_NAME as INDEX_NAME, ii.COLUMN_NAME, ii.ORDINAL_POSITION,
             case when i.CONSTRAINT_TYPE = 'PRIMARY KEY' then 'Y' else 'N' end as PRIMARY_KEY
         from INFORMATION_SCHEMA.table_constraints i inner join INFORMATION_SCHEMA.key_column_usage ii
             on i.CONSTRAINT_SCHEMA = ii.CONSTRAINT_SCHEMA and i.CONSTRAINT_NAME = ii.CONSTRAINT_NAME
             and i.TABLE_SCHEMA = ii.TABLE_SCHEMA and i.TABLE_NAME = ii.TABLE_NAME
         where i.TABLE_SCHEMA = 'public' and i.TABLE_NAME = 'scans' and i.CONSTRAINT_TYPE in ('PRIMARY KEY', 'UNIQUE')
         order by i.CONSTRAINT_SCHEMA || '_' || i.CONSTRAINT_NAME, ii.TABLE_SCHEMA, ii.TABLE_NAME, ii.ORDINAL_POSITION",
        "",
    ),
    (
        "select pk.COLUMN_NAME as PK_COLUMN_NAME, fk.TABLE_SCHEMA as FK_TABLE_SCHEMA, fk.TABLE_NAME as FK_TABLE_NAME,
             fk.COLUMN_NAME as FK_COLUMN_NAME, fk.ORDINAL_POSITION as ORDINAL, fk.CONSTRAINT_SCHEMA || '_' || fk.TABLE_NAME as FK_NAME
         from (select distinct constraint_catalog, constraint_schema, unique_constraint_schema, constraint_name, unique_constraint_name
               from INFORMATION_SCHEMA.referential_constraints) as rc
         inner join INFORMATION_SCHEMA.key_column_usage as fk
             on rc.constraint_schema = fk.constraint_schema and rc.constraint_name = fk.constraint_name
         inner join INFORMATION_SCHEMA.key_column_usage as pk
             on rc.unique_constraint_schema = pk.constraint_schema and rc.unique_constraint_name = pk.constraint_name
         where pk.TABLE_SCHEMA = 'public' and pk.TABLE_NAME = 'scans' and pk.ORDINAL_POSITION = fk.ORDINAL_POSITION
         order by FK_NAME, fk.ORDINAL_POSITION",
        "",
    ),
    (
        "select \"$Table\".\"person\" as \"person\", \"$Table\".\"seq\" as \"seq\", \"$Table\".\"ts\" as \"ts\"
         from \"public\".\"scans\" \"$Table\" limit 1000",
        "+00",
    ),
    (
        "select \"rows\".\"dir\" as \"dir\", count(*) as \"a0\" from (select \"dir\", \"seq\" from \"public\".\"scans\" \"$Table\") \"rows\"
         group by \"dir\" limit 1000001",
        "in",
    ),
];

/// psqlodbc, when it connects and when a tool asks it for tables, columns, keys and rows by a cursor of the client.
const PSQLODBC: [(&str, &str); 13] = [
    ("show transaction_isolation", "read committed"),
    ("select oid, typbasetype from pg_type where typname = 'lo'", ""),
    (
        "select relname, nspname, relkind from pg_catalog.pg_class c, pg_catalog.pg_namespace n where relkind in ('r', 'v', 'm', 'f', 'p')
         and nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'pg_temp_1') and n.oid = relnamespace order by nspname, relname",
        "attendance_day",
    ),
    (
        "select n.nspname, c.relname, a.attname, a.atttypid, t.typname, a.attnum, a.attlen, a.atttypmod, a.attnotnull, c.relhasrules, c.relkind,
             c.oid, pg_get_expr(d.adbin, d.adrelid), case t.typtype when 'd' then t.typbasetype else 0 end, t.typtypmod, 0, attidentity,
             c.relhassubclass
         from (((pg_catalog.pg_class c inner join pg_catalog.pg_namespace n on n.oid = c.relnamespace and c.relname = E'scans'
             and n.nspname = E'public') inner join pg_catalog.pg_attribute a on (not a.attisdropped) and a.attnum > 0 and a.attrelid = c.oid)
             inner join pg_catalog.pg_type t on t.oid = a.atttypid)
             left outer join pg_attrdef d on a.atthasdef and d.adrelid = a.attrelid and d.adnum = a.attnum
         order by n.nspname, c.relname, attnum",
        "timestamptz",
    ),
    (
        "select ta.attname, ia.attnum, ic.relname, n.nspname, tc.relname from pg_catalog.pg_attribute ta, pg_catalog.pg_attribute ia,
             pg_catalog.pg_class tc, pg_catalog.pg_index i, pg_catalog.pg_namespace n, pg_catalog.pg_class ic
         where tc.relname = E'scans' and n.nspname = E'public' and tc.oid = i.indrelid and n.oid = tc.relnamespace and i.indisprimary = 't'
             and ia.attrelid = i.indexrelid and ta.attrelid = i.indrelid and ta.attnum = i.indkey[ia.attnum - 1] and (not ta.attisdropped)
             and (not ia.attisdropped) and ic.oid = i.indexrelid order by ia.attnum",
        "",
    ),
    (
        "select c.relname, i.indkey, i.indisunique, i.indisclustered, a.amname, c.relhasrules, n.nspname, c.oid, 0, i.indoption
         from pg_catalog.pg_index i, pg_catalog.pg_class c, pg_catalog.pg_class d, pg_catalog.pg_am a, pg_catalog.pg_namespace n
         where d.relname = E'scans' and n.nspname = E'public' and n.oid = d.relnamespace and d.oid = i.indrelid and i.indexrelid = c.oid
             and c.relam = a.oid order by i.indisprimary desc, i.indisunique, n.nspname, c.relname",
        "",
    ),
    ("select NULL, NULL, relkind from (select 'r' as relkind union select 'v' union select 'm' union select 'f' union select 'p') as a", "m"),
    (
        "select NULL, nspname, NULL from pg_catalog.pg_namespace n where true and nspname not in ('pg_catalog', 'information_schema', \
         'pg_toast', 'pg_temp_1') order by nspname",
        "public",
    ),
    ("select NULL, NULL, NULL", "[[null,null,null]]"),
    (
        "select 'rollcall'::name as \"PKTABLE_CAT\", n2.nspname as \"PKTABLE_SCHEM\", a2.attname as \"PKCOLUMN_NAME\", i::int2 as \"KEY_SEQ\",
             case ref.confupdtype when 'c' then 0::int2 when 'n' then 2::int2 else 3::int2 end as \"UPDATE_RULE\",
             case when ref.condeferrable then case when ref.condeferred then 5::int2 else 6::int2 end else 7::int2 end as \"DEFERRABILITY\"
         from (((((((select cn.oid, conrelid, conkey, confrelid, confkey,
                 generate_series(array_lower(conkey, 1), array_upper(conkey, 1)) as i, confupdtype, confdeltype, conname, condeferrable, condeferred
             from pg_catalog.pg_constraint cn, pg_catalog.pg_class c, pg_catalog.pg_namespace n
             where contype = 'f' and confrelid = c.oid and relname = 'scans' and n.oid = c.relnamespace and n.nspname = 'public') ref
             inner join pg_catalog.pg_class c1 on c1.oid = ref.conrelid) inner join pg_catalog.pg_namespace n1 on n1.oid = c1.relnamespace)
             inner join pg_catalog.pg_attribute a1 on a1.attrelid = c1.oid and a1.attnum = conkey[i])
             inner join pg_catalog.pg_class c2 on c2.oid = ref.confrelid) inner join pg_catalog.pg_namespace n2 on n2.oid = c2.relnamespace)
             inner join pg_catalog.pg_attribute a2 on a2.attrelid = c2.oid and a2.attnum = confkey[i])
             left outer join pg_catalog.pg_constraint cn on cn.conrelid = ref.confrelid and cn.contype = 'p'
         order by ref.oid, ref.i",
        "",
    ),
    ("select nspname from pg_catalog.pg_namespace where nspname like E'%' order by nspname", "public"),
    ("select current_schema()", "public"),
    ("SELECT \"scans\".\"dir\" AS \"dir\", SUM(1) AS \"cnt\" FROM \"public\".\"scans\" \"scans\" GROUP BY 1", "in"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_of_bi_tools_get_the_answers_that_they_connect_with() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let texts: Vec<(&str, &str)> = NPGSQL.into_iter().chain(POWER_BI).chain(PSQLODBC).collect();
    let mut wrong = Vec::new();
    for binary in [false, true] {
        let steps: Vec<Value> = texts.iter().map(|(sql, _)| json!({"query": sql, "binary": binary})).collect();
        let mut driver = through_psycopg(&connection(&asked, OFFICE, PASSWORD)?, Value::Array(steps))?;
        for (sql, words) in &texts {
            let answer = driver.next().with_context(|| (*sql).to_owned())?;
            if !answer["ok"]["rows"].is_array() || !answer["ok"]["rows"].to_string().contains(words) {
                wrong.push(format!("binary {binary}: {sql}: {answer}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // An analyst's tree has the analyst's columns.
    let columns = "select column_name from information_schema.columns where table_name = 'scans'";
    let mut driver = through_psycopg(&connection(&asked, ANALYST, PASSWORD)?, json!([{"query": columns}]))?;
    let answer = driver.next()?;
    ensure!(answer["ok"]["rows"].to_string().contains("dir") && !answer["ok"]["rows"].to_string().contains("badge"), "{answer}");
    Ok(())
}

/// As psqlodbc reads when it is set to take large results some rows at a time, and as psql does with FETCH_COUNT.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_gives_its_rows_some_at_a_time_and_ends() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let office = connection(&asked, OFFICE, PASSWORD)?;
    let declared = "declare \"SQL_CUR0x1\" cursor with hold for select value from generate_series(1, 20250) order by value";
    let together =
        format!("BEGIN; {declared}; fetch 100 in \"SQL_CUR0x1\"; fetch 2 in \"SQL_CUR0x1\"; COMMIT; close \"SQL_CUR0x1\"; select 'after'");
    let printed = through_psql(&office, &together)?;
    let expected: String = (1..=102).map(|value| format!("{value}\n")).collect();
    ensure!(printed.contains("DECLARE CURSOR") && printed.ends_with("after\n"), "{printed}");
    ensure!(printed.replace("BEGIN\n", "").replace("DECLARE CURSOR\n", "").starts_with(&expected), "{printed}");

    let saved = "BEGIN; SAVEPOINT a; SELECT 1; RELEASE a; SAVEPOINT b; ROLLBACK TO b; SELECT 2; COMMIT";
    let printed = through_psql(&office, saved)?;
    ensure!(printed == "BEGIN\nSAVEPOINT\n1\nRELEASE\nSAVEPOINT\nROLLBACK\n2\nCOMMIT\n", "{printed}");

    let fetch = |rows: &str, binary: bool| json!({"query": format!("FETCH {rows} FROM \"SQL_CUR0x1\""), "binary": binary});
    let mut steps = vec![json!({"query": "BEGIN"}), json!({"query": declared}), fetch("FORWARD 20000", false), fetch("100", true)];
    steps.extend([json!({"query": "COMMIT"}), json!({"query": "BEGIN"}), fetch("ALL", false), fetch("10", true)]);
    steps.extend([json!({"query": declared}), json!({"query": "CLOSE \"SQL_CUR0x1\""}), fetch("1", false), json!({"query": "ROLLBACK"})]);
    steps.extend([json!({"query": "DECLARE c CURSOR FOR SELECT dri FROM scans"}), json!({"query": "DECLARE c CURSOR FOR SELECT 1"})]);
    steps.extend([json!({"query": "BEGIN"}), json!({"query": "FETCH c"}), json!({"query": "FETCH BACKWARD 1 FROM c"})]);
    steps.extend((0..5).map(|number| json!({"query": format!("DECLARE c{number} CURSOR FOR SELECT 1")})));
    steps.extend([json!({"query": "DISCARD ALL"}), json!({"query": "DECLARE c5 CURSOR FOR SELECT 1"})]);
    let mut driver = through_psycopg(&office, Value::Array(steps))?;
    let mut next = || driver.next();
    let done = |answer: Value, tag: &str| {
        ensure!(answer["ok"]["done"] == tag, "{tag}: {answer}");
        Ok(())
    };
    let rows = |answer: Value, first: u64, count: usize| {
        let rows = answer["ok"]["rows"].as_array().with_context(|| answer.to_string())?;
        ensure!(rows.len() == count && rows.first().is_none_or(|row| row[0] == first), "{first}: {} rows, {:?}", rows.len(), rows.first());
        Ok(())
    };
    done(next()?, "BEGIN")?;
    done(next()?, "DECLARE CURSOR")?;
    rows(next()?, 1, 20_000)?;
    rows(next()?, 20_001, 100)?;
    done(next()?, "COMMIT")?;
    done(next()?, "BEGIN")?;
    rows(next()?, 20_101, 150)?;
    rows(next()?, 0, 0)?;
    ensure!(next()?["code"] == "42P03", "there is one of this name");
    done(next()?, "CLOSE CURSOR")?;
    ensure!(next()?["code"] == "34000", "it is closed");
    done(next()?, "ROLLBACK")?;
    says(&next()?, "no column \"dri\"")?;
    done(next()?, "DECLARE CURSOR")?;
    done(next()?, "BEGIN")?;
    ensure!(next()?["code"] == "34000", "it was not held over the transaction");
    says(&next()?, "FETCH is refused")?;
    for number in 0..5 {
        let answer = next()?;
        ensure!((answer["code"] == "53400") == (number == 4), "{number}: {answer}");
    }
    done(next()?, "DISCARD ALL")?;
    done(next()?, "DECLARE CURSOR")
}
