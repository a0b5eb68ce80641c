//! What was given already, so that two figures never tell of the few students by whom they differ.
//!
//! # The leak
//! Noise that a set of students always draws alike makes two equal figures two equal sets. Who can pick one student out of a crowd asks for the
//! crowd, and for those of it who are not the student or have a certain grade: the right grade gives the crowd's own figure.
//!
//! # What is done
//! A figure is remembered with a sketch of who contributed what to it. One whose evidence differs from it by about as few students as no group may
//! have is that figure again, whatever it would have been by itself. So two figures that are not the same one differ by at least so many
//! students. How many, is drawn for each remembered figure between [`Given::new`]'s number and [`SPREAD`] more, so that who knows
//! nine others does not know when a tenth shows.
//!
//! # Which figures are compared
//! Those of one kind, and of one day where the grouping or a condition says the day of the rows: on two days nearly the same students come to
//! school, and how many did is two figures all the same. Equal numbers there draw different noise.
//!
//! # Bounds
//! The figures of two generations are kept, each of [`GENERATION`]; one that is asked for again is of the newer. A server that starts knows none, and
//! several servers do not know each other's.
//!
//! # How a near one is found
//! Of eight hashes of the students, the least each (MinHash): two sets have a least one in common as often as they have students in common. Candidates
//! are compared by counters to which each student adds or takes one (AMS); the sum of the differences is the number of students by whom two sets
//! differ, less those that fall upon each other.
//! Sources: Broder, On the resemblance and containment of documents, 1997; Alon, Matias, Szegedy, The space complexity of approximating the frequency
//! moments, 1996.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher};

use parking_lot::Mutex;

use super::figure::rounded;
use super::noise::Hash;

/// Figures of one generation that differ by many students; about 600 bytes each.
const GENERATION: usize = 50_000;

/// Sets of one generation of which it is known exactly what was told; about 60 bytes each.
const EXACT: usize = 4 * GENERATION;

/// By so many students more, at most, two figures are the same.
const SPREAD: u64 = 5;

/// Sets with one least hash in common that are compared with another, the newest.
const CANDIDATES: usize = 256;

/// Least hashes of a set.
const LEAST: usize = 8;

/// Counters of a sketch.
const COUNTERS: usize = 64;

/// Beside what figures are about: the numbers by which their evidence is known.
const NUMBERS: u64 = 1 << 60;

/// Members of a set, counted so that few differences show as few.
#[derive(Clone, Debug, PartialEq, Hash)]
struct Sketch([i8; COUNTERS]);

impl Sketch {
    fn add(&mut self, hash: u64) {
        let counter = &mut self.0[hash as usize % COUNTERS];
        *counter = if hash >> 63 == 0 { counter.wrapping_add(1) } else { counter.wrapping_sub(1) };
    }

    /// Members by which two sets differ, or somewhat fewer; of sets that differ much, any larger number.
    fn distance(&self, other: &Self) -> u64 {
        self.0.iter().zip(&other.0).map(|(one, other)| u64::from(one.wrapping_sub(*other).unsigned_abs())).sum()
    }
}

/// Who contributed what.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    students: usize,
    least: [u32; LEAST],
    who: Sketch,
    relations: Option<Relations>,
}

/// What was contributed, in relation to the contribution of one student, and to that of another: when one of the two is whom two sets differ
/// by, the other relation is the same in both.
#[derive(Clone, Debug)]
struct Relations {
    to: [f64; 2],
    sketches: [Sketch; 2],
}

impl Default for Evidence {
    fn default() -> Self {
        Self { students: 0, least: [u32::MAX; LEAST], who: Sketch([0; COUNTERS]), relations: None }
    }
}

impl Evidence {
    /// Adds a student by the keyed hash.
    pub fn add(&mut self, student: &Hash) {
        self.students += 1;
        let (words, _) = student.as_chunks::<4>();
        for (least, word) in self.least.iter_mut().zip(words) {
            *least = (*least).min(u32::from_le_bytes(*word));
        }
        self.who.add(mixed(student, 0));
    }

    /// Adds what a student contributed in relation to each of two contributions `to`: numbers that tell relations apart.
    pub fn relate(&mut self, student: &Hash, to: [f64; 2], relations: [u64; 2]) {
        let nothing = || Relations { to, sketches: [Sketch([0; COUNTERS]), Sketch([0; COUNTERS])] };
        let Relations { sketches, .. } = self.relations.get_or_insert_with(nothing);
        for (sketch, relation) in sketches.iter_mut().zip(relations) {
            sketch.add(mixed(student, relation.wrapping_add(1)));
        }
    }

    pub fn students(&self) -> usize {
        self.students
    }

    /// A hash of all that was added but for its scale, and the scale.
    fn exact(&self) -> (u64, f64) {
        let mut hasher = DefaultHasher::new();
        (self.students, self.least, &self.who).hash(&mut hasher);
        let Some(Relations { to, sketches }) = &self.relations else { return (hasher.finish(), 1.0) };
        sketches.hash(&mut hasher);
        (hasher.finish(), to[0])
    }

