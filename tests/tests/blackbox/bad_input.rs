//! What devices and people get wrong, and what attackers try: a clear answer, a dead letter where there is a payload, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::StatusCode;
use rollcall_tests::district::{self, District, now_ms};
use rollcall_tests::{Instance, Session};
use serde_json::{Value, json};

use crate::day::mosquitto_pub;

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_answered_and_kept_and_the_server_stays() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Bad", 20)?;
    district.account(&instance, "it@bad.example", "it", None)?;
    let seq = now_ms() as u64;
    let day_ms = 24 * 60 * 60 * 1000;
    let badge = &district.students[0].badge;
    let refused = [
        district::scan(seq + 1, "b_nobody", "in", now_ms()),
        district::scan(seq + 2, badge, "in", now_ms() + day_ms),
        district::scan(seq + 3, badge, "in", now_ms() - 30 * day_ms),
        district::scan(seq + 4, badge, "sideways", now_ms()),
    ];
    for event in &refused {
        ensure!(
            mosquitto_pub(&instance, &district.gate, "mqttv311", "v1/scan", &event.to_string())?,
            "a refused event is still acknowledged"
        );
    }
    ensure!(mosquitto_pub(&instance, &district.gate, "mqttv311", "v1/scan", &"[".repeat(50_000))?, "a JSON bomb is acknowledged and kept");
    // A foreign topic ends a 3.1.1 connection without an acknowledgement.
    let foreign = format!("v1/device/{}/command", uuid::Uuid::new_v4());
    ensure!(!mosquitto_pub(&instance, &district.gate, "mqttv311", &foreign, "{}")?, "a foreign topic was acknowledged");

    let session = District::sign_in(&instance, "it@bad.example").await?;
    let letters = wait_for_dead_letters(&session, 5).await?;
    ensure!(
        letters.as_array().is_some_and(|letters| letters.iter().all(|letter| letter["code"].is_string() && letter["message"].is_string())),
        "{letters}"
    );

    raw(&instance, b"GET / HTTP/1.1\r\n\r\n")?;
    raw(&instance, &[0x10, 0xff, 0xff, 0xff, 0x7f])?;
    raw(&instance, &[0x30, 0x80, 0x80, 0x80, 0x30])?;
    let garbage: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
    raw(&instance, &garbage)?;

    // Half-open connections: a thousand that never say a word, and one device that works all the same.
    let silent: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(&instance.mqtt).ok()).collect();
    ensure!(silent.len() > 900, "only {} connections were accepted", silent.len());
    let event = district::scan(seq + 10, badge, "in", now_ms());
    ensure!(mosquitto_pub(&instance, &district.gate, "mqttv5", "v1/scan", &event.to_string())?, "others noticed the half-open connections");
    Ok(())
}

async fn wait_for_dead_letters(session: &Session, least: usize) -> Result<Value> {
    let mut letters = Value::Null;
    for _ in 0..200 {
        letters = session.get("/dead-letters").await?["items"].clone();
        if letters.as_array().is_some_and(|letters| letters.len() >= least) {
            return Ok(letters);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("fewer than {least} dead letters: {letters}")
}

/// Sends bytes that are no MQTT and waits until the server has closed the connection.
fn raw(instance: &Instance, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(&instance.mqtt)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    // The server may close before everything is written; that is an answer too.
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => anyhow::bail!("the server neither answered nor closed: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_wrong_passwords_cost_little_and_lock_nobody_out_for_ever() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Guess", 10)?;
    district.account(&instance, "office@guess.example", "office", None)?;
    let signed_in = District::sign_in(&instance, "office@guess.example").await?;
    let client = reqwest::Client::new();
    let mut limited = 0;
    for guess in 0..1000 {
        let body = json!({"email": "office@guess.example", "password": format!("guess {guess}")});
        let status = client.post(format!("{}/api/v1/session", instance.http)).json(&body).send().await?.status();
        ensure!([StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&status), "a wrong password was answered {status}");
        limited += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    ensure!(limited > 900, "only {limited} of 1000 guesses were held back");
    // Who is signed in goes on working meanwhile.
    signed_in.get("/sections").await?;
    // A device's wrong token is refused as often as it likes, and the right one works afterwards.
    let mut wrong = district.gate.clone();
    wrong.token = "wrong".into();
    let event = district::scan(now_ms() as u64, &district.students[0].badge, "in", now_ms());
    ensure!(!mosquitto_pub(&instance, &wrong, "mqttv311", "v1/scan", &event.to_string())?, "a wrong token was let in");
    ensure!(mosquitto_pub(&instance, &district.gate, "mqttv311", "v1/scan", &event.to_string())?, "the right token was kept out");
    Ok(())
}
