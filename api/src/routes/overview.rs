//! What the district's first page shows beside the live counts: when students arrive today, against what is usual.
//!
//! The usual curve is the median, minute by minute, of the same weekday in the last [`USUAL_WEEKS`] weeks, days without
//! evidence left aside. It names the days that it rests on; with fewer than [`USUAL_DAYS_MIN`] there is none. Curves are
//! shares of the students, by each school's own local time, so that schools in two zones and classes that grow compare.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use chrono::{Days, NaiveDate, Timelike};
use chrono_tz::Tz;
use rollcall_analytics::facts::{Asked, Reader};
use rollcall_model::ids::SchoolId;
use rollcall_model::reports::suppress::N_MIN;
use rollcall_model::time::UtcMillis;
use rollcall_store::directory::DistrictDirectory;
use rollcall_store::query::arrivals::Arrivals;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use self::curve::{coarse, median, points};
use self::held::arrivals_of;
use super::reports::withheld::Table;
use crate::caller::{Caller, require, today_in};
use crate::extract::Params;
use crate::problem::{ApiError, Problem};
use crate::rights::{self, Reports};
use crate::state::ApiState;

mod curve;
mod held;

pub(crate) use held::HeldArrivals;

/// Minutes of one step of a curve.
const STEP_MIN: u32 = 5;
/// How far back the same weekday is looked at, and on how many days with evidence a usual curve must rest.
const USUAL_WEEKS: u64 = 8;
const USUAL_DAYS_MIN: usize = 3;
/// Of those who attended on a day, the share in percent whose arrival must be known: below it, gates were away.
const EVIDENCE_MIN_PCT: u64 = 50;
/// A gap of as many days without session, in every school, is the break between two school years.
const BREAK_DAYS_MIN: i64 = 28;

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct ArrivalsQuery {
    /// Only this school.
    #[param(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
}

/// The share of the students who had arrived by a minute.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, ToSchema)]
pub struct ArrivalPoint {
    /// Minutes after local midnight.
    pub minute: u32,
    /// 0 to 1.
    pub share: f64,
}

/// Today's arrivals against the usual ones. Curves are steps: a share holds until the next point.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArrivalsToday {
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    /// IANA zone in which most schools are.
    pub zone: String,
    /// Minutes after local midnight now, at the school whose clocks are furthest ahead.
    pub minute: u32,
    /// First day of this school year: the first day in session after the last break of four weeks.
    #[schema(value_type = Option<String>, format = Date)]
    pub year_from: Option<NaiveDate>,
    /// Whether any of the schools is in session today.
    pub in_session: bool,
    /// Fewer than 10 students, or withheld to protect such a group: there is no curve.
    pub suppressed: bool,
    /// Students of the schools that are in session.
    pub students: Option<u64>,
    /// From scans; nobody is in it whom no scanner has seen.
    pub today: Vec<ArrivalPoint>,
    /// Null: too few days with evidence.
    pub usual: Option<Vec<ArrivalPoint>>,
    /// The days that the usual curve rests on, or would.
    #[schema(value_type = Vec<String>)]
    pub usual_days: Vec<NaiveDate>,
    /// On how many days a usual curve must rest.
    pub usual_days_min: usize,
}

/// The zone in which most of a district's schools are; of equals the first by name.
pub(crate) fn zone_of(directory: &DistrictDirectory) -> Tz {
    let mut zones: BTreeMap<&str, (usize, Tz)> = BTreeMap::new();
    for school in directory.roster.schools.values() {
        zones.entry(school.zone.name()).or_insert((0, school.zone)).0 += 1;
    }
    let most = zones.values().map(|(count, _)| *count).max();
    zones.values().find(|(count, _)| Some(*count) == most).map_or(Tz::UTC, |(_, zone)| *zone)
}

/// The first day in session after the last break; `None` without any day in session up to `today`.
fn year_from(directory: &DistrictDirectory, schools: &[SchoolId], today: NaiveDate) -> Option<NaiveDate> {
    let entries = schools.iter().filter_map(|id| directory.school(*id));
    let mut dates: Vec<NaiveDate> = entries.flat_map(|school| school.calendar.keys().copied()).filter(|date| *date <= today).collect();
    dates.sort_unstable();
    dates.dedup();
    let begins = |pair: &[NaiveDate]| (pair[1] - pair[0]).num_days() >= BREAK_DAYS_MIN;
    let after_break = dates.windows(2).rev().find(|pair| begins(pair)).map(|pair| pair[1]);
    after_break.or(dates.first().copied())
}

/// Minutes after midnight on the clocks of a zone.
fn minute_in(zone: Tz, now: UtcMillis) -> u32 {
    let local = now.to_chrono().unwrap_or_default().with_timezone(&zone);
    local.hour() * 60 + local.minute()
}

/// Who has arrived in the step that is not over has arrived by now.
fn until(mut curve: Vec<ArrivalPoint>, minute: u32) -> Vec<ArrivalPoint> {
    curve.iter_mut().for_each(|point| point.minute = point.minute.min(minute));
    curve
}

/// Arrivals and students of several schools on one day, and whether scans tell enough of it.
#[derive(Default)]
struct DaySum {
    arrivals: Arrivals,
    students: u64,
}

impl DaySum {
    fn add(&mut self, arrivals: &Arrivals, students: u64) {
        for (minute, count) in &arrivals.by_minute {
            *self.arrivals.by_minute.entry(*minute).or_default() += count;
        }
        self.arrivals.attended += arrivals.attended;
        self.students += students;
    }

    fn has_evidence(&self) -> bool {
        self.arrivals.arrived() > 0 && 100 * self.arrivals.arrived() >= EVIDENCE_MIN_PCT * self.arrivals.attended
    }

