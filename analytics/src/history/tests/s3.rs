//! History on an object store that speaks S3: moto's server, which `cargo xtask` installs into `tests/s3/.venv`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::memory::InMemory;
use rollcall_model::event::Kind;

use super::engine::{ask, engine, office};
use super::town::{DAY_MS, START, Town, district, person};
use crate::history::{History, HistoryConfig, HistoryError, Place};

/// A slow read is noticed, the store is asked, and says nothing: a second and three, and the machine may be busy.
const LOST_WITHIN: Duration = Duration::from_secs(12);

/// The running server; dropping it ends it.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let installed = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../tests/s3/.venv/bin/moto_server");
        let program = if installed.exists() { installed } else { "moto_server".into() };
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto_server is installed by cargo xtask");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("moto_server says where it listens").unwrap();
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().to_owned();
            }
        };
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn make_bucket(&self, name: &str) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "PUT /{name} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// It stands still, and its connections with it, as when the network is cut.
    fn stall(&self) {
        let stalled = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(stalled.success());
    }

    fn place(&self) -> Place {
        let endpoint = format!("http://{}", self.address);
        let environment = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        Place::url("s3://history/folder", environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn history(server: &Server, town: &Town) -> History {
    History::new(server.place(), town.log.clone(), town.clock.clone(), town.config.clone(), &prometheus::Registry::new()).unwrap()
}

/// Three files in a bucket and three hot rows, with the probes of a real server.
async fn town_of(server: &Server) -> Town {
    server.make_bucket("history");
    let mut town = Town::on(Arc::new(InMemory::new()), HistoryConfig { file_rows_max: 200, ..HistoryConfig::default() });
    town.history = history(server, &town);
    for day in 0..3 {
        town.append(Kind::Scan, 0, &[(1, 10), (2, 20)], day);
        town.history.flush().await.unwrap();
    }
    town.append(Kind::Scan, 0, &[(1, 1), (2, 2), (3, 3)], 2);
    town.move_window(0);
    town
}

/// The store was there a moment ago, and nothing of it is known to be wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_lost_while_questions_run_leaves_what_is_hot_within_seconds() {
    for is_stalled in [false, true] {
        let mut server = Server::start();
        let town = town_of(&server).await;
        let engine = engine(&town);
        assert_eq!(ask(&engine, &office(0), "select count(seq) from scans").await, (vec!["9".to_owned()], vec![]));
        match is_stalled {
            true => server.stall(),
            false => server.child.kill().unwrap(),
        }
        let began = Instant::now();
        for _ in 0..3 {
            let (rows, warnings) = ask(&engine, &office(0), "select count(seq), sum(seq) from scans").await;
            assert_eq!(rows, ["3 6"], "{warnings:?}");
            assert!(warnings.len() == 1 && warnings[0].contains("history cannot be read"), "{warnings:?}");
        }
        let took = began.elapsed();
        println!("lost (stalled: {is_stalled}): three answers in {took:?}");
        assert!(took < LOST_WITHIN, "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_somebody_deletes_is_named_and_left_out() {
    let server = Server::start();
    let town = town_of(&server).await;
    let engine = engine(&town);
    assert_eq!(ask(&engine, &office(0), "select count(seq) from scans").await, (vec!["9".to_owned()], vec![]));
    let path = town.history.state().unwrap().files.keys().next().unwrap().clone();
    town.history.place().remove(&path).await.unwrap();
    for _ in 0..2 {
        let (rows, warnings) = ask(&engine, &office(0), "select count(seq), sum(seq) from scans").await;
        assert_eq!(rows, ["7 66"], "{warnings:?}");
        assert!(warnings.len() == 1 && warnings[0].contains(&path) && warnings[0].contains("missing"), "{warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_bucket_keeps_history_exactly_once() {
    let server = Server::start();
    server.make_bucket("history");
    let mut town = Town::new();
    town.history = history(&server, &town);
    for day in 0..3 {
        town.append(Kind::Scan, 0, &[(1, 10), (2, 20)], day % 2);
        town.history.flush().await.unwrap();
    }
    town.append(Kind::Scan, 0, &[(3, 30)], 0);
    assert_eq!(town.totals(Kind::Scan, Some(0)).await, town.expected(Kind::Scan, Some(0)));
    // The next process opens the same bucket: the earlier one is told by the conditional put that it has been replaced.
    let earlier = town.history.clone();
    town.history = history(&server, &town);
    town.history.open().await.unwrap();
    assert!(matches!(earlier.flush().await, Err(HistoryError::Fenced { .. })));
    town.clock.set(START.plus_ms(DAY_MS));
    assert!(town.history.compact().await.unwrap());
    assert_eq!(town.history.sweep().await.unwrap(), 2);
    let erasure = town.history.erase(district(0), person(2)).await.unwrap();
    assert_eq!((erasure.rows, erasure.unreadable.len()), (3, 0));
    town.forget_person(0, 2);
    while town.history.flush().await.unwrap() {}
    assert_eq!(town.totals(Kind::Scan, Some(0)).await, town.expected(Kind::Scan, Some(0)));
    assert_eq!(town.totals(Kind::Scan, Some(0)).await.0, 4);
}
