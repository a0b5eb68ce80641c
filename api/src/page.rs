//! Lists: `{"items": [...], "next": cursor or null}`. Cursors are opaque.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::ApiError;

/// Items of a page unless asked otherwise, and at most.
pub const LIMIT: usize = 200;
pub const LIMIT_MAX: usize = 1_000;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T: ToSchema> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null: this was the last.
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

impl PageQuery {
    pub fn limit(&self) -> Result<usize, ApiError> {
        limit_of(self.limit)
    }
}

/// Checks a limit.
pub fn limit_of(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit {
        None => Ok(LIMIT),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        Some(_) => Err(ApiError::field("limit", "out_of_range", format!("a page has 1 to {LIMIT_MAX} items"))),
    }
}

/// Makes a cursor of the key after which the next page begins.
pub fn cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The key in a cursor.
pub fn key(cursor: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(cursor) = cursor else { return Ok(None) };
    let decoded = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.map(Some).ok_or_else(|| ApiError::field("cursor", "unknown", "give `next` of the page before as it was"))
}

/// The key in a cursor as a number or id.
pub fn parsed_key<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let wrong = |_| ApiError::field("cursor", "unknown", "give `next` of the page before as it was");
    key(text)?.map(|key| key.parse().map_err(wrong)).transpose()
}

/// One page of rows that were read with a limit of `limit + 1`.
pub fn of_rows<T: ToSchema>(mut items: Vec<T>, limit: usize, key_of: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| cursor(&key_of(last)));
    Page { items, next }
}

/// One page of what is in memory, in order of a unique key. Gives the rows of the page and the next cursor.
pub fn of_memory<T>(mut rows: Vec<(String, T)>, query: &PageQuery) -> Result<(Vec<T>, Option<String>), ApiError> {
    let (limit, after) = (query.limit()?, key(query.cursor.as_deref())?);
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let first = after.map_or(0, |after| rows.partition_point(|(key, _)| *key <= after));
    let mut page: Vec<(String, T)> = rows.into_iter().skip(first).take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|(key, _)| cursor(key));
    Ok((page.into_iter().map(|(_, row)| row).collect(), next))
}

/// The key of something with a title: by title without case, then by id.
pub fn title_key(title: &str, id: impl std::fmt::Display) -> String {
    format!("{}\u{1}{id}", title.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_without_gap_or_repetition() {
        let all: Vec<(String, u32)> = (0..25).map(|n| (title_key(&format!("T{n}"), n), n)).collect();
        let mut seen = Vec::new();
        let mut query = PageQuery { cursor: None, limit: Some(10) };
        loop {
            let (items, next) = of_memory(all.clone(), &query).unwrap();
            assert!(items.len() <= 10);
            seen.extend(items);
            match next {
                Some(next) => query.cursor = Some(next),
                None => break,
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..25).collect::<Vec<_>>());
    }

    #[test]
    fn wrong_limits_and_cursors_are_refused() {
        assert!(limit_of(Some(0)).is_err());
        assert!(limit_of(Some(1001)).is_err());
        assert!(key(Some("%%")).is_err());
        assert!(parsed_key::<i64>(Some(&cursor("x"))).is_err());
        assert_eq!(parsed_key::<i64>(Some(&cursor("7"))).unwrap(), Some(7));
    }
}
