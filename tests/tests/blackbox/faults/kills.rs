//! kill -9 at random instants under load. What was acknowledged is there exactly once: in the log, in the database, and in
//! the statuses, which must be those of a server that got the same events and was never killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rollcall_tests::district::{self, Device, District, Roster};
use rollcall_tests::ledger::{Event, Ledger, Word};
use rollcall_tests::mqtt::{Link, publish_packet};
use rollcall_tests::torture::Torture;
use rollcall_tests::traffic::{Sending, Source};
use rollcall_tests::{Instance, Launch, Live};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{CATCH_UP, DRAIN, LOOK, check_database, check_log, private_url};

const STUDENTS: u32 = 24;

#[tokio::test(flavor = "multi_thread")]
async fn kill_at_random_instants() -> Result<()> {
    let torture = Torture::begin("kill -9 under load");
    let mut random = torture.random();
    let kills = torture.scaled(6, 200);
    let dir = tempfile::tempdir()?;
    // Small segments in half of the runs: rotation and trimming are then killed too.
    let segment_bytes = if random.random() { 1 << 20 } else { 256 << 20 };
    let launch = Launch::default().set("ROLLCALL_LOG_SEGMENT_BYTES", segment_bytes);
    let mut instance = Instance::launch(dir.path(), launch)?;
    let roster = Roster::write(dir.path(), "Killed", STUDENTS)?;
    let district = roster.import(&instance)?;
    let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let room = District::device(&instance, &district.name, &district.school, "room", "Room")?;
    district.until_known(&instance).await?;
    let (first, second) = district.students.split_at(STUDENTS as usize / 2);
    let start = |device: &Device, source, per_s, number| Sending::start(&instance.mqtt, device, source, per_s, torture.seed + number);
    let sending = [
        start(&band, Source::Readings, 1_500, 1),
        start(&district.gate, Source::Scans(first.to_vec()), 60, 2),
        start(&room, Source::Scans(second.to_vec()), 60, 3),
    ];
    for kill in 0..kills {
        // From within the start of intake to well into the flow.
        sleep(Duration::from_millis(random.random_range(0..600))).await;
        instance.kill().with_context(|| format!("kill {kill}"))?;
        instance.restart().with_context(|| format!("restart after kill {kill}"))?;
        if random.random_range(0..3) == 0 {
            sending[0].progress(1, DRAIN).await.with_context(|| format!("after kill {kill}"))?;
        }
    }
    let mut books = Vec::new();
    for device in sending {
        books.push(device.finish(DRAIN).await?);
    }
    let events: usize = books.iter().map(|(_, ledger)| ledger.acknowledged.len()).sum();
    check_database(&private_url(&instance)?, &books).await?;
    let twin_dir = tempfile::tempdir()?;
    same_as_undisturbed(&instance, &roster, &district, &books, twin_dir.path()).await?;
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(dir.path(), &books)?;
    println!("{kills} kills, {events} acknowledged events, segments of {segment_bytes} bytes");
    Ok(())
}

/// A device that never sends anything twice: what it was not told about is there at most once, what it was told about is.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_forgets_loses_only_what_was_not_acknowledged() -> Result<()> {
    let torture = Torture::begin("kill -9, nothing sent again");
    let dir = tempfile::tempdir()?;
    let mut instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Forgets", 10)?;
    let mut books = Vec::new();
    for round in 0..torture.scaled(2, 10) {
        let band = District::device(&instance, &district.name, &district.school, "wearable", &format!("Band {round}"))?;
        let sending = Sending::start(&instance.mqtt, &band, Source::Readings, 3_000, torture.seed + round);
        sending.progress(200, DRAIN).await?;
        instance.kill()?;
        books.push(sending.abandon());
        instance.restart()?;
    }
    check_database(&private_url(&instance)?, &books).await?;
    instance.kill()?;
    check_log(dir.path(), &books)
}

