//! `rollcall demo`: a synthetic district in a folder of its own, the server, and simulated devices as processes of their own.
//!
//! The folder is emptied at every start, because the district's school day is laid around the present minute; a folder
//! that holds anything else than an earlier demo is left alone.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{Days, NaiveDate, Timelike, Utc};
use chrono_tz::Tz;
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::PersonId;
use rollcall_model::schedule::instant_of;
use rollcall_roster::roster::PersonKind;
use rollcall_roster::synthetic::{self, DayShape, Plan};
use rollcall_roster::{LoadOptions, Roster};
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_store::admin::{self, NewAccount, NewDevice};
use rollcall_store::engagement::{self, Consent, Purpose};
use rollcall_store::password::Passwords;
use rollcall_store::{Tenant, roster};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cli::Demo;
use crate::config::Config;
use crate::database::{Database, Use};
use crate::folder_lock::FolderLock;
use crate::simulate::{PastDay, Plan as Simulation, PlannedBadge, PlannedDevice};

const MARKER: &str = ".rollcall-demo";
const LOCK: &str = "demo.lock";
const DISTRICT: &str = "Demo District";
const PASSWORD: &str = "rollcall-demo";
const WEARABLES_PER_SCHOOL: usize = 3;
const TABLETS_PER_SCHOOL: usize = 3;
/// A student with a tablet does something about this often.
const ACTIVITY_EVERY_S: f64 = 20.0;
/// The period in which the demo begins started this long ago: arrivals are present for a minute, then tardy.
const STARTED_MIN: i32 = 3;
/// Days before this one of which there is evidence; gates may send what is two weeks old.
const PAST_DAYS_MAX: usize = 13;
/// Of them all, so many scans: some seconds.
const PAST_SCANS_MAX: usize = 100_000;
const CHILD_STOP: Duration = Duration::from_secs(20);

/// Someone who may sign in.
struct SignIn {
    email: &'static str,
    role: &'static str,
    sees: String,
}

/// The demo's own folder, beside the ordinary one, unless one is named.
pub fn data_dir(config: &Config, named: bool) -> PathBuf {
    if named { config.data_dir.clone() } else { config.data_dir.with_file_name("rollcall-demo") }
}

