//! Through the PostgreSQL protocol, with psql and with psycopg.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::PASSWORD;
use rollcall_tests::process::rss_bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::adbc::{Driver, certificate, says};
use super::{ANALYST, Asked, BOMB, OFFICE, QUESTION, STUDENTS};

const ENVIRONMENT: [(&str, &str); 1] = [("ROLLCALL_SQL_POSTGRES", "127.0.0.1:0")];

/// How a client of libpq names the door.
pub fn connection(asked: &Asked, user: &str, password: &str) -> Result<String> {
    let address = asked.door("postgres")?;
    let port = address.rsplit_once(':').context("no port")?.1;
    Ok(format!("host=127.0.0.1 port={port} dbname=rollcall user='{user}' password='{password}'"))
}

/// psql of the machine's PostgreSQL.
fn psql() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|entry| entry.path().join("bin/psql")).find(|path| path.is_file());
    found.unwrap_or_else(|| PathBuf::from("psql"))
}

/// What psql prints for a command, on both outputs.
pub fn through_psql(connection: &str, command: &str) -> Result<String> {
    let output = Command::new(psql()).args(["--no-psqlrc", "--no-align", "--tuples-only", "--command", command, connection]).output();
    let output = output.context("psql is not installed: cargo xtask setup")?;
    Ok(String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?)
}

