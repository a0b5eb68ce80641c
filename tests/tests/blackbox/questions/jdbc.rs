//! Through the PostgreSQL protocol with the JDBC driver, as DBeaver and most BI tools come in: `tests/jdbc/Ask.java`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use rollcall_tests::district::PASSWORD;
use serde_json::{Value, json};

use super::adbc::{Driver, certificate, says};
use super::{ANALYST, Asked, BOMB, OFFICE, QUESTION, STUDENTS};

const ENVIRONMENT: [(&str, &str); 1] = [("ROLLCALL_SQL_POSTGRES", "127.0.0.1:0")];

/// Ways in which the driver speaks the protocol: parsed and bound, as plain texts, with binary results from the first time on, in
/// transactions that may not write and read ten rows at a time.
const MODES: [&str; 4] =
    ["", "preferQueryMode=simple", "prepareThreshold=-1", "readOnly=true&readOnlyMode=always&defaultRowFetchSize=10&prepareThreshold=1"];

/// What DBeaver's tree of a database rests on: the same tables, joins and functions of the catalog, with what a table of that name
/// must be found by.
const TREE: [(&str, &str); 12] = [
    ("SELECT current_database(), current_schema(), session_user", OFFICE),
    ("SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate ORDER BY db.datname", "rollcall"),
    (
        "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid \
         AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass ORDER BY nspname",
        "public",
    ),
    (
        "SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base, d.description FROM pg_catalog.pg_type t \
         LEFT OUTER JOIN pg_catalog.pg_type e ON e.oid = t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid \
         LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid = d.objoid WHERE (c.relkind IS NULL OR c.relkind = 'c') \
         AND (e.typcategory IS NULL OR e.typcategory <> 'C')",
        "timestamptz",
    ),
    (
        "SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound, pg_catalog.pg_get_partkeydef(c.oid) AS k \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT OUTER JOIN pg_catalog.pg_description d \
         ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass WHERE n.nspname = 'public' \
         AND c.relkind NOT IN ('i', 'I', 'c')",
        "attendance_day",
    ),
    (
        "SELECT c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def, d.description, dep.objid \
         FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON a.attrelid = c.oid LEFT OUTER JOIN pg_catalog.pg_attrdef ad \
         ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT OUTER JOIN pg_catalog.pg_description d ON c.oid = d.objoid \
         AND a.attnum = d.objsubid LEFT OUTER JOIN pg_depend dep ON dep.refobjid = a.attrelid AND dep.deptype = 'i' \
         AND dep.refobjsubid = a.attnum WHERE NOT a.attisdropped AND c.relname = 'scans' ORDER BY a.attnum",
        "received",
    ),
    (
        "SELECT c.oid, c.*, t.relname AS tab, rt.relnamespace AS refnamespace FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t \
         ON t.oid = c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid ORDER BY c.oid",
        "",
    ),
    (
        "SELECT i.*, i.indkey AS keys, c.relname, tc.relname AS tab, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS pred, \
         pg_catalog.pg_relation_size(i.indexrelid) AS size FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         INNER JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid",
        "",
    ),
    ("SELECT a.oid, a.*, pd.description FROM pg_catalog.pg_roles a LEFT JOIN pg_catalog.pg_shdescription pd ON a.oid = pd.objoid", ""),
    ("SELECT name, setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'", "32"),
    ("SELECT p.oid, p.*, pg_catalog.pg_get_function_result(p.oid) AS r FROM pg_catalog.pg_proc p WHERE p.pronamespace = 1", ""),
    ("SELECT x.* FROM public.scans x WHERE x.seq = 1", "qr"),
];

/// The driver, where the set-up step puts it.
fn jar() -> PathBuf {
    std::env::var_os("ROLLCALL_TEST_JDBC").map_or_else(|| PathBuf::from("/usr/share/java/postgresql.jar"), PathBuf::from)
}

