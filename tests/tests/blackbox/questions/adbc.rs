//! Through Arrow Flight SQL with an ADBC driver, as BI tools come in.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::PASSWORD;
use serde_json::{Value, json};

use super::{ANALYST, Asked, BOMB, OFFICE, QUESTION, STUDENTS};

/// The driver in a process of its own; the set-up step installs it beside its script.
pub struct Driver {
    child: Child,
    said: BufReader<ChildStdout>,
    told: ChildStdin,
}

impl Driver {
    /// `address` as a URI; `who` has "user" and "password" or "token", and maybe "certificate".
    pub fn start(address: &str, mut who: Value, steps: Value) -> Result<Self> {
        who["steps"] = steps;
        Self::run("ask.py", address, &who)
    }

    /// A script of the folder, with what it asks for on its standard input.
    pub fn run(script: &str, address: &str, request: &Value) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("adbc");
        Self::spawn(Command::new(folder.join(".venv/bin/python")).arg(folder.join(script)).arg(address), &[request.to_string()])
    }

    /// Another driver's program, with the lines that it reads first.
    pub fn spawn(command: &mut Command, lines: &[String]) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("not installed: cargo xtask setup")?;
        let mut told = child.stdin.take().context("no standard input")?;
        let said = BufReader::new(child.stdout.take().context("no standard output")?);
        for line in lines {
            writeln!(told, "{line}")?;
        }
        Ok(Self { child, said, told })
    }

    /// Lets the script go on.
    pub fn tell(&mut self) -> Result<()> {
        Ok(writeln!(self.told, "now")?)
    }

    pub fn next(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the driver's script said {line:?}"))
    }

    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// One step's answer.
pub fn ask(address: &str, who: Value, step: Value) -> Result<Value> {
    Driver::start(address, who, json!([step]))?.next()
}

pub fn by_password(user: &str) -> Value {
    json!({"user": user, "password": PASSWORD})
}

