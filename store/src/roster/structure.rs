//! Schools, sections, periods, bells and the calendar: rows that are what the roster says, without history of their own
//! (bells and calendars keep theirs by date).

use std::collections::{HashMap, HashSet};

use chrono::{NaiveDate, NaiveTime};
use rollcall_model::ids::DistrictId;
use uuid::Uuid;

use super::{BellRow, CHUNK_ROWS, Loading, Tally, tally};
use crate::{StoreError, Tenant};

/// Schools and sections that earlier imports brought.
pub(super) struct Known {
    pub schools: HashSet<Uuid>,
    pub sections: HashSet<Uuid>,
}

pub(super) async fn known(tenant: &mut Tenant, district: DistrictId) -> Result<Known, StoreError> {
    let schools =
        sqlx::query_scalar("select id from rollcall.school where district = $1").bind(district.0).fetch_all(&mut **tenant).await?;
    let sections =
        sqlx::query_scalar("select id from rollcall.section where district = $1").bind(district.0).fetch_all(&mut **tenant).await?;
    Ok(Known { schools: schools.into_iter().collect(), sections: sections.into_iter().collect() })
}

pub(super) async fn schools(tenant: &mut Tenant, loading: &mut Loading<'_>) -> Result<Tally, StoreError> {
    let roster = loading.roster;
    let new: Vec<bool> = sqlx::query_scalar(
        "insert into rollcall.school as s (district, id, source_id, name, zone)
         select $1, * from unnest($2::uuid[], $3::text[], $4::text[], $5::text[])
         on conflict (district, id) do update set source_id = excluded.source_id, name = excluded.name, zone = excluded.zone
         where (s.source_id, s.name, s.zone) is distinct from (excluded.source_id, excluded.name, excluded.zone)
         returning (xmax = 0)",
    )
    .bind(loading.district.0)
    .bind(&loading.ids.schools)
    .bind(roster.schools.iter().map(|s| s.source_id.as_str()).collect::<Vec<_>>())
    .bind(roster.schools.iter().map(|s| s.name.as_str()).collect::<Vec<_>>())
    .bind(roster.schools.iter().map(|s| s.zone.name()).collect::<Vec<_>>())
    .fetch_all(&mut **tenant)
    .await?;
    loading.advance("schools", roster.schools.len());
    Ok(tally(&new))
}

pub(super) async fn sections(tenant: &mut Tenant, loading: &mut Loading<'_>) -> Result<Tally, StoreError> {
    let roster = loading.roster;
    let mut total = Tally::default();
    for (sections, ids) in roster.sections.chunks(CHUNK_ROWS).zip(loading.ids.sections.chunks(CHUNK_ROWS)) {
        let new: Vec<bool> = sqlx::query_scalar(
            "insert into rollcall.section as s (district, school, id, source_id, title, course, room, starts, ends)
             select $1, school, id, source_id, title, course, room, coalesce(starts, '-infinity'), coalesce(ends, 'infinity')
             from unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::date[], $9::date[])
                as n(school, id, source_id, title, course, room, starts, ends)
             on conflict (district, id) do update set school = excluded.school, source_id = excluded.source_id, title = excluded.title,
                course = excluded.course, room = excluded.room, starts = excluded.starts, ends = excluded.ends, active = true
             where (s.school, s.source_id, s.title, s.course, s.room, s.starts, s.ends, s.active) is distinct from
                (excluded.school, excluded.source_id, excluded.title, excluded.course, excluded.room, excluded.starts, excluded.ends, true)
             returning (xmax = 0)",
        )
        .bind(loading.district.0)
        .bind(sections.iter().map(|s| loading.ids.schools[s.school]).collect::<Vec<_>>())
        .bind(ids)
        .bind(sections.iter().map(|s| s.source_id.as_str()).collect::<Vec<_>>())
        .bind(sections.iter().map(|s| s.title.as_str()).collect::<Vec<_>>())
        .bind(sections.iter().map(|s| s.course.as_deref()).collect::<Vec<_>>())
        .bind(sections.iter().map(|s| s.room.as_deref()).collect::<Vec<_>>())
        .bind(sections.iter().map(|s| s.starts).collect::<Vec<_>>())
        .bind(sections.iter().map(|s| s.ends).collect::<Vec<_>>())
        .fetch_all(&mut **tenant)
        .await?;
        total += tally(&new);
    }
    let gone = sqlx::query(
        "update rollcall.section s set active = false where district = $1 and active and source_id is not null
         and not exists (select from unnest($2::uuid[]) as n(id) where n.id = s.id)",
    )
    .bind(loading.district.0)
    .bind(&loading.ids.sections)
    .execute(&mut **tenant)
    .await?;
    total.ended = gone.rows_affected();
    loading.advance("sections", roster.sections.len());
    Ok(total)
}

