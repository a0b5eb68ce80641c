//! Marks as the sink wrote them.

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::ids::{AccountId, MarkId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::status::{Authority, Mark, MarkStatus};
use rollcall_model::time::UtcMillis;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::Listed;
use crate::error::StoreError;

/// A mark and its place in the log.
#[derive(Clone, Debug)]
pub struct MarkRow {
    pub mark: Mark,
    pub offset: i64,
}

/// Which marks; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct MarkFilter {
    pub student: Option<PersonId>,
    pub section: Option<SectionId>,
    pub date: Option<NaiveDate>,
    /// Only of these sections or about whole days.
    pub sections: Option<Vec<SectionId>>,
    /// Only of this school.
    pub school: Option<SchoolId>,
    /// Only marks before this place in the log.
    pub before: Option<i64>,
}

const COLUMNS: &str =
    "id, school, student, section, period, date, status, authority, author, reason, supersedes, at, recorded_at, log_offset";

/// Newest first.
pub async fn list(connection: &mut PgConnection, filter: &MarkFilter, limit: i64) -> Result<Vec<MarkRow>, StoreError> {
    let sections: Option<Vec<uuid::Uuid>> = filter.sections.as_ref().map(|sections| sections.iter().map(|section| section.0).collect());
    let statement = format!(
        "select {COLUMNS} from rollcall.mark
         where ($1::uuid is null or student = $1) and ($2::uuid is null or section = $2) and ($3::date is null or date = $3)
           and ($4::uuid[] is null or section is null or section = any($4)) and ($5::uuid is null or school = $5)
           and ($6::bigint is null or log_offset < $6)
         order by log_offset desc limit $7"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(filter.student.map(|student| student.0))
        .bind(filter.section.map(|section| section.0))
        .bind(filter.date)
        .bind(sections)
        .bind(filter.school.map(|school| school.0))
        .bind(filter.before)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// One mark.
pub async fn find(connection: &mut PgConnection, id: MarkId) -> Result<Option<MarkRow>, StoreError> {
    let statement = format!("select {COLUMNS} from rollcall.mark where id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.0).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// All marks about a school's date that had been recorded by an instant, oldest first.
pub async fn of_day(connection: &mut PgConnection, school: SchoolId, date: NaiveDate, as_of: UtcMillis) -> Result<Vec<Mark>, StoreError> {
    let statement =
        format!("select {COLUMNS} from rollcall.mark where school = $1 and date = $2 and recorded_at <= $3 order by log_offset");
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(school.0).bind(date).bind(as_of.to_chrono()).fetch_all(connection).await?;
    rows.iter().map(|row| read(row).map(|row| row.mark)).collect()
}

/// All marks that had been recorded by an instant about the dates of students of whom one says why they missed a period, oldest first. The
/// dates are inclusive.
pub async fn of_missed_periods(
    connection: &mut PgConnection,
    school: SchoolId,
    dates: (NaiveDate, NaiveDate),
    as_of: UtcMillis,
) -> Result<Vec<Mark>, StoreError> {
    let statement = format!(
        "select {COLUMNS} from rollcall.mark
         where school = $1 and date between $2 and $3 and recorded_at <= $4 and (student, date) in (
             select student, date from rollcall.mark
             where school = $1 and date between $2 and $3 and recorded_at <= $4 and period is not null
                 and (status = 'absent_excused' or status = 'absent_unexcused' and (authority = 'office' or btrim(reason) <> ''))
         ) order by log_offset"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(school.0)
        .bind(dates.0)
        .bind(dates.1)
        .bind(as_of.to_chrono())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| read(row).map(|row| row.mark)).collect()
}

/// Marks about students' days that had been recorded by an instant, oldest first; of each day at most `most`: the office's rather than
/// teachers', of these the newest, because that is what decides.
pub async fn of_students(
    connection: &mut PgConnection,
    days: &[(PersonId, NaiveDate)],
    as_of: UtcMillis,
    most: i64,
) -> Result<Vec<Listed<Mark>>, StoreError> {
    let (students, dates): (Vec<uuid::Uuid>, Vec<NaiveDate>) = days.iter().map(|(student, date)| (student.0, *date)).unzip();
    let statement = format!(
        "select w.place, m.* from unnest($1::uuid[], $2::date[]) with ordinality as w (about, on_date, place)
         cross join lateral (
             select {COLUMNS}, count(*) over () as rows_in_all from rollcall.mark
             where student = w.about and date = w.on_date and recorded_at <= $3 order by authority = 'office' desc, log_offset desc limit $4
         ) m order by w.place, m.log_offset"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(students)
        .bind(dates)
        .bind(as_of.to_chrono())
        .bind(most)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(Listed { place: super::place(row)?, all: super::all(row)?, row: read(row)?.mark })).collect()
}

/// Whether some mark names this one as superseded.
pub async fn is_superseded(connection: &mut PgConnection, mark: &Mark) -> Result<bool, StoreError> {
    let found: bool = sqlx::query_scalar("select exists (select from rollcall.mark where student = $1 and date = $2 and supersedes = $3)")
        .bind(mark.student.0)
        .bind(mark.date)
        .bind(mark.id.0)
        .fetch_one(connection)
        .await?;
    Ok(found)
}

fn read(row: &PgRow) -> Result<MarkRow, StoreError> {
    let unknown = |column: &str| sqlx::Error::ColumnDecode { index: column.to_owned(), source: "a value of a newer program".into() };
    let uuid = |column: &str| row.try_get::<Option<uuid::Uuid>, _>(column);
    let required = |column: &str| row.try_get::<uuid::Uuid, _>(column);
    let status = MarkStatus::from_text(row.try_get("status")?).ok_or_else(|| unknown("status"))?;
    let authority = Authority::from_text(row.try_get("authority")?).ok_or_else(|| unknown("authority"))?;
    let mark = Mark {
        id: MarkId(required("id")?),
        school: SchoolId(required("school")?),
        student: PersonId(required("student")?),
        section: uuid("section")?.map(SectionId),
        period: uuid("period")?.map(PeriodId),
        date: row.try_get("date")?,
        status,
        authority,
        author: AccountId(required("author")?),
        reason: row.try_get("reason")?,
        supersedes: uuid("supersedes")?.map(MarkId),
        recorded: UtcMillis::from_chrono(row.try_get::<DateTime<Utc>, _>("recorded_at")?),
        at: row.try_get::<Option<DateTime<Utc>>, _>("at")?.map(UtcMillis::from_chrono),
    };
    Ok(MarkRow { mark, offset: row.try_get("log_offset")? })
}
