//! The short commands: they open the database that the server uses, do one thing in one transaction, print and end.

use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::DeviceId;
use rollcall_store::admin::{self, NewAccount, NewDevice};
use rollcall_store::password::Passwords;
use rollcall_store::{Store, Tenant};
use serde_json::json;

use crate::cli::{AccountAdd, BadgeIssue, DeviceAdd, DeviceList, InDistrict, Kind};
use crate::config::Config;
use crate::database::{Database, Use};

/// Longest password line that is read; longer input is not a password.
const PASSWORD_LINE_BYTES_MAX: u64 = 4096;

async fn tenant(store: &Store, district: &InDistrict) -> Result<Tenant> {
    let id = admin::find_district(store, district.district.as_deref()).await?;
    Ok(store.tenant(id).await?)
}

pub async fn migrate(config: &Config) -> Result<()> {
    let database = Database::open(config, Use::Migrate).await?;
    println!("the schema is up to date on {}", database.store.engine());
    database.close().await;
    Ok(())
}

pub async fn account_add(config: &Config, add: &AccountAdd) -> Result<()> {
    let password = read_password()?;
    let database = Database::open(config, Use::Command).await?;
    let password_hash = Passwords::new(1)?.hash(password).await?;
    let mut tenant = tenant(&database.store, &add.district).await?;
    let person = match &add.person {
        Some(wanted) => Some(admin::find_person(&mut tenant, wanted).await?.0),
        None => None,
    };
    let school = match &add.school {
        Some(wanted) => Some(admin::find_school(&mut tenant, wanted).await?),
        None => None,
    };
    let account = NewAccount { email: add.email.clone(), role: add.role.as_str().to_owned(), person, school, password_hash };
    let id = admin::add_account(&mut tenant, &account).await.with_context(|| format!("cannot add {}", add.email))?;
    tenant.commit().await?;
    if add.json {
        println!("{}", json!({"id": id}));
    } else {
        println!("{} may sign in as {}", add.email, add.role.as_str());
    }
    database.close().await;
    Ok(())
}

fn read_password() -> Result<String> {
    use std::io::{IsTerminal, Read};
    let input = std::io::stdin();
    if input.is_terminal() {
        eprint!("password: ");
        std::io::stderr().flush()?;
    }
    let mut line = String::new();
    std::io::BufReader::new(input.lock().take(PASSWORD_LINE_BYTES_MAX)).read_line(&mut line).context("cannot read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("the password is read from standard input, which is empty");
    }
    Ok(password.to_owned())
}

const fn device_kind(kind: Kind) -> DeviceKind {
    match kind {
        Kind::Gate => DeviceKind::Gate,
        Kind::Room => DeviceKind::Room,
        Kind::Tablet => DeviceKind::Tablet,
        Kind::Wearable => DeviceKind::Wearable,
        Kind::Gateway => DeviceKind::Gateway,
    }
}

pub async fn device_add(config: &Config, add: &DeviceAdd) -> Result<()> {
    let database = Database::open(config, Use::Command).await?;
    let mut tenant = tenant(&database.store, &add.district).await?;
    let school = admin::find_school(&mut tenant, &add.school).await?;
    let person = match &add.person {
        Some(wanted) => Some(admin::find_person(&mut tenant, wanted).await?.0),
        None => None,
    };
    let section = match &add.section {
        Some(wanted) => Some(admin::find_section(&mut tenant, wanted).await?),
        None => None,
    };
    let gateway = match &add.gateway {
        Some(wanted) => Some(wanted.parse::<DeviceId>().with_context(|| format!("{wanted:?} is no device id"))?),
        None => None,
    };
    let mut device = NewDevice { school, kind: device_kind(add.kind), name: add.name.clone(), gateway, person, section };
    let mut added = Vec::new();
    for number in 1..=add.count.unwrap_or(1) {
        if add.count.is_some() {
            device.name = format!("{} {number}", add.name);
        }
        added.push(admin::add_device(&mut tenant, &device).await?);
    }
    tenant.commit().await?;
    let mut out = std::io::stdout().lock();
    for (id, token) in &added {
        if add.json {
            writeln!(out, "{}", json!({"id": id, "token": token}))?;
        } else {
            writeln!(out, "id    {id}\ntoken {token}")?;
        }
    }
    if !add.json {
        writeln!(out, "A token is not stored and cannot be shown again.")?;
    }
    drop(out);
    database.close().await;
    Ok(())
}

pub async fn device_list(config: &Config, list: &DeviceList) -> Result<()> {
    let database = Database::open(config, Use::Command).await?;
    let mut tenant = tenant(&database.store, &list.district).await?;
    let devices = admin::list_devices(&mut tenant).await?;
    drop(tenant);
    if list.json {
        println!("{}", serde_json::to_string(&devices)?);
    } else {
        for device in &devices {
            let state = if device.disabled { "disabled" } else { "enabled" };
            println!("{}  {:<8}  {:<8}  {}: {}", device.id, device.kind, state, device.school_name, device.name);
        }
    }
    database.close().await;
    Ok(())
}

pub async fn badge_issue(config: &Config, issue: &BadgeIssue) -> Result<()> {
    let database = Database::open(config, Use::Command).await?;
    let mut tenant = tenant(&database.store, &issue.district).await?;
    let issued = match (&issue.person, &issue.school) {
        (Some(person), _) => {
            let (person, _) = admin::find_person(&mut tenant, person).await?;
            vec![admin::issue_badge(&mut tenant, person).await?]
        }
        (None, Some(school)) => {
            let school = admin::find_school(&mut tenant, school).await?;
            admin::issue_badges_for_school(&mut tenant, school).await?
        }
        (None, None) => bail!("name a person or a school"),
    };
    tenant.commit().await?;
    let mut out = std::io::stdout().lock();
    for badge in &issued {
        if issue.json {
            writeln!(out, "{}", json!({"badge": badge.badge, "person": badge.person, "source_id": badge.source_id}))?;
        } else {
            writeln!(out, "{}  {}", badge.badge, badge.source_id.as_deref().unwrap_or_default())?;
        }
    }
    drop(out);
    database.close().await;
    Ok(())
}
