//! Erasures: people of whom nothing may be shown or made any more that the log said before an offset.
//!
//! # Promises
//! - Once an erasure is committed, the event tables show nothing of the person from before its offset, no rollup and no window of
//!   engagement names it, and none comes back: not by a reader of the log that is behind, nor by making rollups anew. What the log says from
//!   the offset on is kept, and so are the figures of a class as a whole.
//! - History follows: [`open`] names the erasures that it has not carried out.
//! - An erasure is never forgotten and never taken back; asked for again its offset only grows.
//! - It is about what devices said. The record of attendance (marks, statuses) and the directory are not touched.
//!
//! # Order
//! Whoever adds rows of people holds `rollcall.erasure` in share mode from before it looks who is erased until it commits. An erasure
//! writes to that table first and deletes then. So each of the two sees what the other has committed.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rollcall_model::ids::{AccountId, DistrictId, Offset, PersonId};
use rollcall_model::time::UtcMillis;
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::connection::{Store, Tenant};
use crate::error::StoreError;
use crate::rollup::READER;

/// Open erasures that are read at a time.
pub const OPEN_MAX: i64 = 100;

/// Erases a person in the transaction's district, as far as the log had said it before `before` or the rollups have it already. Returns
/// the rows of rollups that are gone. It waits for transactions that add rows of people, which are short.
pub async fn erase(tenant: &mut Tenant, person: PersonId, before: Offset) -> Result<u64, StoreError> {
    // Before any look at the reader's offset, which stands still from here on.
    tenant.execute("lock table rollcall.erasure in row exclusive mode").await?;
    sqlx::query(
        "insert into rollcall.erasure as e (district, person, before, asked_by)
         select $1, $2, greatest($3, (select next from rollcall.consumer_offset where reader = $4)), rollcall.current_caller()
         on conflict (district, person) do update
             set before = greatest(e.before, excluded.before), asked_at = now(), asked_by = excluded.asked_by,
                 history_at = case when excluded.before <= e.before then e.history_at end",
    )
    .bind(tenant.district().0)
    .bind(person.0)
    .bind(before.0.cast_signed())
    .bind(READER)
    .execute(&mut **tenant)
    .await?;
    let deleted = sqlx::query("delete from rollcall.student_day where student = $1").bind(person.0).execute(&mut **tenant).await?;
    // A class keeps what it was as a whole. The sections of the student keep this from reading the windows of the district.
    sqlx::query(
        "update rollcall.engagement_window w
         set students = (select coalesce(jsonb_agg(s), '[]') from jsonb_array_elements(w.students) s where s->>'student' <> $1::uuid::text)
         where section in (select section from rollcall.enrolment where person = $1)
           and students @> jsonb_build_array(jsonb_build_object('student', $1::uuid::text))",
    )
    .bind(person.0)
    .execute(&mut **tenant)
    .await?;
    Ok(deleted.rows_affected())
}

/// An erasure as people see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Erasure {
    /// When it was asked for last.
    pub asked: UtcMillis,
    /// `None`: by the program itself.
    pub asked_by: Option<AccountId>,
    /// When history had no file with the person's rows any more; `None`: not yet.
    pub history: Option<UtcMillis>,
}

/// The erasure of a person in the transaction's district, if there is one.
pub async fn find(connection: &mut PgConnection, person: PersonId) -> Result<Option<Erasure>, StoreError> {
    Ok(of(connection, &[person]).await?.remove(&person))
}

/// The erasures of these people in the transaction's district; who was not erased is missing.
pub async fn of(connection: &mut PgConnection, people: &[PersonId]) -> Result<HashMap<PersonId, Erasure>, StoreError> {
    type Columns = (Uuid, DateTime<Utc>, Option<Uuid>, Option<DateTime<Utc>>);
    let ids: Vec<Uuid> = people.iter().map(|person| person.0).collect();
    let rows: Vec<Columns> = sqlx::query_as("select person, asked_at, asked_by, history_at from rollcall.erasure where person = any($1)")
        .bind(ids)
        .fetch_all(connection)
        .await?;
    let erasure = |(person, asked, asked_by, history): Columns| {
        let (asked, history) = (UtcMillis::from_chrono(asked), history.map(UtcMillis::from_chrono));
        (PersonId(person), Erasure { asked, asked_by: asked_by.map(AccountId), history })
    };
    Ok(rows.into_iter().map(erasure).collect())
}

/// Erasures of all districts that history has not carried out, with their offsets, in order of district and person: at most
/// [`OPEN_MAX`] after the given one. An erasure may stay open for long, so the rest is found by asking for what comes after the last.
pub async fn open(store: &Store, after: Option<(DistrictId, PersonId)>) -> Result<Vec<(DistrictId, PersonId, Offset)>, StoreError> {
    let (district, person) = after.map_or((Uuid::nil(), Uuid::nil()), |(district, person)| (district.0, person.0));
    let rows: Vec<(Uuid, Uuid, i64)> = sqlx::query_as("select district, person, before from rollcall.open_erasures($1, $2, $3)")
        .bind(district)
        .bind(person)
        .bind(OPEN_MAX)
        .fetch_all(store.pool())
        .await?;
    Ok(rows
        .into_iter()
        .map(|(district, person, before)| (DistrictId(district), PersonId(person), Offset(before.cast_unsigned())))
        .collect())
}

/// History has carried out the erasure up to `before`. If it was asked for again meanwhile it stays open.
pub async fn history_is_done(store: &Store, district: DistrictId, person: PersonId, before: Offset) -> Result<(), StoreError> {
    let mut tenant = store.tenant(district).await?;
    sqlx::query("update rollcall.erasure set history_at = now() where person = $1 and before = $2")
        .bind(person.0)
        .bind(before.0.cast_signed())
        .execute(&mut *tenant)
        .await?;
    tenant.commit().await
}

/// Who is erased, as far as it concerns rows from an offset on. Nearly always nobody.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Erased(HashMap<(DistrictId, Uuid), Offset>);

impl Erased {
    /// Of all districts.
    pub async fn since(connection: &mut PgConnection, offset: Offset) -> Result<Self, StoreError> {
        let rows: Vec<(Uuid, Uuid, i64)> = sqlx::query_as("select district, person, before from rollcall.erasures($1)")
            .bind(offset.0.cast_signed())
            .fetch_all(connection)
            .await?;
        let rows = rows.into_iter().map(|(district, person, before)| ((DistrictId(district), person), Offset(before.cast_unsigned())));
        Ok(Self(rows.collect()))
    }

    /// Whether what the log says of a person at an offset is erased.
    pub fn hides(&self, district: DistrictId, person: Uuid, offset: Offset) -> bool {
        !self.0.is_empty() && self.0.get(&(district, person)).is_some_and(|before| offset < *before)
    }
}

/// When each of these people was erased last, as far as they were.
pub(crate) async fn erased_at(connection: &mut PgConnection, people: &[Uuid]) -> Result<HashMap<Uuid, DateTime<Utc>>, StoreError> {
    let rows: Vec<(Uuid, DateTime<Utc>)> =
        sqlx::query_as("select person, asked_at from rollcall.erasure where person = any($1)").bind(people).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Keeps erasures away until the transaction ends; then says who is erased by [`Erased::since`].
pub(crate) async fn hold(connection: &mut PgConnection) -> Result<(), StoreError> {
    connection.execute("lock table rollcall.erasure in share mode").await?;
    Ok(())
}
