//! What administrators do: districts, devices, badges and accounts, for the command line and the API alike.
//!
//! People, sections and schools may be named by their id, by the sourcedId of the roster, and schools by their name.
//! Every write leaves an audit row in the same transaction, in the name of the transaction's caller. Secrets are returned once and stored as hashes.

use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{AccountId, BadgeId, DeviceId, DistrictId, PersonId, SchoolId, SectionId};
use sqlx::Row;
use uuid::Uuid;

use crate::connection::{Store, Tenant};
use crate::error::StoreError;
use crate::secret;

/// Badges and other things that people read off a screen begin with this, so that a leaked one is recognised.
const BADGE_PREFIX: &str = "b_";

/// Longest name of a device, in characters.
const DEVICE_NAME_CHARS_MAX: usize = 100;

/// All districts of this server, by name.
pub async fn districts(store: &Store) -> Result<Vec<(DistrictId, String)>, StoreError> {
    let rows = sqlx::query("select district, name from rollcall.districts()").fetch_all(store.pool()).await?;
    rows.iter().map(|row| Ok((DistrictId(row.try_get(0)?), row.try_get(1)?))).collect()
}

/// The district of this name; without a name the only one there is.
pub async fn find_district(store: &Store, name: Option<&str>) -> Result<DistrictId, StoreError> {
    let all = districts(store).await?;
    match name {
        Some(name) => all.iter().find(|(_, other)| other == name).map(|(id, _)| *id).ok_or_else(|| StoreError::not_found("district", name)),
        None => match all.as_slice() {
            [(only, _)] => Ok(*only),
            [] => Err(StoreError::Invalid("there is no district yet; import a roster first".into())),
            several => {
                let choices = several.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
                Err(StoreError::Ambiguous { what: "districts", choices })
            }
        },
    }
}

/// A school by id, sourcedId or name.
pub async fn find_school(tenant: &mut Tenant, wanted: &str) -> Result<SchoolId, StoreError> {
    let found: Option<Uuid> = sqlx::query_scalar(
        "select id from rollcall.school where id::text = lower($1) or source_id = $1 or name = $1
         order by (id::text = lower($1)) desc, (source_id = $1) desc nulls last limit 1",
    )
    .bind(wanted)
    .fetch_optional(&mut **tenant)
    .await?;
    found.map(SchoolId).ok_or_else(|| StoreError::not_found("school", wanted))
}

/// A person's id and kind (`student`, `staff`, `guardian`), by id or sourcedId.
pub async fn find_person(tenant: &mut Tenant, wanted: &str) -> Result<(PersonId, String), StoreError> {
    let found: Option<(Uuid, String)> = sqlx::query_as(
        "select id, kind from rollcall.person where id::text = lower($1) or source_id = $1 order by (id::text = lower($1)) desc limit 1",
    )
    .bind(wanted)
    .fetch_optional(&mut **tenant)
    .await?;
    found.map(|(id, kind)| (PersonId(id), kind)).ok_or_else(|| StoreError::not_found("person", wanted))
}

/// A section by id or sourcedId.
pub async fn find_section(tenant: &mut Tenant, wanted: &str) -> Result<SectionId, StoreError> {
    let found: Option<Uuid> = sqlx::query_scalar(
        "select id from rollcall.section where id::text = lower($1) or source_id = $1 order by (id::text = lower($1)) desc limit 1",
    )
    .bind(wanted)
    .fetch_optional(&mut **tenant)
    .await?;
    found.map(SectionId).ok_or_else(|| StoreError::not_found("section", wanted))
}

/// A device to register.
#[derive(Clone, Debug)]
pub struct NewDevice {
    pub school: SchoolId,
    pub kind: DeviceKind,
    pub name: String,
    pub gateway: Option<DeviceId>,
    /// Only of a tablet or wearable.
    pub person: Option<PersonId>,
    /// Only of a room scanner.
    pub section: Option<SectionId>,
}

