//! People and who is whose guardian.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use rollcall_model::ids::{DistrictId, PersonId};
use rollcall_roster::roster::Person;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{CHUNK_ROWS, LEAVING_SHARE_WARNED, Loading, Tally, tally};
use crate::vault::{Field, PersonName, Vault};
use crate::{StoreError, Tenant};

/// What `contact_sealed` holds.
#[derive(PartialEq, Serialize, Deserialize)]
struct SealedContact {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sms: Option<String>,
}

/// The contact as it is sealed; none when there is nothing to say.
fn contact(person: &Person) -> Option<String> {
    let c = &person.contact;
    let sealed = SealedContact { email: c.email.clone(), phone: c.phone.clone(), sms: c.sms.clone() };
    let nothing = c.email.is_none() && c.phone.is_none() && c.sms.is_none();
    (!nothing).then(|| serde_json::to_string(&sealed).expect("strings always serialise"))
}

/// A digest of everything the roster says of a person, which stays in memory only.
fn digest(kind: &str, given: &str, family: &str, contact: Option<&str>, grade: Option<&str>) -> Uuid {
    let mut text = String::new();
    for part in [Some(kind), Some(given), Some(family), contact, grade] {
        // Lengths keep "ab" + "c" and "a" + "bc" apart, and nothing from empty.
        text.push_str(&part.map_or_else(|| "-".to_owned(), |part| format!("{}:{part}", part.len())));
    }
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
}

struct Existing {
    active: bool,
    digest: Uuid,
}

fn existing(row: &PgRow, district: DistrictId, vault: &Vault) -> Result<(Uuid, Existing), StoreError> {
    let id: Uuid = row.try_get(0)?;
    let person = PersonId(id);
    let sealed = |at: usize| row.try_get::<Option<&[u8]>, _>(at);
    let name = vault.open_name(district, person, sealed(2)?, sealed(3)?)?;
    let contact = sealed(4)?.map(|bytes| vault.open(district, person, Field::Contact, bytes)).transpose()?;
    let kind: &str = row.try_get(1)?;
    let grade: Option<&str> = row.try_get(5)?;
    let digest = digest(kind, &name.given, &name.family, contact.as_deref(), grade);
    Ok((id, Existing { active: row.try_get(6)?, digest }))
}

pub(super) async fn people(
    tenant: &mut Tenant,
    loading: &mut Loading<'_>,
    vault: &Vault,
    warnings: &mut Vec<String>,
) -> Result<Tally, StoreError> {
    let district = loading.district;
    let mut known: HashMap<Uuid, Existing> = HashMap::new();
    let mut rows = sqlx::query(
        "select id, kind, given_sealed, family_sealed, contact_sealed, grade, active from rollcall.person
         where district = $1 and source_id is not null",
    )
    .bind(district.0)
    .fetch(&mut **tenant);
    while let Some(row) = rows.try_next().await? {
        let (id, person) = existing(&row, district, vault)?;
        known.insert(id, person);
    }
    drop(rows);
    let active_before = known.values().filter(|person| person.active).count();
    let mut total = Tally::default();
    let roster = loading.roster;
    let mut at = 0;
    for chunk in roster.people.chunks(CHUNK_ROWS) {
        let changed: Vec<(Uuid, &Person)> = chunk
            .iter()
            .zip(&loading.ids.people[at..])
            .filter(|(person, id)| {
                let said = digest(person.kind.as_str(), &person.given, &person.family, contact(person).as_deref(), person.grade.as_deref());
                !known.remove(*id).is_some_and(|before| before.active && before.digest == said)
            })
            .map(|(person, id)| (*id, person))
            .collect();
        at += chunk.len();
        total += write(tenant, district, vault, &changed).await?;
        loading.advance("people", chunk.len());
    }
    let gone: Vec<Uuid> = known.into_iter().filter(|(_, person)| person.active).map(|(id, _)| id).collect();
    sqlx::query("update rollcall.person set active = false where district = $1 and id = any($2)")
        .bind(district.0)
        .bind(&gone)
        .execute(&mut **tenant)
        .await?;
    total.ended = gone.len() as u64;
    if gone.len() as f64 > active_before as f64 * LEAVING_SHARE_WARNED {
        warnings.push(format!(
            "{} of {active_before} people are not in this file and became inactive; was it a complete export of the whole district?",
            gone.len()
        ));
    }
    Ok(total)
}

