//! The tables with dated rows: memberships, enrolments and meetings. Each reads what is there, asks
//! [`super::reconcile`], and applies the answer in chunks. All three have one shape: two ids and a word as the key.

use std::borrow::Cow;
use std::collections::HashSet;

use chrono::NaiveDate;
use futures_util::TryStreamExt;
use uuid::Uuid;

use super::reconcile::{Changes, Span, reconcile};
use super::structure::Known;
use super::{Loading, Tally};
use crate::{StoreError, Tenant};

/// Rows of one statement. Dated rows are narrow and come by the million, and the tables that they name are looked through once a
/// statement.
const SPAN_CHUNK_ROWS: usize = 50_000;

/// Two ids and a word: (person, school, ""), (section, person, role) or (section, period, cycle). Roles are not copied for each row.
type Key = (Uuid, Uuid, Cow<'static, str>);

/// The statements of one table. `$1` is the district; ids, words, starts, ends and loads follow as arrays.
struct Table {
    step: &'static str,
    /// Rows that earlier imports brought: a, b, word, starts, ends, load; unbounded dates as null.
    select: &'static str,
    delete: &'static str,
    update: &'static str,
    insert: &'static str,
}

const MEMBERSHIP: Table = Table {
    step: "memberships",
    select: "select m.person, m.school, '', case when isfinite(m.starts) then m.starts end, case when isfinite(m.ends) then m.ends end, 0::smallint
        from rollcall.membership m join rollcall.person p on p.district = m.district and p.id = m.person
        where m.district = $1 and p.source_id is not null",
    delete: "delete from rollcall.membership m using unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[]) as n(a, b, word, starts)
        where m.district = $1 and m.person = n.a and m.school = n.b and n.word = '' and m.starts = coalesce(n.starts, '-infinity')",
    update: "update rollcall.membership m set ends = coalesce(n.ends, 'infinity')
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::date[], $7::smallint[]) as n(a, b, word, starts, ends, load)
        where m.district = $1 and m.person = n.a and m.school = n.b and n.word = '' and n.load = 0 and m.starts = coalesce(n.starts, '-infinity')",
    insert: "insert into rollcall.membership (district, person, school, starts, ends)
        select $1, a, b, coalesce(starts, '-infinity'), coalesce(ends, 'infinity')
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::date[], $7::smallint[]) as n(a, b, word, starts, ends, load)",
};

const ENROLMENT: Table = Table {
    step: "enrolments",
    select: "select e.section, e.person, e.role, case when isfinite(e.starts) then e.starts end, case when isfinite(e.ends) then e.ends end, 0::smallint
        from rollcall.enrolment e join rollcall.section s on s.district = e.district and s.id = e.section
        join rollcall.person p on p.district = e.district and p.id = e.person
        where e.district = $1 and s.source_id is not null and p.source_id is not null",
    delete: "delete from rollcall.enrolment e using unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[]) as n(a, b, word, starts)
        where e.district = $1 and e.section = n.a and e.person = n.b and e.role = n.word and e.starts = coalesce(n.starts, '-infinity')",
    update: "update rollcall.enrolment e set ends = coalesce(n.ends, 'infinity')
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::date[], $7::smallint[]) as n(a, b, word, starts, ends, load)
        where e.district = $1 and e.section = n.a and e.person = n.b and e.role = n.word and n.load = 0 and e.starts = coalesce(n.starts, '-infinity')",
    insert: "insert into rollcall.enrolment (district, section, person, role, starts, ends)
        select $1, a, b, word, coalesce(starts, '-infinity'), coalesce(ends, 'infinity')
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::date[], $7::smallint[]) as n(a, b, word, starts, ends, load)",
};

const MEETING: Table = Table {
    step: "meetings",
    select: "select m.section, m.period, m.cycle, case when isfinite(m.valid_from) then m.valid_from end,
            case when isfinite(m.valid_to) then m.valid_to end, m.weekdays
        from rollcall.meeting m join rollcall.section s on s.district = m.district and s.id = m.section
        where m.district = $1 and s.source_id is not null",
    delete: "delete from rollcall.meeting m using unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[]) as n(a, b, word, starts)
        where m.district = $1 and m.section = n.a and m.period = n.b and m.cycle = n.word and m.valid_from = coalesce(n.starts, '-infinity')",
    update: "update rollcall.meeting m set valid_to = coalesce(n.ends, 'infinity'), weekdays = n.load
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::date[], $7::smallint[]) as n(a, b, word, starts, ends, load)
        where m.district = $1 and m.section = n.a and m.period = n.b and m.cycle = n.word and m.valid_from = coalesce(n.starts, '-infinity')",
    insert: "insert into rollcall.meeting (district, section, period, cycle, weekdays, valid_from, valid_to)
        select $1, a, b, word, load, coalesce(starts, '-infinity'), coalesce(ends, 'infinity')
        from unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::date[], $7::smallint[]) as n(a, b, word, starts, ends, load)",
};