    /// Students by whom two differ, and how many times as much was contributed to this one.
    fn distance(&self, other: &Self) -> (u64, f64) {
        let who = self.who.distance(&other.who);
        let (Some(own), Some(others)) = (&self.relations, &other.relations) else { return (who, 1.0) };
        let mut nearest = (u64::MAX, 1.0);
        for (own_to, own) in own.to.iter().zip(&own.sketches) {
            for (others_to, others) in others.to.iter().zip(&others.sketches) {
                let distance = own.distance(others);
                if distance < nearest.0 {
                    nearest = (distance, rounded(own_to / others_to));
                }
            }
        }
        // Who contributed something else counts twice among the relations, and who is in one set only counts once in both.
        (who.max((who + nearest.0).div_ceil(2)), nearest.1)
    }
}

/// Other numbers of a hash, by another one.
fn mixed(student: &Hash, by: u64) -> u64 {
    let (words, _) = student.as_chunks::<8>();
    let word = |place: usize| words.get(place).map_or(0, |word| u64::from_le_bytes(*word));
    let product = u128::from(word(0) ^ by.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * u128::from(word(1) | 1);
    let folded = (product >> u64::BITS) as u64 ^ product as u64;
    folded.wrapping_mul(word(2) | 1) ^ folded >> 32 ^ word(3)
}

#[derive(Clone, Debug)]
struct Known {
    about: u64,
    evidence: Evidence,
    /// From so many students on it is another figure.
    far: u64,
    figure: Option<f64>,
}

#[derive(Default, Debug)]
struct Generation {
    known: Vec<Known>,
    /// What was told of these very students, by what a figure is about and the hash of the evidence: with the scale of it.
    exact: HashMap<(u64, u64), (f64, Option<f64>)>,
    /// Places in `known`, by what a figure is about and one of its least hashes.
    places: HashMap<(u64, u8, u32), Vec<u32>>,
}

impl Generation {
    /// The nearest one that is near enough: its distance, its place, and how many times as much was contributed to the asked one.
    fn nearest(&self, about: u64, evidence: &Evidence) -> Option<(u64, usize, f64)> {
        let mut nearest: Option<(u64, usize, f64)> = None;
        let keys = evidence.least.iter().enumerate().map(|(of, least)| (about, of as u8, *least));
        let found = keys.filter_map(|key| self.places.get(&key)).flat_map(|places| places.iter().rev().take(CANDIDATES));
        let mut places: Vec<u32> = found.copied().collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let known = &self.known[place as usize];
            if known.evidence.students.abs_diff(evidence.students) as u64 >= known.far {
                continue;
            }
            let (distance, times) = evidence.distance(&known.evidence);
            if distance < known.far && nearest.is_none_or(|(least, ..)| distance < least) {
                nearest = Some((distance, place as usize, times));
            }
        }
        nearest
    }

    fn add(&mut self, known: Known) {
        let place = self.known.len() as u32;
        for (of, least) in known.evidence.least.iter().enumerate() {
            self.places.entry((known.about, of as u8, *least)).or_default().push(place);
        }
        self.known.push(known);
    }
}

#[derive(Default, Debug)]
struct Book {
    newer: Generation,
    older: Generation,
}

/// The figures that were given, of all districts of a server; hashes are under a district's key, so those of two are never near.
#[derive(Default, Debug)]
pub struct Given(Mutex<Book>);

impl Given {
    /// The figure that is told of the evidence: `figure`, unless one was told of evidence that differs by fewer than `few` students or little more.
    /// Where that is as many times as much from everybody, so is the figure. The same evidence is told the same again, whatever was told of
    /// nearer evidence meanwhile. `about` tells figures apart that are never compared.
    pub(super) fn told(&self, about: u64, few: u64, evidence: Evidence, figure: Option<f64>) -> Option<f64> {
        let book = &mut *self.0.lock();
        let (hash, scale) = evidence.exact();
        if let Some((of, told)) = book.newer.exact.get(&(about, hash)) {
            return told.map(|told| told * rounded(scale / of));
        }
        let known = book.older.exact.get(&(about, hash)).map(|(of, told)| told.map(|told| told * rounded(scale / of)));
        // What it is compared with stays as well.
        let near = book.near(about, few, evidence, figure);
        let told = known.unwrap_or(near);
        book.newer.exact.insert((about, hash), (scale, told));
        if book.newer.known.len() >= GENERATION || book.newer.exact.len() >= EXACT {
            book.older = std::mem::take(&mut book.newer);
        }
        told
    }
}

impl Given {
    /// A number of what is remembered as the evidence or near it, to be part of what another figure is about.
    pub(super) fn known_as(&self, about: u64, few: u64, evidence: Evidence) -> u64 {
        let number = evidence.exact().0 >> 24;
        self.told(about ^ NUMBERS, few, evidence, Some(number as f64)).map_or(number, |told| told as u64)
    }
}