/// `options` as in a JDBC URL; a step is its name and its parts.
pub fn connect(asked: &Asked, options: &str, (user, password): (&str, &str), steps: &[Vec<&str>]) -> Result<Driver> {
    let url = format!("jdbc:postgresql://{}/rollcall?{options}", asked.door("postgres")?);
    let mut lines = vec![user.to_owned(), password.to_owned()];
    for step in steps {
        ensure!(step.iter().all(|part| !part.contains(['\t', '\n'])), "a step's parts have no tab and no line's end");
        lines.push(step.join("\t"));
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("jdbc/Ask.java");
    Driver::spawn(Command::new("java").arg("-cp").arg(jar()).arg(program).arg(url), &lines)
}

const BY_PASSWORD: (&str, &str) = (OFFICE, PASSWORD);

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_asking_gives_the_numbers_of_rest() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let rows = "SELECT person, seq, dir, offline, ts FROM scans ORDER BY seq";
    let by_rest = asked.office.post("/sql", &json!({"sql": QUESTION})).await?;
    let rows_by_rest = asked.office.post("/sql", &json!({"sql": rows})).await?;
    ensure!(by_rest["rows"] == json!([["in", STUDENTS]]), "{by_rest}");
    let student = asked.district.students[0].id.as_str();
    let bound = "SELECT count(*) FROM scans WHERE seq <= ? AND dir = ?";
    let steps = [
        vec!["query", QUESTION],
        vec!["query", rows],
        vec!["query", bound, "5", "in"],
        vec!["query", bound, "5", "out"],
        vec!["query", "SELECT count(*) FROM scans WHERE person = ?", student],
        vec!["query", "SELECT count(*) FROM scans WHERE ts >= ? AND ts < ?", "2020-01-01T00:00:00Z", "2120-01-01T00:00:00Z"],
        vec!["again", "SELECT count(*) FROM scans WHERE seq <= ?", "1", "2", "3", "4", "5", "6", "7", "8"],
        vec!["fetched", "SELECT value FROM generate_series(1, 100000)", "1000"],
        vec!["together", "SELECT 1; SELECT 2"],
        vec!["read only", QUESTION],
        vec!["valid"],
    ];
    for mode in MODES {
        let mut driver = connect(&asked, mode, BY_PASSWORD, &steps)?;
        let mut next = || driver.next().with_context(|| format!("mode {mode:?}"));
        let expected = json!({"ok": {"columns": ["dir", "scans"], "rows": by_rest["rows"]}});
        let given = next()?;
        ensure!(given == expected, "{mode}: {given}");
        let given = next()?;
        same_rows(&given["ok"]["rows"], &rows_by_rest["rows"]).with_context(|| format!("{mode}: {given}"))?;
        for count in [5, 0, 1, STUDENTS] {
            let given = next()?;
            ensure!(given["ok"]["rows"] == json!([[count]]), "{mode}: {given} and not {count}");
        }
        for answer in [json!([1, 2, 3, 4, 5, 6, 7, 8]), json!(100_000)] {
            let given = next()?;
            ensure!(given["ok"] == answer, "{mode}: {given} and not {answer}");
        }
        let given = next()?;
        ensure!(given["ok"][0]["rows"] == json!([[1]]) && given["ok"][1]["rows"] == json!([[2]]), "{mode}: {given}");
        let given = next()?;
        ensure!(given == expected, "{mode}, in a transaction that reads only: {given}");
        ensure!(next()? == json!({"ok": true}), "{mode}: the connection goes on");
    }
    Ok(())
}