/// Registers a device. Returns its id and its token, which is not stored and cannot be shown again.
pub async fn add_device(tenant: &mut Tenant, device: &NewDevice) -> Result<(DeviceId, String), StoreError> {
    let name = device.name.trim();
    if name.is_empty() || name.chars().count() > DEVICE_NAME_CHARS_MAX {
        return Err(StoreError::Invalid(format!("a device's name has 1 to {DEVICE_NAME_CHARS_MAX} characters")));
    }
    if device.person.is_some() && !matches!(device.kind, DeviceKind::Tablet | DeviceKind::Wearable) {
        return Err(StoreError::Invalid("only a tablet or a wearable can be assigned to a person".into()));
    }
    if device.section.is_some() && device.kind != DeviceKind::Room {
        return Err(StoreError::Invalid("only a room scanner can be assigned to a section".into()));
    }
    if let Some(gateway) = device.gateway {
        require_gateway(tenant, gateway, device.school).await?;
    }
    let (id, token) = (DeviceId::random(), secret::generate(""));
    sqlx::query(
        "insert into rollcall.device (district, id, school, kind, name, token_hash, gateway, person, section)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tenant.district().0)
    .bind(id.0)
    .bind(device.school.0)
    .bind(device.kind.as_str())
    .bind(name)
    .bind(secret::hash(&token).as_slice())
    .bind(device.gateway.map(|id| id.0))
    .bind(device.person.map(|id| id.0))
    .bind(device.section.map(|id| id.0))
    .execute(&mut **tenant)
    .await?;
    audit(tenant, "device.add", &id.to_string()).await?;
    Ok((id, token))
}

async fn require_gateway(tenant: &mut Tenant, gateway: DeviceId, school: SchoolId) -> Result<(), StoreError> {
    let found: Option<(String, Uuid)> =
        sqlx::query_as("select kind, school from rollcall.device where id = $1").bind(gateway.0).fetch_optional(&mut **tenant).await?;
    match found {
        Some((kind, at)) if kind == DeviceKind::Gateway.as_str() && at == school.0 => Ok(()),
        Some(_) => Err(StoreError::Invalid(format!("{gateway} is not a gateway of that school"))),
        None => Err(StoreError::not_found("device", gateway)),
    }
}

/// A registered device as people see it; its token is not kept.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ListedDevice {
    pub id: DeviceId,
    pub school: SchoolId,
    pub school_name: String,
    pub kind: String,
    pub name: String,
    pub gateway: Option<DeviceId>,
    pub person: Option<PersonId>,
    pub section: Option<SectionId>,
    pub disabled: bool,
}

/// All devices of the district, by school and name.
pub async fn list_devices(tenant: &mut Tenant) -> Result<Vec<ListedDevice>, StoreError> {
    let rows = sqlx::query(
        "select d.id, d.school, s.name as school_name, d.kind, d.name, d.gateway, d.person, d.section, d.disabled
         from rollcall.device d join rollcall.school s on s.district = d.district and s.id = d.school order by s.name, d.name, d.id",
    )
    .fetch_all(&mut **tenant)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ListedDevice {
                id: DeviceId(row.try_get("id")?),
                school: SchoolId(row.try_get("school")?),
                school_name: row.try_get("school_name")?,
                kind: row.try_get("kind")?,
                name: row.try_get("name")?,
                gateway: row.try_get::<Option<Uuid>, _>("gateway")?.map(DeviceId),
                person: row.try_get::<Option<Uuid>, _>("person")?.map(PersonId),
                section: row.try_get::<Option<Uuid>, _>("section")?.map(SectionId),
                disabled: row.try_get("disabled")?,
            })
        })
        .collect()
}

/// A badge that was just issued. `badge` is the secret to print; it is not stored.
#[derive(Clone, Debug, serde::Serialize)]
pub struct IssuedBadge {
    pub badge: String,
    pub id: BadgeId,
    pub person: PersonId,
    pub source_id: Option<String>,
}

/// Issues a badge to one person. Earlier badges stay valid until they are revoked.
pub async fn issue_badge(tenant: &mut Tenant, person: PersonId) -> Result<IssuedBadge, StoreError> {
    let found: Option<(Option<String>,)> =
        sqlx::query_as("select source_id from rollcall.person where id = $1").bind(person.0).fetch_optional(&mut **tenant).await?;
    let Some((source_id,)) = found else { return Err(StoreError::not_found("person", person)) };
    let mut issued = issue(tenant, vec![(person, source_id)]).await?;
    issued.pop().ok_or_else(|| StoreError::not_found("person", person))
}