impl Book {
    fn near(&mut self, about: u64, few: u64, evidence: Evidence, figure: Option<f64>) -> Option<f64> {
        let (of_newer, of_older) = (self.newer.nearest(about, &evidence), self.older.nearest(about, &evidence));
        let (known, times) = match (of_newer, of_older) {
            (Some((distance, place, times)), other) if other.is_none_or(|(least, ..)| distance <= least) => {
                return self.newer.known[place].figure.map(|figure| figure * times);
            }
            // It is asked for, so it stays; the one that is left behind is never reached first.
            (_, Some((_, place, times))) => (self.older.known[place].clone(), times),
            _ => {
                let far = few + u64::from(evidence.least[0]) % SPREAD;
                (Known { about, evidence, far, figure }, 1.0)
            }
        };
        let figure = known.figure.map(|figure| figure * times);
        self.newer.add(known);
        figure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::privacy::noise::Drawn;

    /// Students from a number to before another, each with a contribution.
    fn evidence(students: impl IntoIterator<Item = u128>, given: impl Fn(u128) -> f64) -> Evidence {
        let (drawn, mut evidence) = (Drawn::new(&[7; 32], None), Evidence::default());
        let students: Vec<u128> = students.into_iter().collect();
        let to = [given(students[0]), given(students[1])];
        for student in &students {
            let hash = drawn.hash(*student, b"");
            evidence.add(&hash);
            evidence.relate(&hash, to, to.map(|to| (given(*student) / to).to_bits()));
        }
        evidence
    }

    #[test]
    fn few_students_more_or_less_are_the_same_figure_and_many_are_another() {
        for n in [20_u128, 60, 500, 5_000] {
            let given = Given::default();
            let told = |from: u128, to: u128, figure: f64| given.told(1, 10, evidence(from..to, |_| 1.0), Some(figure));
            assert_eq!(told(0, n, 1.0), Some(1.0));
            assert_eq!(told(0, n, 2.0), Some(1.0));
            for few in 1..=9 {
                assert_eq!(told(few, n, 3.0), Some(1.0), "{few} of {n} are not there");
                assert_eq!(told(0, n + few, 3.0), Some(1.0), "{few} besides {n}");
            }
            assert_eq!(told(4, n + 5, 3.0), Some(1.0));
            assert_eq!(told(20, n + 20, 4.0), Some(4.0), "{n}");
            assert_eq!(given.told(2, 10, evidence(0..n, |_| 1.0), Some(5.0)), Some(5.0), "another kind");
        }
    }

    /// What differs is whose contribution it is and how much, not the scale of all of them.
    #[test]
    fn contributions_count_in_relation_to_each_other() {
        let given = Given::default();
        let told = |value: &dyn Fn(u128) -> f64, from: u128, figure: f64| given.told(1, 10, evidence(from..100, value), Some(figure));
        let own = |student: u128| 1.0 + (student % 7) as f64;
        assert_eq!(told(&own, 0, 400.0), Some(400.0));
        assert_eq!(told(&|student| -3.0 * own(student), 0, 1.0), Some(-1_200.0), "scaled");
        assert_eq!(told(&|student| if student == 50 { 1_000.0 } else { own(student) }, 0, 1.0), Some(400.0), "one gives more");
        // Also when the one is whom the others are related to.
        assert_eq!(told(&|student| if student == 0 { 1_000.0 } else { own(student) }, 0, 1.0), Some(400.0));
        assert_eq!(told(&own, 1, 1.0), Some(400.0));
        assert_eq!(told(&|student| 1.0 + (student % 5) as f64, 0, 1.0), Some(1.0), "others");
    }

    #[test]
    fn what_is_not_asked_for_again_is_forgotten_at_last() {
        let given = Given::default();
        let told = |student: u128, figure: f64| given.told(1, 10, evidence(student * 1_000..student * 1_000 + 20, |_| 1.0), Some(figure));
        told(0, 1.0);
        told(1, 1.0);
        for student in 2..GENERATION as u128 {
            told(student, 1.0);
        }
        assert_eq!(told(0, 2.0), Some(1.0));
        let kept = |book: &Book| (book.newer.known.len(), book.newer.exact.len(), book.older.known.len());
        assert_eq!(kept(&given.0.lock()), (1, 1, GENERATION), "what is asked for again is of the newer");
        assert_eq!(given.told(1, 10, evidence(3..20, |_| 1.0), Some(2.0)), Some(1.0));
        for student in 0..GENERATION as u128 - 1 {
            told(student + 1_000_000, 1.0);
        }
        assert_eq!(told(0, 2.0), Some(1.0));
        assert_eq!(told(1, 2.0), Some(2.0));
    }

    /// What was told stays, though something nearer was told later.
    #[test]
    fn the_same_is_told_the_same_again() {
        let given = Given::default();
        let told = |from: u128, figure: f64| given.told(1, 10, evidence(from..60, |_| 1.0), Some(figure));
        assert_eq!((told(0, 1.0), told(8, 2.0), told(16, 3.0)), (Some(1.0), Some(1.0), Some(3.0)));
        assert_eq!((told(0, 1.0), told(8, 2.0), told(9, 2.0)), (Some(1.0), Some(1.0), Some(3.0)));
    }
}