pub(super) async fn memberships(tenant: &mut Tenant, loading: &mut Loading<'_>, known: &Known) -> Result<Tally, StoreError> {
    let ids = &loading.ids;
    let row = |m: &rollcall_roster::roster::Membership| Span {
        key: (ids.people[m.person], ids.schools[m.school], Cow::Borrowed("")),
        starts: m.starts,
        ends: m.ends,
        load: 0,
    };
    let wanted = loading.roster.memberships.iter().map(row).collect();
    let existing = select(tenant, loading, &MEMBERSHIP).await?;
    let changes = reconcile(existing, wanted, loading.today, |key| !known.schools.contains(&key.1));
    apply(tenant, loading, &MEMBERSHIP, changes, loading.roster.memberships.len()).await
}

pub(super) async fn enrolments(tenant: &mut Tenant, loading: &mut Loading<'_>, known: &Known) -> Result<Tally, StoreError> {
    let ids = &loading.ids;
    let row = |e: &rollcall_roster::roster::Enrolment| Span {
        key: (ids.sections[e.section], ids.people[e.person], Cow::Borrowed(e.role.as_str())),
        starts: e.starts,
        ends: e.ends,
        load: 0,
    };
    let wanted = loading.roster.enrolments.iter().map(row).collect();
    let existing = select(tenant, loading, &ENROLMENT).await?;
    let changes = reconcile(existing, wanted, loading.today, |key| !known.sections.contains(&key.0));
    apply(tenant, loading, &ENROLMENT, changes, loading.roster.enrolments.len()).await
}

pub(super) async fn meetings(tenant: &mut Tenant, loading: &mut Loading<'_>, known: &Known) -> Result<Tally, StoreError> {
    let (roster, ids) = (loading.roster, &loading.ids);
    let wanted = roster.timetable.meetings.iter().filter_map(|m| {
        let period = ids.period(roster.sections[m.section].school, &m.period)?;
        let key = (ids.sections[m.section], period, Cow::Owned(m.cycle.clone()));
        Some(Span { key, starts: m.starts, ends: m.ends, load: i16::from(m.weekdays) })
    });
    let wanted = wanted.collect();
    // Without bells for its school the roster says nothing about when a section meets.
    let told: HashSet<usize> = roster.timetable.periods.iter().map(|p| p.school).collect();
    let silent: HashSet<Uuid> =
        roster.sections.iter().zip(&ids.sections).filter(|(s, _)| !told.contains(&s.school)).map(|(_, id)| *id).collect();
    let mut existing = select(tenant, loading, &MEETING).await?;
    existing.retain(|span| !silent.contains(&span.key.0));
    let changes = reconcile(existing, wanted, loading.today, |key| !known.sections.contains(&key.0));
    apply(tenant, loading, &MEETING, changes, roster.timetable.meetings.len()).await
}

async fn select(tenant: &mut Tenant, loading: &Loading<'_>, table: &Table) -> Result<Vec<Span<Key>>, StoreError> {
    type Row = (Uuid, Uuid, String, Option<NaiveDate>, Option<NaiveDate>, i16);
    let mut rows = sqlx::query_as::<_, Row>(table.select).bind(loading.district.0).fetch(&mut **tenant);
    let mut spans = Vec::new();
    while let Some((a, b, word, starts, ends, load)) = rows.try_next().await? {
        let word = match word.as_str() {
            "" => Cow::Borrowed(""),
            "student" => Cow::Borrowed("student"),
            "teacher" => Cow::Borrowed("teacher"),
            _ => Cow::Owned(word),
        };
        spans.push(Span { key: (a, b, word), starts, ends, load });
    }
    Ok(spans)
}

async fn apply(
    tenant: &mut Tenant,
    loading: &mut Loading<'_>,
    table: &Table,
    changes: Changes<Key>,
    rows: usize,
) -> Result<Tally, StoreError> {
    let district = loading.district.0;
    for chunk in changes.delete.chunks(SPAN_CHUNK_ROWS) {
        let (a, b, words, starts) = columns(chunk);
        sqlx::query(table.delete).bind(district).bind(a).bind(b).bind(words).bind(starts).execute(&mut **tenant).await?;
    }
    for (statement, spans, new) in [(table.update, &changes.update, false), (table.insert, &changes.insert, true)] {
        for chunk in spans.chunks(SPAN_CHUNK_ROWS) {
            let (a, b, words, starts) = columns(chunk);
            let ends: Vec<_> = chunk.iter().map(|s| s.ends).collect();
            let loads: Vec<_> = chunk.iter().map(|s| s.load).collect();
            sqlx::query(statement)
                .bind(district)
                .bind(a)
                .bind(b)
                .bind(words)
                .bind(starts)
                .bind(ends)
                .bind(loads)
                .execute(&mut **tenant)
                .await?;
            if new {
                loading.advance(table.step, chunk.len());
            }
        }
    }
    loading.advance(table.step, rows.saturating_sub(changes.insert.len()));
    let touched = (changes.delete.len() + changes.update.len()) as u64;
    Ok(Tally { added: changes.insert.len() as u64, changed: touched - changes.ended, ended: changes.ended })
}

type Columns<'a> = (Vec<Uuid>, Vec<Uuid>, Vec<&'a str>, Vec<Option<NaiveDate>>);

fn columns(spans: &[Span<Key>]) -> Columns<'_> {
    (
        spans.iter().map(|s| s.key.0).collect(),
        spans.iter().map(|s| s.key.1).collect(),
        spans.iter().map(|s| s.key.2.as_ref()).collect(),
        spans.iter().map(|s| s.starts).collect(),
    )
}