pub(super) async fn periods(tenant: &mut Tenant, loading: &mut Loading<'_>) -> Result<Tally, StoreError> {
    let periods = &loading.roster.timetable.periods;
    let new: Vec<bool> = sqlx::query_scalar(
        "insert into rollcall.period as p (district, school, id, name, ordinal)
         select $1, * from unnest($2::uuid[], $3::uuid[], $4::text[], $5::int[])
         on conflict (district, id) do update set ordinal = excluded.ordinal where p.ordinal <> excluded.ordinal
         returning (xmax = 0)",
    )
    .bind(loading.district.0)
    .bind(periods.iter().map(|p| loading.ids.schools[p.school]).collect::<Vec<_>>())
    .bind(periods.iter().filter_map(|p| loading.ids.period(p.school, &p.name)).collect::<Vec<_>>())
    .bind(periods.iter().map(|p| p.name.as_str()).collect::<Vec<_>>())
    .bind(periods.iter().map(|p| p.ordinal).collect::<Vec<_>>())
    .fetch_all(&mut **tenant)
    .await?;
    Ok(tally(&new))
}

/// A schedule that is not in the roster any more and begins later than today is taken out. One that has rung stays with the days
/// that it rang, and goes on ringing until a newer one of its name begins: that is worth a warning.
pub(super) async fn bells(tenant: &mut Tenant, loading: &mut Loading<'_>, warnings: &mut Vec<String>) -> Result<Tally, StoreError> {
    let schedules = &loading.roster.timetable.schedules;
    let ids: Vec<Uuid> = schedules.iter().map(|s| loading.ids.schedule(s.school, &s.name, s.valid_from)).collect();
    sqlx::query(
        "insert into rollcall.bell_schedule (district, school, id, name, valid_from)
         select $1, * from unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[]) on conflict (district, id) do nothing",
    )
    .bind(loading.district.0)
    .bind(schedules.iter().map(|s| loading.ids.schools[s.school]).collect::<Vec<_>>())
    .bind(&ids)
    .bind(schedules.iter().map(|s| s.name.as_str()).collect::<Vec<_>>())
    .bind(schedules.iter().map(|s| s.valid_from).collect::<Vec<_>>())
    .execute(&mut **tenant)
    .await?;
    let taken_out = schedules_gone(tenant, loading, &ids, warnings).await?;
    let mut keys: (Vec<Uuid>, Vec<Uuid>) = Default::default();
    let mut values: Vec<BellRow> = Vec::new();
    for (schedule, id) in schedules.iter().zip(&ids) {
        for bell in &schedule.bells {
            if let Some(period) = loading.ids.period(schedule.school, &bell.period) {
                keys.0.push(*id);
                keys.1.push(period);
                values.push((bell.starts, bell.ends, bell.instructional));
            }
        }
    }
    let gone = sqlx::query(
        "delete from rollcall.bell b where district = $1 and schedule = any($2)
         and not exists (select from unnest($3::uuid[], $4::uuid[]) as n(schedule, period) where n.schedule = b.schedule and n.period = b.period)",
    )
    .bind(loading.district.0)
    .bind(&ids)
    .bind(&keys.0)
    .bind(&keys.1)
    .execute(&mut **tenant)
    .await?;
    let new: Vec<bool> = sqlx::query_scalar(
        "insert into rollcall.bell as b (district, schedule, period, starts, ends, instructional)
         select $1, * from unnest($2::uuid[], $3::uuid[], $4::time[], $5::time[], $6::bool[])
         on conflict (district, schedule, period) do update set starts = excluded.starts, ends = excluded.ends, instructional = excluded.instructional
         where (b.starts, b.ends, b.instructional) is distinct from (excluded.starts, excluded.ends, excluded.instructional)
         returning (xmax = 0)",
    )
    .bind(loading.district.0)
    .bind(&keys.0)
    .bind(&keys.1)
    .bind(values.iter().map(|v| v.0).collect::<Vec<NaiveTime>>())
    .bind(values.iter().map(|v| v.1).collect::<Vec<NaiveTime>>())
    .bind(values.iter().map(|v| v.2).collect::<Vec<bool>>())
    .fetch_all(&mut **tenant)
    .await?;
    Ok(Tally { ended: gone.rows_affected() + taken_out, ..tally(&new) })
}

