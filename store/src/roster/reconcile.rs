//! What to change so that dated rows say what a roster says, and history stays: a pure function.
//!
//! A roster is a statement about now. What it no longer says ends today (the first day out); what has ended before
//! stays as it was. A row without a start date holds from ever when nothing was known before, and from today when the
//! roster was imported before without it. Applying the changes and asking again yields none.

use std::collections::BTreeMap;

use chrono::NaiveDate;

/// One dated row. `load` is what it says besides its key (the weekdays of a meeting); 0 where there is nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Span<K> {
    pub key: K,
    pub starts: Option<NaiveDate>,
    pub ends: Option<NaiveDate>,
    pub load: i16,
}

impl<K> Span<K> {
    fn ended(&self, today: NaiveDate) -> bool {
        self.ends.is_some_and(|ends| ends <= today)
    }
}

/// Rows are named by key and start. Apply deletions first, then updates, then insertions.
#[derive(PartialEq, Debug)]
pub(super) struct Changes<K> {
    pub delete: Vec<Span<K>>,
    /// New `ends` and `load` of the row with this key and start.
    pub update: Vec<Span<K>>,
    pub insert: Vec<Span<K>>,
    /// How many rows of `delete` and `update` end for want of being in the roster.
    pub ended: u64,
}

/// `fresh` tells of a key whether nothing about it was known before this import.
pub(super) fn reconcile<K: Ord + Clone>(
    mut existing: Vec<Span<K>>,
    mut wanted: Vec<Span<K>>,
    today: NaiveDate,
    fresh: impl Fn(&K) -> bool,
) -> Changes<K> {
    existing.sort_unstable();
    wanted.sort_unstable();
    let mut changes = Changes { delete: Vec::new(), update: Vec::new(), insert: Vec::new(), ended: 0 };
    let (mut old, mut new) = (existing.as_slice(), wanted.as_slice());
    while let Some(key) = [old.first(), new.first()].into_iter().flatten().map(|span| span.key.clone()).min() {
        let (of_old, rest) = old.split_at(old.partition_point(|span| span.key <= key));
        old = rest;
        let (of_new, rest) = new.split_at(new.partition_point(|span| span.key <= key));
        new = rest;
        reconcile_key(of_old, of_new, today, of_old.is_empty() && fresh(&key), &mut changes);
    }
    changes
}

/// Builds what one key's rows should be, by start, and takes the difference: so no two rows can ever collide.
fn reconcile_key<K: Clone + PartialEq>(old: &[Span<K>], new: &[Span<K>], today: NaiveDate, fresh: bool, changes: &mut Changes<K>) {
    let matches = matches(old, new, today);
    let matched = |at: usize| matches.contains(&Some(at));
    let replaced = matches.contains(&None);
    let mut after: BTreeMap<Option<NaiveDate>, Span<K>> = BTreeMap::new();
    for (_, span) in old.iter().enumerate().filter(|(at, _)| !matched(*at)) {
        if span.ended(today) {
            after.insert(span.starts, span.clone());
            continue;
        }
        changes.ended += u64::from(!replaced);
        if !replaced && span.starts.is_none_or(|starts| starts < today) {
            after.insert(span.starts, Span { ends: Some(today), ..span.clone() });
        }
    }
    for (want, _) in new.iter().zip(&matches).filter(|(_, at)| at.is_none()) {
        let starts = want.starts.or((!fresh).then_some(today));
        if want.ends.is_none_or(|ends| starts.is_none_or(|starts| starts < ends)) {
            after.insert(starts, Span { starts, ..want.clone() });
        }
    }
    for (want, at) in new.iter().zip(&matches) {
        let Some(span) = at.map(|at| &old[at]) else { continue };
        let begun = span.starts.is_none_or(|starts| starts < today);
        if span.load != want.load && begun && !span.ended(today) && !want.ended(today) {
            after.insert(span.starts, Span { ends: Some(today), ..span.clone() });
            after.insert(Some(today), Span { starts: Some(today), ..want.clone() });
        } else {
            after.insert(span.starts, Span { starts: span.starts, ..want.clone() });
        }
    }
    for span in old {
        match after.remove(&span.starts) {
            None => changes.delete.push(span.clone()),
            Some(now) if now != *span => changes.update.push(now),
            Some(_) => {}
        }
    }
    changes.insert.extend(after.into_values());
}