/// Equal values; instants are equal when they name the same moment.
fn same_rows(given: &Value, expected: &Value) -> Result<()> {
    let (given, expected) = (given.as_array().context("no rows")?, expected.as_array().context("no rows")?);
    ensure!(given.len() == expected.len() && !given.is_empty(), "{} rows and not {}", given.len(), expected.len());
    let instant = |value: &Value| value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    for (given, expected) in
        given.iter().zip(expected).flat_map(|(a, b)| a.as_array().into_iter().flatten().zip(b.as_array().into_iter().flatten()))
    {
        let same = given == expected || (instant(given).is_some() && instant(given) == instant(expected));
        ensure!(same, "{given} and not {expected}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_finds_its_tree() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let names = ["server", "catalogs", "schemas", "tables", "table kinds", "types", "functions"];
    let mut steps: Vec<Vec<&str>> = names.iter().map(|name| vec![*name]).collect();
    steps.extend([
        vec!["columns", "scans"],
        vec!["keys", "scans"],
        vec!["parameters", "SELECT dir, count(*) AS n FROM scans WHERE seq <= ? GROUP BY dir"],
    ]);
    steps.extend(TREE.iter().map(|(sql, _)| vec!["query", *sql]));
    let catalog = asked.office.get("/sql/catalog").await?;
    let tables: Vec<&Value> = catalog["tables"].as_array().context("no tables over HTTP")?.iter().collect();
    for mode in ["", "preferQueryMode=simple"] {
        let mut driver = connect(&asked, mode, BY_PASSWORD, &steps[..])?;
        let mut next = || driver.next().with_context(|| format!("mode {mode:?}"));
        let server = next()?;
        ensure!(server["ok"][0] == "PostgreSQL" && server["ok"][2] == OFFICE && server["ok"][4] == "public", "{server}");
        ensure!(next()?["ok"] == json!(["rollcall"]), "catalogs");
        ensure!(texts(&next()?["ok"]).contains(&"public"), "schemas");
        let found = next()?;
        let mut known: Vec<&str> = tables.iter().filter_map(|table| table["name"].as_str()).collect();
        known.sort_unstable();
        ensure!(texts(&found["ok"]) == known, "{found} {known:?}");
        ensure!(texts(&next()?["ok"]).contains(&"TABLE"), "kinds of tables");
        ensure!(texts(&next()?["ok"]).contains(&"timestamptz"), "types");
        let functions = next()?;
        ensure!(functions["ok"]["rows"].is_array(), "{functions}");
        let columns = next()?;
        let table = tables.iter().find(|table| table["name"] == "scans").context("no scans over HTTP")?;
        let of_http = table["columns"].as_array().context("no columns over HTTP")?.iter().filter_map(|column| column["name"].as_str());
        let of_driver = columns["ok"].as_object().with_context(|| format!("no columns: {columns}"))?;
        let mut of_http: Vec<&str> = of_http.collect();
        of_http.sort_unstable();
        let mut sorted: Vec<&str> = of_driver.keys().map(String::as_str).collect();
        sorted.sort_unstable();
        ensure!(sorted == of_http, "{columns}");
        ensure!(of_driver["ts"] == "timestamptz" && of_driver["dir"] == "text" && of_driver["offline"] == "bool", "{columns}");
        let keys = next()?;
        ensure!(keys["ok"]["primary"] == json!([]) && keys["ok"]["indexes"] == json!([]) && keys["ok"]["imported"] == json!([]), "{keys}");
        let described = next()?;
        if mode.is_empty() {
            ensure!(described["ok"] == json!({"parameters": ["numeric"], "columns": {"dir": "text", "n": "int8"}}), "{described}");
        }
        for (sql, found) in TREE {
            let answer = next()?;
            ensure!(answer["ok"]["rows"].is_array() && answer["ok"]["rows"].to_string().contains(found), "{mode}: {sql}: {answer}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_names_its_place_and_the_connection_goes_on() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let steps = [
        vec!["query", "SELECT dri FROM scans"],
        vec!["query", "SELECT count(*) FROM scans WHERE dri = ?", "in"],
        vec!["update", "DELETE FROM scans"],
        vec!["update", "CREATE TABLE x (a int)"],
        vec!["update", "INSERT INTO scans SELECT * FROM scans"],
        vec!["query", "SELECT pg_read_file('/etc/passwd')"],
        vec!["rolled back", "SELECT dri FROM scans", QUESTION],
        vec!["within", BOMB, "1"],
        vec!["query", QUESTION],
    ];
    for mode in ["", "preferQueryMode=simple"] {
        let mut driver = connect(&asked, mode, BY_PASSWORD, &steps)?;
        for position in [8, 34] {
            let wrong = driver.next()?;
            says(&wrong, "no column \"dri\"")?;
            ensure!(wrong["code"] == "42601" && wrong["position"] == position, "{mode}: {wrong}");
        }
        for words in ["DELETE is refused", "CREATE is refused", "INSERT is refused"] {
            let refused = driver.next()?;
            says(&refused, words)?;
            ensure!(refused["code"] == "42501", "{mode}: {refused}");
        }
        says(&driver.next()?, "pg_read_file")?;
        let expected = json!({"ok": {"columns": ["dir", "scans"], "rows": [["in", STUDENTS]]}});
        ensure!(driver.next()? == expected, "{mode}: after a rollback");
        let late = driver.next()?;
        ensure!(late["code"] == "57014", "{mode}: {late}");
        ensure!(driver.next()? == expected, "{mode}: after a timeout");
    }

    let mut cancelled = connect(&asked, "", BY_PASSWORD, &[vec!["cancel", BOMB]])?;
    ensure!(cancelled.next()? == json!({"running": true}), "it did not begin");
    asked.until_busy().await?;
    cancelled.tell()?;
    ensure!(cancelled.next()?["code"] == "57014", "cancelled");
    asked.until_idle().await?;

    let wrong = connect(&asked, "", (OFFICE, "not the password"), &[])?.next()?;
    ensure!(wrong["code"] == "28P01", "{wrong}");
    let single = connect(&asked, "", (ANALYST, PASSWORD), &[vec!["query", "SELECT * FROM scans"]])?.next()?;
    says(&single, "figures about groups")
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_jdbc_checks_the_certificate_and_a_token_is_a_password() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (certificate, key) = certificate(dir.path())?;
    let environment = [ENVIRONMENT[0], ("ROLLCALL_TLS_CERTIFICATE", certificate.as_str()), ("ROLLCALL_TLS_KEY", key.as_str())];
    let asked = Asked::launch(&environment).await?;
    let issued = asked.office.post("/tokens", &json!({"days": 1})).await?;
    let by_token = (OFFICE, issued["token"].as_str().context("no token")?);
    let trusting = |root: &str| format!("sslmode=verify-full&sslrootcert={root}");
    let trusted = connect(&asked, &trusting(&certificate), by_token, &[vec!["query", QUESTION]])?.next()?;
    ensure!(trusted["ok"]["rows"] == json!([["in", STUDENTS]]), "{trusted}");
    let other = tempfile::tempdir()?;
    let (foreign, _) = super::adbc::certificate(other.path())?;
    let refused = connect(&asked, &trusting(&foreign), by_token, &[])?.next()?;
    ensure!(refused["code"] == "08006", "{refused}");
    Ok(())
}