async fn write(tenant: &mut Tenant, district: DistrictId, vault: &Vault, people: &[(Uuid, &Person)]) -> Result<Tally, StoreError> {
    if people.is_empty() {
        return Ok(Tally::default());
    }
    let mut given = Vec::with_capacity(people.len());
    let mut family = Vec::with_capacity(people.len());
    let mut contacts = Vec::with_capacity(people.len());
    for (id, person) in people {
        let name = PersonName { given: person.given.clone(), family: person.family.clone() };
        let (g, f) = vault.seal_name(district, PersonId(*id), &name)?;
        given.push(g);
        family.push(f);
        contacts.push(contact(person).map(|text| vault.seal(district, PersonId(*id), Field::Contact, &text)).transpose()?);
    }
    let new: Vec<bool> = sqlx::query_scalar(
        "insert into rollcall.person (district, id, source_id, kind, given_sealed, family_sealed, contact_sealed, grade)
         select $1, * from unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::text[])
         on conflict (district, id) do update set source_id = excluded.source_id, kind = excluded.kind, given_sealed = excluded.given_sealed,
            family_sealed = excluded.family_sealed, contact_sealed = excluded.contact_sealed, grade = excluded.grade, active = true
         returning (xmax = 0)",
    )
    .bind(district.0)
    .bind(people.iter().map(|p| p.0).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.1.source_id.as_str()).collect::<Vec<_>>())
    .bind(people.iter().map(|p| p.1.kind.as_str()).collect::<Vec<_>>())
    .bind(given)
    .bind(family)
    .bind(contacts)
    .bind(people.iter().map(|p| p.1.grade.as_deref()).collect::<Vec<_>>())
    .fetch_all(&mut **tenant)
    .await?;
    Ok(tally(&new))
}

/// Ties between people of earlier imports that the roster no longer knows are deleted at once: they grant access.
pub(super) async fn guardians(tenant: &mut Tenant, loading: &mut Loading<'_>) -> Result<Tally, StoreError> {
    let rows: Vec<(Uuid, Uuid, Option<String>)> = sqlx::query_as(
        "select g.guardian, g.student, g.relation from rollcall.guardian g
         join rollcall.person a on a.district = g.district and a.id = g.guardian and a.source_id is not null
         join rollcall.person b on b.district = g.district and b.id = g.student and b.source_id is not null where g.district = $1",
    )
    .bind(loading.district.0)
    .fetch_all(&mut **tenant)
    .await?;
    let mut known: HashMap<(Uuid, Uuid), Option<String>> = rows.into_iter().map(|(g, s, relation)| ((g, s), relation)).collect();
    let roster = loading.roster;
    let mut total = Tally::default();
    for chunk in roster.guardians.chunks(CHUNK_ROWS) {
        let mut seen = HashSet::new();
        let changed: Vec<_> = chunk
            .iter()
            .map(|g| (loading.ids.people[g.guardian], loading.ids.people[g.student], g.relation))
            .filter(|(g, s, relation)| {
                known.remove(&(*g, *s)).is_none_or(|before| before.as_deref() != Some(*relation)) && seen.insert((*g, *s))
            })
            .collect();
        let new: Vec<bool> = sqlx::query_scalar(
            "insert into rollcall.guardian (district, guardian, student, relation)
             select $1, * from unnest($2::uuid[], $3::uuid[], $4::text[])
             on conflict (district, guardian, student) do update set relation = excluded.relation returning (xmax = 0)",
        )
        .bind(loading.district.0)
        .bind(changed.iter().map(|c| c.0).collect::<Vec<_>>())
        .bind(changed.iter().map(|c| c.1).collect::<Vec<_>>())
        .bind(changed.iter().map(|c| c.2).collect::<Vec<_>>())
        .fetch_all(&mut **tenant)
        .await?;
        total += tally(&new);
        loading.advance("guardians", chunk.len());
    }
    let (guardians, students): (Vec<Uuid>, Vec<Uuid>) = known.into_keys().unzip();
    sqlx::query(
        "delete from rollcall.guardian g using unnest($2::uuid[], $3::uuid[]) as n(guardian, student)
                 where g.district = $1 and g.guardian = n.guardian and g.student = n.student",
    )
    .bind(loading.district.0)
    .bind(&guardians)
    .bind(&students)
    .execute(&mut **tenant)
    .await?;
    total.ended = guardians.len() as u64;
    Ok(total)
}