    /// For those who may not see students no step stands for fewer than [`N_MIN`] of them.
    fn curve(&self, aggregates: bool) -> Vec<ArrivalPoint> {
        let points = points(&self.arrivals.by_minute, self.students);
        if aggregates { coarse(&points, N_MIN, self.students) } else { points }
    }
}

/// Today's arrivals, the usual ones, and the days that these rest on.
#[utoipa::path(get, path = "/api/v1/overview/arrivals", tag = "reports", operation_id = "get_arrivals", params(ArrivalsQuery), responses(
    (status = 200, body = ArrivalsToday),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn arrivals(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ArrivalsQuery>,
) -> Result<Json<ArrivalsToday>, ApiError> {
    if let Some(school) = query.school {
        caller.school(school)?;
    }
    let allowed = rights::may_watch_district(&caller.who) || query.school.is_some_and(|id| rights::may_watch_school(&caller.who, id));
    require(allowed, "this account may not see the district's arrivals")?;
    let directory = &caller.directory;
    let mut schools: Vec<SchoolId> =
        directory.roster.schools.keys().copied().filter(|id| query.school.is_none_or(|own| own == *id)).collect();
    schools.sort_unstable();
    let zone = query.school.and_then(|id| directory.school(id)).map_or_else(|| zone_of(directory), |school| school.zone);
    let local = caller.now().to_chrono().unwrap_or_default().with_timezone(&zone);
    let (today, aggregates) = (local.date_naive(), rights::reports(&caller.who) == Some(Reports::Aggregates));
    // Weeks ago, 0 today, and what there is of it over all schools that were in session then.
    let weeks = weeks(&state, &caller, &schools).await?;
    let students = weeks.get(&0).map_or(0, |day| day.students);
    let too_few = (1..N_MIN).contains(&students) || query.school.is_some_and(|school| is_withheld(&state, &caller, school, today));
    let suppressed = aggregates && too_few;
    let past: Vec<(NaiveDate, &DaySum)> = weeks
        .iter()
        .filter(|(weeks, day)| **weeks > 0 && day.has_evidence() && (!aggregates || day.students >= N_MIN))
        .filter_map(|(weeks, day)| Some((today.checked_sub_days(Days::new(7 * weeks))?, day)))
        .collect();
    let curves: Vec<Vec<ArrivalPoint>> = past.iter().map(|(_, day)| day.curve(aggregates)).collect();
    let usual = (!suppressed && curves.len() >= USUAL_DAYS_MIN).then(|| median(&curves));
    let minute = schools.iter().filter_map(|id| directory.school(*id)).map(|school| minute_in(school.zone, caller.now())).max();
    let minute = minute.unwrap_or_else(|| minute_in(zone, caller.now()));
    let shown = weeks.get(&0).filter(|_| !suppressed).map(|day| until(day.curve(aggregates), minute));
    Ok(Json(ArrivalsToday {
        date: today,
        zone: zone.name().to_owned(),
        minute,
        year_from: year_from(directory, &schools, today),
        in_session: weeks.contains_key(&0),
        suppressed,
        students: Some(students).filter(|_| !suppressed),
        today: shown.unwrap_or_default(),
        usual,
        usual_days: past.into_iter().map(|(date, _)| date).collect(),
        usual_days_min: USUAL_DAYS_MIN,
    }))
}

/// Whether reports of today show nothing of a school to those without a right to students.
fn is_withheld(state: &ApiState, caller: &Caller, school: SchoolId, today: NaiveDate) -> bool {
    let asked = asked(caller, vec![school], today, caller.now());
    Table::of(&state.store, &asked).hides(school)
}

fn asked(caller: &Caller, schools: Vec<SchoolId>, date: NaiveDate, as_of: UtcMillis) -> Asked {
    Asked { directory: caller.directory.clone(), schools, from: date, to: date, as_of, students: None, sections: None }
}

/// The days of today's weekday that were in session, by how many weeks ago they were, summed over the schools.
async fn weeks(state: &ApiState, caller: &Caller, schools: &[SchoolId]) -> Result<BTreeMap<u64, DaySum>, ApiError> {
    let mut found: BTreeMap<u64, DaySum> = BTreeMap::new();
    let reader = Reader::new(state.store.clone(), asked(caller, Vec::new(), NaiveDate::default(), caller.now()));
    for school in schools.iter().filter_map(|id| caller.directory.school(*id)) {
        let today = today_in(&caller.directory, school.id, caller.now());
        let ago = |weeks: u64| today.checked_sub_days(Days::new(7 * weeks)).filter(|date| school.schedule_for(*date).is_some());
        let dates: HashMap<NaiveDate, u64> = (0..=USUAL_WEEKS).filter_map(|weeks| Some((ago(weeks)?, weeks))).collect();
        let arrivals = arrivals_of(state, caller, school, &dates.keys().copied().collect::<Vec<_>>(), today).await?;
        for (date, weeks) in dates {
            let students: u64 = reader.members().fewest(school.id, &[date]).values().sum();
            found.entry(weeks).or_default().add(arrivals.get(&date).map_or(&Arrivals::default(), |day| day.as_ref()), students);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_on_which_gates_were_away_is_no_evidence() {
        let day = |arrived: u64, attended: u64| {
            let by_minute = BTreeMap::from([(470, arrived)]);
            DaySum { arrivals: Arrivals { by_minute, attended }, students: 100 }
        };
        assert!(day(90, 95).has_evidence());
        assert!(day(48, 96).has_evidence());
        assert!(!day(40, 95).has_evidence());
        assert!(!day(0, 0).has_evidence());
    }
}
