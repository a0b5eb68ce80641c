//! One question, every way in: curl, ADBC, psql, psycopg, JDBC and the page show the same numbers to the same account.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::PASSWORD;
use rollcall_tests::session::Session;
use serde_json::{Value, json};

use super::adbc::{Driver, by_password};
use super::{ANALYST, Asked, OFFICE, QUESTION, jdbc, postgres};

const ENVIRONMENT: [(&str, &str); 2] = [("ROLLCALL_SQL_POSTGRES", "127.0.0.1:0"), ("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0")];

/// Texts, whole numbers of two widths and a number with a fraction; each in an order of its own.
const QUESTIONS: [&str; 4] = [
    QUESTION,
    "SELECT school, count(*) AS scans, count(DISTINCT person) AS people, sum(seq) AS total, round(avg(seq), 2) AS mean FROM scans GROUP BY school",
    "SELECT grade, count(*) AS students FROM students GROUP BY grade ORDER BY grade",
    "SELECT s.name, count(*) AS sections FROM sections c JOIN schools s ON s.school = c.school GROUP BY s.name ORDER BY s.name",
];
/// Those of them that are figures about groups.
const FIGURES: [&str; 2] = [QUESTIONS[0], QUESTIONS[2]];

/// Rows as a person reads them.
type Rows = Vec<Vec<String>>;

fn read(rows: &Value) -> Result<Rows> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = rows.as_array().with_context(|| format!("no rows: {rows}"))?;
    Ok(rows.iter().map(|row| row.as_array().into_iter().flatten().map(text).collect()).collect())
}

fn lines(text: &str, apart: char) -> Rows {
    text.lines().map(|line| line.split(apart).map(str::to_owned).collect()).collect()
}

/// The answers of a driver's program, one a line.
fn driven(mut driver: Driver, count: usize) -> Result<Vec<Rows>> {
    (0..count).map(|_| driver.next().and_then(|answer| read(&answer["ok"]["rows"]).with_context(|| answer.to_string()))).collect()
}

fn by_curl(asked: &Asked, token: &str, sql: &str) -> Result<Rows> {
    let (bearer, body) = (format!("authorization: Bearer {token}"), json!({"sql": sql}).to_string());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "-H", &bearer, "-H", "content-type: application/json", "-H", "accept: text/csv"]);
    let output = curl.args(["-d", &body, &format!("{}/api/v1/sql", asked.instance.http)]).output().context("curl is not installed")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(lines(&String::from_utf8(output.stdout)?, ',').split_off(1))
}

/// What the desk shows in a real browser.
fn on_the_page(asked: &Asked, email: &str, questions: &[&str]) -> Result<Vec<Rows>> {
    let answers = desk(asked, email, questions)?;
    answers.iter().map(|answer| read(&answer["rows"])).collect()
}

/// The desk's answers in a real browser: rows and warnings.
pub fn desk(asked: &Asked, email: &str, questions: &[&str]) -> Result<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let mut node = Command::new("node").arg("answers.js").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let asks = json!({"url": asked.instance.http, "email": email, "password": PASSWORD, "questions": questions});
    write!(node.stdin.take().context("no standard input")?, "{asks}")?;
    let output = node.wait_with_output()?;
    ensure!(output.status.success(), "the page gave no answer");
    String::from_utf8(output.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What every way in shows, by its name.
async fn everywhere(asked: &Asked, session: &Session, email: &str, questions: &[&str]) -> Result<Vec<(&'static str, Vec<Rows>)>> {
    let issued = session.post("/tokens", &json!({"days": 1})).await?;
    let token = issued["token"].as_str().context("no token")?;
    let steps = Value::from_iter(questions.iter().map(|sql| json!({"query": sql})));
    let flight = Driver::start(&format!("grpc://{}", asked.door("flight")?), by_password(email), steps.clone())?;
    let libpq = postgres::connection(asked, email, PASSWORD)?;
    let asks: Vec<Vec<&str>> = questions.iter().map(|sql| vec!["query", *sql]).collect();
    let psql = questions.iter().map(|sql| {
        let printed = postgres::through_psql(&libpq, sql)?;
        // The warning that an analyst's figures are noisy is printed after them.
        Ok(lines(printed.split("WARNING:").next().unwrap_or_default(), '|'))
    });
    let mut found = vec![
        ("curl", questions.iter().map(|sql| by_curl(asked, token, sql)).collect::<Result<_>>()?),
        ("ADBC", driven(flight, questions.len())?),
        ("psql", psql.collect::<Result<_>>()?),
        ("psycopg", driven(postgres::through_psycopg(&libpq, steps)?, questions.len())?),
        ("JDBC", driven(jdbc::connect(asked, "", (email, PASSWORD), &asks)?, questions.len())?),
    ];
    if std::env::var_os("ROLLCALL_TEST_NO_BROWSER").is_none() {
        found.push(("the page", on_the_page(asked, email, questions)?));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_gives_the_same_numbers() -> Result<()> {
    let asked = Asked::launch(&ENVIRONMENT).await?;
    for (session, email, questions) in [(&asked.office, OFFICE, &QUESTIONS[..]), (&asked.analyst, ANALYST, &FIGURES[..])] {
        let mut by_rest = Vec::new();
        for sql in questions {
            let answer = session.post("/sql", &json!({"sql": sql})).await?;
            let rows = read(&answer["rows"])?;
            ensure!(!rows.is_empty(), "{sql}: {answer}");
            by_rest.push(rows);
        }
        for (way, rows) in everywhere(&asked, session, email, questions).await? {
            ensure!(rows == by_rest, "{email} through {way}: {rows:?} and over REST {by_rest:?}");
        }
    }
    Ok(())
}