pub fn through_psycopg(connection: &str, steps: Value) -> Result<Driver> {
    Driver::run("ask_postgres.py", connection, &steps)
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_gets_the_same_numbers_the_tables_and_the_refusals() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let office = connection(&asked, OFFICE, PASSWORD)?;
    let expected = format!("in|{STUDENTS}\n");
    let by_password = through_psql(&office, QUESTION)?;
    ensure!(by_password == expected, "{by_password}");
    let issued = asked.office.post("/tokens", &json!({"days": 1})).await?;
    let token = issued["token"].as_str().context("no token")?;
    let by_token = through_psql(&connection(&asked, OFFICE, token)?, QUESTION)?;
    ensure!(by_token == expected, "{by_token}");
    let wrong = through_psql(&connection(&asked, OFFICE, "not the password")?, QUESTION)?;
    ensure!(wrong.contains("FATAL"), "{wrong}");

    let tables = through_psql(&office, "\\dt")?;
    ensure!(tables.contains("public|scans|table"), "{tables}");
    let columns = through_psql(&office, "\\d scans")?;
    ensure!(columns.contains("dir|text") || columns.contains("dir|character varying"), "{columns}");
    // What tools without `pg_catalog` ask: types have PostgreSQL's names.
    let types = "SELECT column_name, data_type, udt_name FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name = 'scans' AND column_name IN ('person', 'ts', 'offline', 'dir') ORDER BY column_name";
    let named = through_psql(&office, types)?;
    let expected = "dir|text|text\noffline|boolean|bool\nperson|text|text\nts|timestamp with time zone|timestamptz\n";
    ensure!(named == expected, "{named}");
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public' AND table_name = 'scans'";
    ensure!(through_psql(&office, tables)? == "1\n", "{}", through_psql(&office, tables)?);

    ensure!(through_psql(&office, "BEGIN; SELECT 1; COMMIT")?.contains('1'), "statements together");
    let five = through_psql(&office, "select 1; select 2; select 3; select 4; select 5")?;
    ensure!(five == "1\n2\n3\n4\n5\n", "{five}");

    let place = through_psql(&office, "SELECT\n  dri FROM scans")?;
    ensure!(place.contains("no column \"dri\"") && place.contains("LINE 2:   dri FROM scans\n          ^"), "{place}");
    for (sql, words) in [
        ("DELETE FROM scans", "DELETE is refused"),
        ("COPY (SELECT 1) TO '/tmp/x'", "refused"),
        ("COPY scans FROM '/etc/passwd'", ""),
        ("CREATE TABLE x AS SELECT 1", "refused"),
        ("SET datafusion.execution.batch_size = 1", "cannot be changed"),
        ("SELECT pg_read_file('/etc/passwd')", "pg_read_file"),
        ("SELECT * FROM pg_catalog.pg_class, other.public.scans", "no table"),
    ] {
        let refused = through_psql(&office, sql)?;
        ensure!(refused.contains("ERROR") && refused.contains(words), "{sql}: {refused}");
    }
    let single = through_psql(&connection(&asked, ANALYST, PASSWORD)?, "SELECT * FROM scans")?;
    ensure!(single.contains("figures about groups"), "{single}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_binds_cancels_and_goes_away() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let office = connection(&asked, OFFICE, PASSWORD)?;
    let student = &asked.district.students[0].id;
    let steps = json!([
        {"query": QUESTION},
        {"query": QUESTION, "binary": true},
        {"query": "SELECT count(*) FROM scans WHERE seq <= %s AND dir = %s", "parameters": [5, "in"]},
        {"query": "SELECT count(*) FROM scans WHERE person = %s", "parameters": [student]},
        {"transaction": QUESTION},
        {"query": "DELETE FROM scans WHERE seq = %s", "parameters": [1]},
        {"query": "SELECT dri FROM scans"},
    ]);
    let mut driver = through_psycopg(&office, steps)?;
    let expected = json!({"ok": {"columns": ["dir", "scans"], "rows": [["in", STUDENTS]]}});
    ensure!(driver.next()? == expected, "as text");
    ensure!(driver.next()? == expected, "as bytes");
    for number in [5, 1] {
        let bound = driver.next()?;
        ensure!(bound["ok"]["rows"] == json!([[number]]), "{bound}");
    }
    ensure!(driver.next()? == expected, "in a transaction");
    says(&driver.next()?, "DELETE is refused")?;
    let wrong = driver.next()?;
    ensure!(wrong["code"] == "42601", "{wrong}");

    let mut cancelled = through_psycopg(&office, json!([{"cancel": BOMB}, {"query": QUESTION}]))?;
    ensure!(cancelled.next()? == json!({"running": true}), "it did not begin");
    asked.until_busy().await?;
    cancelled.tell()?;
    let ended = cancelled.next()?;
    ensure!(ended["code"] == "57014", "{ended}");
    ensure!(cancelled.next()? == expected, "the connection goes on");
    asked.until_idle().await?;

    let mut killed = through_psycopg(&office, json!([{"cancel": BOMB}]))?;
    ensure!(killed.next()? == json!({"running": true}), "it did not begin");
    asked.until_busy().await?;
    killed.kill()?;
    asked.until_idle().await
}

/// As many as the drivers keep, and no more by number or by bytes; what is given back makes room.
#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_of_a_connection_are_bounded() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let say = |sql: &str| json!({"query": sql});
    let steps = json!([
        {"prepare": 1_001},
        say("select 1"),
        {"prepare": 1_000},
        say("DEALLOCATE p7"),
        say("deallocate P7"),
        say("DEALLOCATE ALL"),
        {"prepare": 100, "length": 60_000},
        say("DISCARD ALL"),
        {"prepare": 20, "length": 60_000},
    ]);
    let mut driver = through_psycopg(&connection(&asked, OFFICE, PASSWORD)?, steps)?;
    let mut expect = |what: &str, path: &str, value: Value| {
        let answer = driver.next()?;
        ensure!(answer.pointer(path) == Some(&value), "{what}: {answer}");
        anyhow::Ok(())
    };
    expect("one too many", "/ok", json!({"kept": 1_000, "code": "53400"}))?;
    expect("the connection goes on", "/ok/rows", json!([[1]]))?;
    expect("under the same names", "/ok", json!({"kept": 1_000}))?;
    expect("one is given back", "/ok/done", json!("DEALLOCATE"))?;
    expect("once", "/code", json!("26000"))?;
    expect("all are", "/ok/done", json!("DEALLOCATE"))?;
    expect("four MiB of texts", "/ok", json!({"kept": 68, "code": "53400"}))?;
    expect("all are given back", "/ok/done", json!("DISCARD ALL"))?;
    expect("there is room", "/ok", json!({"kept": 20}))
}