/// Of schools for which the roster has bells: what it no longer says. Returns how many bells were taken out.
async fn schedules_gone(
    tenant: &mut Tenant,
    loading: &Loading<'_>,
    wanted: &[Uuid],
    warnings: &mut Vec<String>,
) -> Result<u64, StoreError> {
    let told: HashSet<usize> = loading.roster.timetable.schedules.iter().map(|s| s.school).collect();
    let schools: Vec<Uuid> = told.into_iter().map(|school| loading.ids.schools[school]).collect();
    let gone: Vec<(Uuid, String, String, NaiveDate)> = sqlx::query_as(
        "select b.id, s.name, b.name, b.valid_from from rollcall.bell_schedule b join rollcall.school s on (s.district, s.id) = (b.district, b.school)
         where b.district = $1 and b.school = any($2) and b.id <> all($3) order by s.name, b.name, b.valid_from",
    )
    .bind(loading.district.0)
    .bind(&schools)
    .bind(wanted)
    .fetch_all(&mut **tenant)
    .await?;
    let (to_come, rung): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(.., valid_from)| *valid_from > loading.today);
    warnings.extend(rung.iter().map(|(_, school, name, from)| {
        format!("{school}: the bell schedule \"{name}\" of {from} is not in the timetable any more and still rings; to replace it, add one with the day of the change")
    }));
    let ids: Vec<Uuid> = to_come.into_iter().map(|(id, ..)| id).collect();
    let bells = sqlx::query("delete from rollcall.bell where district = $1 and schedule = any($2)")
        .bind(loading.district.0)
        .bind(&ids)
        .execute(&mut **tenant)
        .await?;
    sqlx::query("delete from rollcall.bell_schedule where district = $1 and id = any($2)")
        .bind(loading.district.0)
        .bind(&ids)
        .execute(&mut **tenant)
        .await?;
    Ok(bells.rows_affected())
}

/// From a school's first day in the roster on, its calendar is the roster's; earlier days stay.
pub(super) async fn calendar(tenant: &mut Tenant, loading: &mut Loading<'_>) -> Result<Tally, StoreError> {
    let calendar = &loading.roster.timetable.calendar;
    let mut first: HashMap<usize, NaiveDate> = HashMap::new();
    for day in calendar {
        let earliest = first.entry(day.school).or_insert(day.date);
        *earliest = day.date.min(*earliest);
    }
    let schools: Vec<Uuid> = calendar.iter().map(|d| loading.ids.schools[d.school]).collect();
    let dates: Vec<NaiveDate> = calendar.iter().map(|d| d.date).collect();
    let (from_schools, from): (Vec<Uuid>, Vec<NaiveDate>) =
        first.into_iter().map(|(school, date)| (loading.ids.schools[school], date)).unzip();
    let gone = sqlx::query(
        "delete from rollcall.calendar_day c using unnest($2::uuid[], $3::date[]) as f(school, date)
         where c.district = $1 and c.school = f.school and c.date >= f.date
         and not exists (select from unnest($4::uuid[], $5::date[]) as n(school, date) where n.school = c.school and n.date = c.date)",
    )
    .bind(loading.district.0)
    .bind(&from_schools)
    .bind(&from)
    .bind(&schools)
    .bind(&dates)
    .execute(&mut **tenant)
    .await?;
    let mut total = Tally { ended: gone.rows_affected(), ..Tally::default() };
    for (at, days) in calendar.chunks(CHUNK_ROWS).enumerate() {
        let at = at * CHUNK_ROWS;
        let new: Vec<bool> = sqlx::query_scalar(
            "insert into rollcall.calendar_day as c (district, school, date, schedule, cycle)
             select $1, * from unnest($2::uuid[], $3::date[], $4::text[], $5::text[])
             on conflict (district, school, date) do update set schedule = excluded.schedule, cycle = excluded.cycle
             where (c.schedule, c.cycle) is distinct from (excluded.schedule, excluded.cycle)
             returning (xmax = 0)",
        )
        .bind(loading.district.0)
        .bind(&schools[at..at + days.len()])
        .bind(&dates[at..at + days.len()])
        .bind(days.iter().map(|d| d.schedule.as_str()).collect::<Vec<_>>())
        .bind(days.iter().map(|d| d.cycle.as_deref()).collect::<Vec<_>>())
        .fetch_all(&mut **tenant)
        .await?;
        total += tally(&new);
        loading.advance("calendar", days.len());
    }
    Ok(total)
}