pub fn says(answer: &Value, words: &str) -> Result<()> {
    let error = answer["error"].as_str().with_context(|| format!("no error: {answer}"))?;
    ensure!(error.to_lowercase().contains(&words.to_lowercase()), "{error:?} does not say {words:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_gets_the_same_numbers_and_the_same_refusals() -> Result<()> {
    let asked = Asked::launch(&[("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0")]).await?;
    let address = format!("grpc://{}", asked.door("flight")?);
    let over_http = asked.office.post("/sql", &json!({"sql": QUESTION})).await?;
    ensure!(over_http["rows"] == json!([["in", STUDENTS]]), "{over_http}");
    let expected = json!({"ok": {"columns": ["dir", "scans"], "rows": over_http["rows"]}});
    let by_name = ask(&address, by_password(OFFICE), json!({"query": QUESTION}))?;
    ensure!(by_name == expected, "{by_name}");
    let issued = asked.office.post("/tokens", &json!({"days": 1})).await?;
    let token = &issued["token"];
    let by_token = ask(&address, json!({"token": token}), json!({"query": QUESTION}))?;
    ensure!(by_token == expected, "{by_token}");

    // An analyst has figures about groups only, whatever the door, with the same noise; a wrong secret has nothing.
    let figures = asked.analyst.post("/sql", &json!({"sql": QUESTION})).await?;
    let analyst = ask(&address, by_password(ANALYST), json!({"query": QUESTION}))?;
    ensure!(analyst["ok"]["rows"] == figures["rows"], "{analyst} {figures}");
    let single = "SELECT * FROM scans";
    let (_, refused) = asked.analyst.request("POST".parse()?, "/sql", Some(&json!({"sql": single}))).await?;
    let detail = refused["detail"].as_str().with_context(|| format!("no detail: {refused}"))?;
    says(&ask(&address, by_password(ANALYST), json!({"query": single}))?, detail)?;
    says(&ask(&address, json!({"user": OFFICE, "password": "not the password"}), json!({"query": QUESTION}))?, "unauthenticated")?;
    says(&ask(&address, json!({"token": "rt_not_a_token"}), json!({"query": QUESTION}))?, "unauthenticated")?;
    says(&ask(&address, by_password(OFFICE), json!({"query": "SELECT dri FROM scans"}))?, "no column \"dri\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_finds_what_it_shows_in_its_tree_and_nothing_is_written() -> Result<()> {
    let asked = Asked::launch(&[("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0")]).await?;
    let address = format!("grpc://{}", asked.door("flight")?);
    let (seq_of, wrong) = ("SELECT count(*) FROM scans WHERE seq <= ? AND dir = ?", "SELECT count(*) FROM scans WHERE seq = ?");
    let steps = json!([
        {"objects": true},
        {"schema": "scans"},
        {"types": true},
        {"info": true},
        {"prepare": seq_of},
        {"query": seq_of, "parameters": [5, "in"]},
        {"again": seq_of, "values": [[5, "in"], [3, "in"], [3, "out"]]},
        {"query": "SELECT count(*) FROM scans WHERE person = $1", "parameters": [asked.district.students[0].id]},
        {"query": wrong, "parameters": [1, 2]},
        {"query": wrong},
        {"update": "DELETE FROM scans"},
        {"query": "INSERT INTO scans SELECT * FROM scans"},
        {"ingest": "scans"},
        {"transaction": true},
        {"query": QUESTION},
    ]);
    let mut driver = Driver::start(&address, by_password(OFFICE), steps)?;
    let objects = driver.next()?;
    let columns = objects["ok"]["rollcall.public.scans"].as_array().with_context(|| format!("no scans: {objects}"))?;
    let catalog = asked.office.get("/sql/catalog").await?;
    let table = catalog["tables"].as_array().and_then(|tables| tables.iter().find(|table| table["name"] == "scans"));
    let known = table.and_then(|table| table["columns"].as_array()).context("no columns over HTTP")?;
    ensure!(columns.iter().eq(known.iter().map(|column| &column["name"])), "{columns:?} {known:?}");
    let schema = driver.next()?;
    ensure!(schema["ok"]["dir"] == "string" && schema["ok"].as_object().is_some_and(|own| own.len() == known.len()), "{schema}");
    let types = driver.next()?;
    ensure!(types == json!({"ok": ["TABLE"]}), "{types}");
    let info = driver.next()?;
    ensure!(info["ok"]["vendor_name"] == "Rollcall", "{info}");
    let prepared = driver.next()?;
    ensure!(prepared["ok"].as_array().is_some_and(|types| types.len() == 2 && types[1] == "string"), "{prepared}");
    let bound = driver.next()?;
    ensure!(bound["ok"]["rows"] == json!([[5]]), "{bound}");
    let again = driver.next()?;
    ensure!(again == json!({"ok": [[[5]], [[3]], [[0]]]}), "{again}");
    let of_one = driver.next()?;
    ensure!(of_one["ok"]["rows"] == json!([[1]]), "{of_one}");
    says(&driver.next()?, "1 parameters and was given 2 values")?;
    says(&driver.next()?, "1 parameters and was given 0 values")?;
    says(&driver.next()?, "DELETE is refused")?;
    says(&driver.next()?, "INSERT is refused")?;
    says(&driver.next()?, "nothing is written here")?;
    says(&driver.next()?, "transaction")?;
    let after = driver.next()?;
    ensure!(after["ok"]["rows"] == json!([["in", STUDENTS]]), "the connection goes on: {after}");
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_and_one_whose_driver_is_gone_stop_working() -> Result<()> {
    let asked = Asked::launch(&[("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0")]).await?;
    let address = format!("grpc://{}", asked.door("flight")?);
    let mut cancelled = Driver::start(&address, by_password(OFFICE), json!([{"cancel": BOMB}, {"query": QUESTION}]))?;
    ensure!(cancelled.next()? == json!({"running": true}), "it did not begin");
    asked.until_busy().await?;
    cancelled.tell()?;
    says(&cancelled.next()?, "cancel")?;
    asked.until_idle().await?;
    let after = cancelled.next()?;
    ensure!(after["ok"]["rows"] == json!([["in", STUDENTS]]), "{after}");

    let mut killed = Driver::start(&address, by_password(OFFICE), json!([{"cancel": BOMB}]))?;
    ensure!(killed.next()? == json!({"running": true}), "it did not begin");
    asked.until_busy().await?;
    killed.kill()?;
    asked.until_idle().await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_driver_checks_the_certificate() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (certificate, key) = certificate(dir.path())?;
    let environment =
        [("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0"), ("ROLLCALL_TLS_CERTIFICATE", certificate.as_str()), ("ROLLCALL_TLS_KEY", key.as_str())];
    let asked = Asked::launch(&environment).await?;
    let address = format!("grpc+tls://{}", asked.door("flight")?);
    let mut who = by_password(OFFICE);
    says(&ask(&address, who.clone(), json!({"query": QUESTION}))?, "certificate")?;
    who["certificate"] = json!(certificate);
    let trusted = ask(&address, who, json!({"query": QUESTION}))?;
    ensure!(trusted["ok"]["rows"] == json!([["in", STUDENTS]]), "{trusted}");
    Ok(())
}

/// A certificate for this machine and its key, as files, from the machine's own openssl.
pub fn certificate(dir: &Path) -> Result<(String, String)> {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status()
        .context("openssl is not installed")?;
    ensure!(status.success(), "openssl made no certificate");
    Ok((certificate.display().to_string(), key.display().to_string()))
}