/// As text and as bytes, which a client reads by the type that was announced.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_come_and_go() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let office = connection(&asked, OFFICE, PASSWORD)?;
    let student = json!({"uuid": asked.district.students[0].id});
    let given = [
        ("SELECT cast(value AS tinyint) AS a FROM generate_series(-1, 1) ORDER BY 1", json!([]), json!([[-1], [0], [1]])),
        ("SELECT [cast(1 AS tinyint), cast(-2 AS tinyint)] AS a", json!([]), json!([[[1, -2]]])),
        (
            "SELECT CASE WHEN value = 1 THEN INTERVAL '1 day' END AS a FROM generate_series(1, 2)",
            json!([]),
            json!([["1 day, 0:00:00"], [null]]),
        ),
        (
            "SELECT cast(1 AS decimal(38, 30)) AS a, arrow_cast(1, 'Float16') AS b",
            json!([]),
            json!([["1.000000000000000000000000000000", 1.0]]),
        ),
        ("SELECT [[1, 2], [], null] AS a, named_struct('x', 1) AS b", json!([]), json!([["[[1,2],[],null]", "{\"x\":1}"]])),
        ("SELECT value FROM generate_series(1, 9) LIMIT %s", json!([2]), json!([[1], [2]])),
        ("SELECT %s AS a, %s AS b, %s AS c", json!([5, 1.5, true]), json!([[5, 1.5, true]])),
        ("SELECT %s = %s AS a", json!([null, null]), json!([[null]])),
        ("SELECT %s + 1 AS a, %s AS b", json!([{"decimal": "1.5"}, {"decimal": "1.123456789"}]), json!([["2.5", "1.123456789"]])),
        ("SELECT count(*) FROM scans WHERE person = %s", json!([student]), json!([[1]])),
        ("SELECT count(*) FROM scans WHERE dir = any(%s)", json!([["in", "out"]]), json!([[STUDENTS]])),
        ("SELECT count(*) FROM scans WHERE dir <> all(%s)", json!([["in", "out"]]), json!([[0]])),
        ("SELECT count(*) FROM generate_series(1, 9) WHERE value = any(%s)", json!([[1, 2, 30]]), json!([[2]])),
        ("SELECT count(*) FROM scans WHERE ts > now() - %s", json!([{"minutes": 5_000_000}]), json!([[STUDENTS]])),
        ("SELECT count(*) FROM scans WHERE ts > %s", json!([{"instant": "2020-01-01T00:00:00+00:00"}]), json!([[STUDENTS]])),
        ("SELECT %s AS a", json!([{"date": "2026-03-08"}]), json!([["2026-03-08"]])),
        ("SELECT %s AS a", json!([{"minutes": 90}]), json!([["1:30:00"]])),
    ];
    let steps = given.iter().flat_map(|(sql, parameters, _)| {
        let binds = parameters.as_array().is_some_and(|parameters| !parameters.is_empty());
        [false, true].map(|binary| match binds {
            true => json!({"query": sql, "parameters": parameters, "binary": binary}),
            false => json!({"query": sql, "binary": binary}),
        })
    });
    let mut driver = through_psycopg(&office, Value::Array(steps.collect()))?;
    let mut wrong = Vec::new();
    for (sql, _, expected) in &given {
        for form in ["text", "bytes"] {
            let answer = driver.next()?;
            if answer["ok"]["rows"] != *expected {
                wrong.push(format!("{sql} as {form}: {answer}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_psql_checks_the_certificate() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (certificate, key) = certificate(dir.path())?;
    let environment = [ENVIRONMENT[0], ("ROLLCALL_TLS_CERTIFICATE", certificate.as_str()), ("ROLLCALL_TLS_KEY", key.as_str())];
    let asked = Asked::launch(&environment).await?;
    let plain = connection(&asked, OFFICE, PASSWORD)?;
    let checked = |root: &Path| format!("{plain} sslmode=verify-full sslrootcert={}", root.display());
    let trusted = through_psql(&checked(Path::new(&certificate)), QUESTION)?;
    ensure!(trusted == format!("in|{STUDENTS}\n"), "{trusted}");
    let other = tempfile::tempdir()?;
    let (foreign, _) = super::adbc::certificate(other.path())?;
    let refused = through_psql(&checked(Path::new(&foreign)), QUESTION)?;
    ensure!(refused.contains("certificate verify failed"), "{refused}");
    Ok(())
}

/// A client that speaks just enough to be given rows and not to read them.
async fn begin_unread(asked: &Asked, sql: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(asked.door("postgres")?).await?;
    let user = format!("user\0{OFFICE}\0database\0rollcall\0\0");
    stream.write_all(&[&(user.len() as u32 + 8).to_be_bytes()[..], &196_608_i32.to_be_bytes(), user.as_bytes()].concat()).await?;
    let message = |letter: u8, body: &[u8]| [&[letter][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat();
    stream.write_all(&message(b'p', format!("{PASSWORD}\0").as_bytes())).await?;
    let asks = [message(b'P', format!("\0{sql}\0\0\0").as_bytes()), message(b'B', &[0; 8]), message(b'E', &[0; 5]), message(b'S', &[])];
    stream.write_all(&asks.concat()).await?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nobody_reads_wait_in_the_query_and_not_in_memory() -> Result<()> {
    /// Of some 300 MB of rows; what runs ahead of the client is a few batches.
    const GROWTH_BYTES_MAX: u64 = 128 << 20;
    let asked = Asked::launch(&ENVIRONMENT).await?;
    let office = connection(&asked, OFFICE, PASSWORD)?;
    let warm = through_psql(&office, QUESTION)?;
    ensure!(warm == format!("in|{STUDENTS}\n"), "{warm}");
    let before = rss_bytes(asked.instance.pid())?;
    let mut unread = begin_unread(&asked, "SELECT value, repeat('x', 600) FROM generate_series(1, 500000)").await?;
    asked.until_idle().await?;
    let grown = rss_bytes(asked.instance.pid())?.saturating_sub(before);
    ensure!(grown < GROWTH_BYTES_MAX, "{} MB were kept for a client that does not read", grown >> 20);
    let (mut bytes, mut part) = (0_u64, vec![0; 1 << 20]);
    // The last row is followed by the word that they are all.
    let mut tail = Vec::new();
    while !tail.ends_with(b"SELECT 500000\0Z\0\0\0\x05I") {
        let read = unread.read(&mut part).await?;
        ensure!(read > 0, "closed after {bytes} bytes");
        bytes += read as u64;
        tail.extend_from_slice(&part[..read]);
        tail.drain(..tail.len().saturating_sub(64));
    }
    ensure!(bytes > 300_000_000, "{bytes} bytes");
    Ok(())
}

/// A connection takes two descriptors, so that there may be one for it and none for the second look at it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_descriptors_goes_on_when_there_are_some_again() -> Result<()> {
    let mut asked = Asked::launch(&ENVIRONMENT).await?;
    let office = connection(&asked, OFFICE, PASSWORD)?;
    let pid = asked.instance.pid();
    let usual = limit_descriptors(pid, None)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !asked.instance.logged().contains("a PostgreSQL connection could not be kept") {
        ensure!(!asked.instance.has_ended()?, "the server has ended");
        ensure!(Instant::now() < deadline, "no connection was left with one descriptor");
        limit_descriptors(pid, Some(one_more_than_open(pid)?))?;
        let attempt = TcpStream::connect(asked.door("postgres")?).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(attempt);
        limit_descriptors(pid, Some(usual))?;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let after = through_psql(&office, QUESTION)?;
    ensure!(after == format!("in|{STUDENTS}\n"), "{after}");
    ensure!(!asked.instance.has_ended()?, "the server has ended");
    Ok(())
}

/// The limit under which a process gets one descriptor more and no second one.
#[cfg(target_os = "linux")]
fn one_more_than_open(pid: u32) -> Result<u64> {
    let mut open = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        open.extend(entry?.file_name().to_string_lossy().parse::<u64>());
    }
    Ok((0..).filter(|number| !open.contains(number)).nth(1).context("every number is open")?)
}

/// Sets how many descriptors a process may have and returns how many it could.
#[cfg(target_os = "linux")]
fn limit_descriptors(pid: u32, count: Option<u64>) -> Result<u64> {
    let pid = i32::try_from(pid)?;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pid is that of our own child and the pointers are to valid values that outlive the calls.
    unsafe {
        ensure!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) == 0, "prlimit");
        let usual = limit.rlim_cur;
        if let Some(count) = count {
            limit.rlim_cur = count;
            ensure!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) == 0, "prlimit");
        }
        Ok(usual)
    }
}