/// For each wanted row the position of the row that already stands for it.
fn matches<K>(old: &[Span<K>], new: &[Span<K>], today: NaiveDate) -> Vec<Option<usize>> {
    // A row that ended when the roster went on without it, or with another load, stays as history: what the roster
    // says now came later.
    let history =
        |span: &Span<K>, want: &Span<K>| span.ended(today) && !want.ended(today) && (want.starts.is_none() || span.load != want.load);
    let mut found: Vec<Option<usize>> =
        new.iter().map(|want| old.iter().position(|span| span.starts == want.starts && !history(span, want))).collect();
    for (at, want) in new.iter().enumerate().filter(|(_, want)| !want.ended(today)) {
        let had_one = want.starts.is_none() || old.iter().any(|span| span.starts == want.starts);
        if found[at].is_none() && had_one {
            found[at] = (0..old.len()).find(|o| !old[*o].ended(today) && !found.contains(&Some(*o)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TODAY: u32 = 15;

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 9, day).unwrap()
    }

    fn span(key: u8, starts: Option<u32>, ends: Option<u32>, load: i16) -> Span<u8> {
        Span { key, starts: starts.map(day), ends: ends.map(day), load }
    }

    fn apply(rows: &[Span<u8>], changes: &Changes<u8>) -> Vec<Span<u8>> {
        let mut rows = rows.to_vec();
        for gone in &changes.delete {
            let before = rows.len();
            rows.retain(|r| (r.key, r.starts) != (gone.key, gone.starts));
            assert_eq!(rows.len(), before - 1, "deletes exactly one row");
        }
        for new in &changes.update {
            let row = rows.iter_mut().find(|r| (r.key, r.starts) == (new.key, new.starts)).expect("updates a row that is there");
            *row = new.clone();
        }
        for new in &changes.insert {
            assert!(!rows.iter().any(|r| (r.key, r.starts) == (new.key, new.starts)), "{new:?} collides");
            rows.push(new.clone());
        }
        rows.sort();
        rows
    }

    /// What is there, what the roster says, what is there afterwards.
    type Case = (&'static str, Vec<Span<u8>>, Vec<Span<u8>>, Vec<Span<u8>>);

    #[test]
    fn history_is_kept() {
        let cases: Vec<Case> = vec![
            ("first import", vec![], vec![span(1, None, None, 0)], vec![span(1, None, None, 0)]),
            ("nothing new", vec![span(1, None, None, 0)], vec![span(1, None, None, 0)], vec![span(1, None, None, 0)]),
            ("left", vec![span(1, Some(1), None, 0)], vec![], vec![span(1, Some(1), Some(15), 0)]),
            ("never came", vec![span(1, Some(20), None, 0)], vec![], vec![]),
            ("left long ago", vec![span(1, Some(1), Some(5), 0)], vec![], vec![span(1, Some(1), Some(5), 0)]),
            (
                "came back",
                vec![span(1, None, Some(5), 0)],
                vec![span(1, None, None, 0)],
                vec![span(1, None, Some(5), 0), span(1, Some(15), None, 0)],
            ),
            ("end date known", vec![span(1, Some(1), None, 0)], vec![span(1, Some(1), Some(30), 0)], vec![span(1, Some(1), Some(30), 0)]),
            ("start corrected", vec![span(1, Some(1), None, 0)], vec![span(1, Some(3), None, 0)], vec![span(1, Some(3), None, 0)]),
            (
                "other weekdays",
                vec![span(1, None, None, 31)],
                vec![span(1, None, None, 3)],
                vec![span(1, None, Some(15), 31), span(1, Some(15), None, 3)],
            ),
        ];
        for (name, old, new, expected) in cases {
            let after = apply(&old, &reconcile(old.clone(), new.clone(), day(TODAY), |_| true));
            assert_eq!(after, expected, "{name}");
        }
        let later = reconcile(vec![], vec![span(1, None, None, 0)], day(TODAY), |_| false);
        assert_eq!(later.insert, [span(1, Some(15), None, 0)], "joined since the last import");
    }

    fn spans(loads: bool) -> impl Strategy<Value = Vec<Span<u8>>> {
        let one = (0..3u8, proptest::option::of(1..28u32), proptest::option::of(1..29u32), if loads { 0..3i16 } else { 0..1i16 });
        proptest::collection::vec(one, 0..5).prop_map(|spans| {
            let mut spans: Vec<_> = spans
                .into_iter()
                .filter(|(_, s, e, _)| s.is_none_or(|s| e.is_none_or(|e| s < e)))
                .map(|(k, s, e, l)| span(k, s, e, l))
                .collect();
            // As the readers give them: sorted, and disjoint within a key.
            spans.sort();
            spans.dedup_by(|next, kept| next.key == kept.key && kept.ends.is_none_or(|end| next.starts.is_none_or(|start| start < end)));
            spans
        })
    }

    proptest! {
        #[test]
        fn a_second_import_changes_nothing(first in spans(true), second in spans(true), fresh in any::<bool>()) {
            let mut rows = apply(&[], &reconcile(vec![], first, day(10), |_| true));
            for today in [TODAY, TODAY] {
                let changes = reconcile(rows.clone(), second.clone(), day(today), |_| fresh);
                rows = apply(&rows, &changes);
            }
            let again = reconcile(rows.clone(), second, day(TODAY), |_| fresh);
            prop_assert_eq!(again, Changes { delete: vec![], update: vec![], insert: vec![], ended: 0 });
        }
    }
}