/// Issues a badge to each active student of a school who has none that is valid, by sourcedId.
pub async fn issue_badges_for_school(tenant: &mut Tenant, school: SchoolId) -> Result<Vec<IssuedBadge>, StoreError> {
    let rows = sqlx::query(
        "select p.id, p.source_id from rollcall.person p
         where p.kind = 'student' and p.active
           and exists (select from rollcall.membership m where m.person = p.id and m.school = $1 and current_date >= m.starts and current_date < m.ends)
           and not exists (select from rollcall.badge b where b.person = p.id and b.revoked_at is null)
         order by p.source_id, p.id",
    )
    .bind(school.0)
    .fetch_all(&mut **tenant)
    .await?;
    let people = rows.iter().map(|row| Ok((PersonId(row.try_get(0)?), row.try_get(1)?))).collect::<Result<Vec<_>, StoreError>>()?;
    issue(tenant, people).await
}

async fn issue(tenant: &mut Tenant, people: Vec<(PersonId, Option<String>)>) -> Result<Vec<IssuedBadge>, StoreError> {
    let issued: Vec<IssuedBadge> = people
        .into_iter()
        .map(|(person, source_id)| IssuedBadge { badge: secret::generate(BADGE_PREFIX), id: BadgeId::random(), person, source_id })
        .collect();
    sqlx::query(
        "insert into rollcall.badge (district, id, person, token_hash) select $1, * from unnest($2::uuid[], $3::uuid[], $4::bytea[])",
    )
    .bind(tenant.district().0)
    .bind(issued.iter().map(|badge| badge.id.0).collect::<Vec<_>>())
    .bind(issued.iter().map(|badge| badge.person.0).collect::<Vec<_>>())
    .bind(issued.iter().map(|badge| secret::hash(&badge.badge).to_vec()).collect::<Vec<_>>())
    .execute(&mut **tenant)
    .await?;
    for badge in &issued {
        audit(tenant, "badge.issue", &badge.person.to_string()).await?;
    }
    Ok(issued)
}

/// An account to create. `password_hash` is a PHC string of [`crate::password::Passwords::hash`].
#[derive(Clone, Debug)]
pub struct NewAccount {
    pub email: String,
    /// `teacher`, `office`, `analyst`, `guardian` or `it`.
    pub role: String,
    pub person: Option<PersonId>,
    pub school: Option<SchoolId>,
    pub password_hash: String,
}

/// Creates an account. A teacher's person must be staff, a guardian's a guardian.
pub async fn add_account(tenant: &mut Tenant, account: &NewAccount) -> Result<AccountId, StoreError> {
    let email = account.email.trim().to_lowercase();
    if email.len() > 254 || !email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
        return Err(StoreError::Invalid(format!("{:?} is not an e-mail address", account.email)));
    }
    check_person(tenant, account).await?;
    let id = AccountId::random();
    sqlx::query(
        "insert into rollcall.account (district, id, email, password_hash, role, person, school) values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant.district().0)
    .bind(id.0)
    .bind(&email)
    .bind(&account.password_hash)
    .bind(&account.role)
    .bind(account.person.map(|id| id.0))
    .bind(account.school.map(|id| id.0))
    .execute(&mut **tenant)
    .await?;
    audit(tenant, "account.add", &id.to_string()).await?;
    Ok(id)
}

async fn check_person(tenant: &mut Tenant, account: &NewAccount) -> Result<(), StoreError> {
    let needed = match account.role.as_str() {
        "teacher" => Some("staff"),
        "guardian" => Some("guardian"),
        _ => None,
    };
    match (needed, account.person) {
        (Some(kind), None) => Err(StoreError::Invalid(format!("a {} account needs a person who is {kind}", account.role))),
        (needed, Some(person)) => {
            let (_, kind) = find_person(tenant, &person.to_string()).await?;
            match needed {
                Some(needed) if needed != kind => {
                    Err(StoreError::Invalid(format!("that person is {kind}; a {} account needs {needed}", account.role)))
                }
                _ => Ok(()),
            }
        }
        (None, None) => Ok(()),
    }
}

async fn audit(tenant: &mut Tenant, action: &str, subject: &str) -> Result<(), StoreError> {
    sqlx::query("insert into rollcall.audit (district, account, action, subject) values ($1, rollcall.current_caller(), $2, $3)")
        .bind(tenant.district().0)
        .bind(action)
        .bind(subject)
        .execute(&mut **tenant)
        .await?;
    Ok(())
}