/// Feeds a new server, which nothing happens to, with the same events, and waits until both say the same of every student.
async fn same_as_undisturbed(
    disturbed: &Instance,
    roster: &Roster,
    district: &District,
    books: &[(Device, Ledger)],
    twin_dir: &Path,
) -> Result<()> {
    let twin = Instance::start(twin_dir)?;
    let twins = roster.import(&twin)?;
    let room = District::device(&twin, &twins.name, &twins.school, "room", "Room")?;
    twins.until_known(&twin).await?;
    let names = names_of(district);
    let of_twin: BTreeMap<&str, &str> = twins.students.iter().map(|student| (student.source_id.as_str(), student.badge.as_str())).collect();
    let badges: BTreeMap<&str, &str> = names.iter().filter_map(|(id, name)| Some((id.as_str(), *of_twin.get(name.as_str())?))).collect();
    // Connected scanners on both sides, or what is missing would be "unknown" on one of them.
    let mut links = Vec::new();
    for ((_, ledger), device) in books[1..].iter().zip([&twins.gate, &room]) {
        let mut link = Link::open(&twin.mqtt, device).await?;
        for (event, id) in ledger.sent.values().zip((1..=60_000u16).cycle()) {
            let event = with_badges_of(event, &badges)?;
            link.send(&publish_packet(event.topic(), id, event.payload().to_string().as_bytes())).await?;
            let ids = link.acknowledged().await?;
            ensure!(ids == [id], "the twin answered {ids:?} to {id}");
        }
        links.push(link);
    }
    for (device, _) in &books[1..] {
        links.push(Link::open(&disturbed.mqtt, device).await?);
    }
    let end = Instant::now() + CATCH_UP;
    district.account(disturbed, "office@killed.example", "office", None)?;
    twins.account(&twin, "office@killed.example", "office", None)?;
    loop {
        let (one, other) = (statuses(disturbed, &names).await?, statuses(&twin, &names_of(&twins)).await?);
        if one == other {
            ensure!(one.len() >= STUDENTS as usize, "only {} statuses were compared", one.len());
            ensure!(one.values().any(|status| !status["since"].is_null()), "no student was seen by any board: {one:?}");
            return Ok(());
        }
        if Instant::now() > end {
            let differ: Vec<_> = one.iter().filter(|(key, value)| other.get(*key) != Some(value)).take(3).collect();
            let wanted: Vec<_> = differ.iter().map(|(key, _)| other.get(*key)).collect();
            anyhow::bail!("the killed server says {differ:?}, the undisturbed one {wanted:?}");
        }
        sleep(LOOK * 10).await;
    }
}

/// The same event with the badge that the other server knows.
fn with_badges_of(event: &Event, badges: &BTreeMap<&str, &str>) -> Result<Event> {
    let mut event = event.clone();
    if let Word::Scan { badge, person, .. } = &mut event.word {
        *badge = (*badges.get(person.as_str()).context("the twin has no such student")?).to_owned();
    }
    Ok(event)
}

/// What the roster calls each student, which is the same on every server.
fn names_of(district: &District) -> BTreeMap<String, String> {
    district.students.iter().map(|student| (student.id.clone(), student.source_id.clone())).collect()
}

/// By section and student: what the board says, without the ids that differ between two servers.
async fn statuses(instance: &Instance, names: &BTreeMap<String, String>) -> Result<BTreeMap<(String, String), Value>> {
    let session = District::sign_in(instance, "office@killed.example").await?;
    let sections = session.get("/sections").await?;
    let mut live = Live::connect(&instance.http, &session).await?;
    let sections: Vec<&Value> = sections["items"].as_array().into_iter().flatten().collect();
    for (number, section) in (0u64..).zip(&sections) {
        live.subscribe(number, &format!("section/{}/attendance", section["id"].as_str().unwrap_or_default()), None).await?;
    }
    live.until("all boards", 30, |live| live.boards.len() == sections.len()).await?;
    let mut statuses = BTreeMap::new();
    for (number, section) in (0u64..).zip(&sections) {
        let place = format!("{} {} {}", section["title"], section["room"], section["starts"]);
        for (student, entry) in live.board(number).data["students"].as_object().into_iter().flatten() {
            let word = json!({"status": entry["status"], "since": entry["since"], "rule": entry["rule"]});
            statuses.insert((place.clone(), names.get(student).context("a board names a stranger")?.clone()), word);
        }
    }
    Ok(statuses)
}
