//! Arrivals that were read a moment ago: every open page of a district asks for the same ones.
//!
//! A past day is read again after [`PAST_MS`], because late evidence may still come, today after [`TODAY_MS`]. Bounded by
//! [`DAYS_MAX`]; beyond it the day that was not asked for longest is forgotten.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::NaiveDate;
use lru::LruCache;
use parking_lot::Mutex;
use rollcall_model::ids::{DistrictId, SchoolId};
use rollcall_store::directory::SchoolEntry;
use rollcall_store::query::arrivals::{self, Arrivals};

use super::STEP_MIN;
use crate::caller::Caller;
use crate::problem::ApiError;
use crate::state::ApiState;

const PAST_MS: i64 = 10 * 60_000;
const TODAY_MS: i64 = 5_000;
/// Nine days of some hundred schools of four districts; a day has at most 288 steps.
const DAYS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

type Key = (DistrictId, SchoolId, NaiveDate);

/// When a day was read, and what it was.
type Day = (i64, Arc<Arrivals>);

/// What was read, of all districts.
pub(crate) struct HeldArrivals(Mutex<LruCache<Key, Day>>);

impl Default for HeldArrivals {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(DAYS_MAX)))
    }
}

impl HeldArrivals {
    fn get(&self, key: Key, today: NaiveDate, now_ms: i64) -> Option<Arc<Arrivals>> {
        let lasts = if key.2 >= today { TODAY_MS } else { PAST_MS };
        let mut held = self.0.lock();
        // A clock that was set back makes nothing last longer.
        held.get(&key).filter(|(read, _)| (0..lasts).contains(&(now_ms - read))).map(|(_, day)| Arc::clone(day))
    }
}

/// The arrivals of a school on some dates, read where they are not held.
pub async fn arrivals_of(
    state: &ApiState,
    caller: &Caller,
    school: &SchoolEntry,
    dates: &[NaiveDate],
    today: NaiveDate,
) -> Result<BTreeMap<NaiveDate, Arc<Arrivals>>, ApiError> {
    let now_ms = caller.now().0;
    let key = |date: NaiveDate| (caller.district, school.id, date);
    let held = dates.iter().filter_map(|date| Some((*date, state.arrivals.get(key(*date), today, now_ms)?)));
    let mut found: BTreeMap<NaiveDate, Arc<Arrivals>> = held.collect();
    let missing: Vec<NaiveDate> = dates.iter().copied().filter(|date| !found.contains_key(date)).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    let _turn = state.reports.acquire().await.map_err(ApiError::internal)?;
    let mut tenant = caller.tenant(state).await?;
    let mut read = arrivals::of_school(&mut tenant, school.id, &missing, school.zone.name(), STEP_MIN, caller.now()).await?;
    for date in missing {
        let day = Arc::new(read.remove(&date).unwrap_or_default());
        state.arrivals.0.lock().put(key(date), (now_ms, Arc::clone(&day)));
        found.insert(date, day);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_ends_and_today_ends_sooner() {
        let held = HeldArrivals::default();
        let (district, school, today) = (DistrictId::random(), SchoolId::random(), NaiveDate::default());
        let yesterday = today.pred_opt().unwrap();
        for date in [today, yesterday] {
            held.0.lock().put((district, school, date), (1_000, Arc::default()));
        }
        let has = |date, now_ms| held.get((district, school, date), today, now_ms).is_some();
        assert!(has(today, 1_000) && has(today, 5_999) && !has(today, 6_000));
        assert!(has(yesterday, 600_999) && !has(yesterday, 601_000));
        assert!(!has(yesterday, 999), "the clock was set back");
    }
}