pub async fn run(mut config: Config, demo: &Demo, named: bool, stop: CancellationToken) -> Result<()> {
    config.data_dir = data_dir(&config, named);
    let _lock = prepare_folder(&config.data_dir).await?;
    let http = address(demo.http.as_deref(), config.http)?;
    let mqtt = address(demo.mqtt.as_deref(), config.mqtt)?;
    println!("seeding {} schools with {} students each", demo.schools, demo.students);
    let (mut simulation, sign_ins) = seed(&config, demo).await?;
    let (mut server, ready) = start_server(&config, http, mqtt).await?;
    let text = |key: &str| ready[key].as_str().map(str::to_owned).with_context(|| format!("the server's ready line names no {key}"));
    simulation.http = format!("http://{}", text("http")?);
    simulation.mqtt = text("mqtt")?;
    let plan = config.data_dir.join("simulation.json");
    std::fs::write(&plan, serde_json::to_vec_pretty(&simulation)?)?;
    let mut simulator = start_simulator(&config, demo, &plan)?;
    print_welcome(&simulation, &sign_ins, &config.data_dir);
    let end = async {
        match demo.run_for_s {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = end => Ok(()),
        ended = server.wait() => Err(anyhow::anyhow!("the server ended: {}", ended?)),
    };
    end_child(&mut simulator).await;
    end_child(&mut server).await;
    outcome
}

/// Empties the folder; it is this demo's while the lock is held.
async fn prepare_folder(dir: &Path) -> Result<FolderLock> {
    let is_taken = || format!("a demo is running in {}; stop it first, or name another folder with --data-dir", dir.display());
    if dir.exists() {
        let empty = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.next().is_none();
        if !empty && !dir.join(MARKER).exists() {
            bail!("{} is not the folder of an earlier demo; name an empty one with --data-dir", dir.display());
        }
        let _earlier = (FolderLock::take_as(dir, LOCK, is_taken)?, FolderLock::take(dir)?);
        if rollcall_store::embedded::running_url(dir, "rollcall").is_some() {
            // Its demo was killed, and could not stop it.
            EmbeddedPostgres::start(dir).await?.stop().await;
        }
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    std::fs::write(dir.join(MARKER), "made by rollcall demo; emptied at every start\n")?;
    FolderLock::take_as(dir, LOCK, is_taken)
}

/// The wished address, which must be free; without a wish the usual one, or a free port where that is taken.
fn address(wished: Option<&str>, usual: SocketAddr) -> Result<SocketAddr> {
    match wished {
        Some(text) => text.parse().with_context(|| format!("{text:?} is no address, such as 127.0.0.1:8080")),
        None if TcpListener::bind(usual).is_ok() => Ok(usual),
        None => {
            println!("port {} is taken; a free one is used", usual.port());
            Ok(SocketAddr::new(usual.ip(), 0))
        }
    }
}

/// A zone in which it is about noon: the demo's school day then never meets midnight, whenever it is run.
fn zone_at_noon() -> Tz {
    let ahead = 12 - i64::from(Utc::now().hour());
    // The names of these zones have the sign reversed.
    format!("Etc/GMT{}{}", if ahead > 0 { '-' } else { '+' }, ahead.abs()).parse().unwrap_or(Tz::UTC)
}

/// Imports the district and equips it; addresses of the plan are filled in when the server runs.
async fn seed(config: &Config, demo: &Demo) -> Result<(Simulation, Vec<SignIn>)> {
    let zone = zone_at_noon();
    let now = Utc::now().with_timezone(&zone);
    let plan = Plan {
        schools: demo.schools as usize,
        students_per_school: demo.students as usize,
        zone,
        shape: DayShape::Around { now: now.time(), started_min: STARTED_MIN },
        ..Plan::new(DISTRICT, now.date_naive())
    };
    let (package, timetable) = (config.data_dir.join("roster.zip"), config.data_dir.join("timetable"));
    let generated = synthetic::generate(&plan)?;
    generated.write_package(&package)?;
    std::fs::create_dir_all(&timetable)?;
    generated.write_timetable(&timetable)?;
    let loaded = rollcall_roster::load(&package, Some(&timetable), &LoadOptions { default_zone: Some(zone) })?;
    let database = Database::open(config, Use::Command).await?;
    let report = roster::import(&database.store, &database.vault, DISTRICT, &loaded.roster, now.date_naive(), &mut |_| ()).await?;
    let mut tenant = database.store.tenant(report.district).await?;
    let simulation = equip(&mut tenant, &loaded.roster, now.date_naive()).await?;
    let sign_ins = accounts(&mut tenant, &loaded.roster).await?;
    tenant.commit().await?;
    database.close().await;
    Ok((simulation, sign_ins))
}

async fn equip(tenant: &mut Tenant, roster: &Roster, today: NaiveDate) -> Result<Simulation> {
    let past = past_days(roster, today);
    let mut simulation = Simulation { mqtt: String::new(), http: String::new(), devices: Vec::new(), badges: Vec::new(), past };
    for school in &roster.schools {
        let id = admin::find_school(tenant, &school.source_id).await?;
        let mut wanted = vec![(DeviceKind::Gate, "Main gate".to_owned()), (DeviceKind::Gate, "Bus gate".to_owned())];
        wanted.extend((1..=WEARABLES_PER_SCHOOL).map(|n| (DeviceKind::Wearable, format!("Band {n}"))));
        wanted.extend((1..=TABLETS_PER_SCHOOL).map(|n| (DeviceKind::Tablet, format!("Tablet cart {n}"))));
        // The school's word for learning apps; without one on file no engagement is computed.
        let consent = Consent { school: id, student: None, purpose: Purpose::Activity, granted: true, starts: None, ends: None };
        engagement::record_consent(tenant, &consent).await?;
        for (kind, name) in wanted {
            let device = NewDevice { school: id, kind, name, gateway: None, person: None, section: None };
            let (device, token) = admin::add_device(tenant, &device).await?;
            simulation.devices.push(PlannedDevice {
                id: device.to_string(),
                token,
                kind: kind.as_str().to_owned(),
                school: school.source_id.clone(),
            });
        }
        for badge in admin::issue_badges_for_school(tenant, id).await? {
            simulation.badges.push(PlannedBadge { badge: badge.badge, school: school.source_id.clone() });
        }
    }
    Ok(simulation)
}

/// The school days before this one that gates may still tell of, as many as do not keep the demo from its own day.
fn past_days(roster: &Roster, today: NaiveDate) -> Vec<PastDay> {
    let students = roster.people.iter().filter(|person| person.kind == PersonKind::Student).count();
    let days_max = PAST_DAYS_MAX.min(PAST_SCANS_MAX / (2 * students.max(1)));
    let first = today - Days::new(days_max as u64);
    let days = roster.timetable.calendar.iter().filter(|day| (first..today).contains(&day.date));
    days.filter_map(|day| {
        let schedules = roster.timetable.schedules.iter();
        let valid = schedules.filter(|it| it.school == day.school && it.name == day.schedule && it.valid_from <= day.date);
        let bells = &valid.max_by_key(|schedule| schedule.valid_from)?.bells;
        let school = &roster.schools[day.school];
        let instant = |time| instant_of(day.date, time, school.zone).0;
        let first_bell_ms = instant(bells.iter().map(|bell| bell.starts).min()?);
        let last_bell_ms = instant(bells.iter().map(|bell| bell.ends).max()?);
        Some(PastDay { school: school.source_id.clone(), first_bell_ms, last_bell_ms })
    })
    .collect()
}

async fn accounts(tenant: &mut Tenant, roster: &Roster) -> Result<Vec<SignIn>> {
    let section = roster.sections.first().context("the district has no section")?;
    let of_section =
        |role| roster.enrolments.iter().find(|enrolment| enrolment.section == 0 && enrolment.role == role).map(|found| found.person);
    let teacher = of_section(rollcall_roster::roster::EnrolmentRole::Teacher).context("the first section has no teacher")?;
    let student = of_section(rollcall_roster::roster::EnrolmentRole::Student).context("the first section has no student")?;
    let guardian = roster.guardians.iter().find(|found| found.student == student).context("the first student has no guardian")?.guardian;
    let school = &roster.schools[section.school];
    let sign_ins = vec![
        (SignIn { email: "teacher@demo.example", role: "teacher", sees: "the live board of a class".into() }, Some(teacher)),
        (SignIn { email: "office@demo.example", role: "office", sees: "who is in the building".into() }, None),
        (SignIn { email: "analyst@demo.example", role: "analyst", sees: "the district, without names".into() }, None),
        (SignIn { email: "parent@demo.example", role: "guardian", sees: format!("one child at {}", school.name) }, Some(guardian)),
        (SignIn { email: "it@demo.example", role: "it", sees: "devices and dead letters".into() }, None),
    ];
    let passwords = Passwords::new(1)?;
    for (sign_in, person) in &sign_ins {
        let person: Option<PersonId> = match person {
            Some(index) => Some(admin::find_person(tenant, &roster.people[*index].source_id).await?.0),
            None => None,
        };
        let password_hash = passwords.hash(PASSWORD.to_owned()).await?;
        let account = NewAccount { email: sign_in.email.into(), role: sign_in.role.into(), person, school: None, password_hash };
        admin::add_account(tenant, &account).await?;
    }
    Ok(sign_ins.into_iter().map(|(sign_in, _)| sign_in).collect())
}

async fn start_server(config: &Config, http: SocketAddr, mqtt: SocketAddr) -> Result<(Child, serde_json::Value)> {
    let log_path = config.data_dir.join("server.log");
    let log = std::fs::File::create(&log_path)?;
    let mut serve = Command::new(std::env::current_exe()?);
    if config.exports.url.reveal().is_empty() {
        let folder = std::path::absolute(config.data_dir.join("exports"))?;
        let url = Url::from_directory_path(&folder).ok().with_context(|| format!("{} is no folder for exports", folder.display()))?;
        serve.env("ROLLCALL_EXPORTS_URL", url.as_str());
    }
    let mut server = serve
        .arg("serve")
        .arg("--data-dir")
        .arg(&config.data_dir)
        .args(["--http", &http.to_string(), "--mqtt", &mqtt.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A Ctrl-C at the terminal is for the demo, which ends its children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the server")?;
    let mut line = String::new();
    if let Some(stdout) = server.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).await?;
    }
    let ready = serde_json::from_str(&line).with_context(|| {
        let log = std::fs::read_to_string(&log_path).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it said nothing").to_owned();
        format!("the server did not start: {last}")
    })?;
    Ok((server, ready))
}

fn start_simulator(config: &Config, demo: &Demo, plan: &Path) -> Result<Child> {
    let log = std::fs::File::create(config.data_dir.join("simulator.log"))?;
    // Everybody arrives within about four minutes, whatever the size of the district.
    let arrivals_per_s = f64::from(demo.schools * demo.students) / 240.0;
    let activity_per_s = f64::from(demo.schools * demo.students) / ACTIVITY_EVERY_S;
    Command::new(std::env::current_exe()?)
        .arg("simulate")
        .arg("--plan")
        .arg(plan)
        .args(["--arrivals-per-s", &arrivals_per_s.to_string()])
        .args(["--activity-per-s", &activity_per_s.to_string()])
        .arg("--stay")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the simulator")
}

fn print_welcome(simulation: &Simulation, sign_ins: &[SignIn], dir: &Path) {
    println!("\n  Rollcall runs at {}   (MQTT at {})\n", simulation.http, simulation.mqtt);
    for sign_in in sign_ins {
        println!("  {:<9} {:<22} password {PASSWORD}   {}", sign_in.role, sign_in.email, sign_in.sees);
    }
    println!("\n  {} badges and {} devices; everything is in {}", simulation.badges.len(), simulation.devices.len(), dir.display());
    println!("  Ctrl-C ends it.\n");
}

async fn end_child(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // SAFETY: the child has not been waited for, so the pid is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        if tokio::time::timeout(CHILD_STOP, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}
