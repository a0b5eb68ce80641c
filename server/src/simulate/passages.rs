//! Who passes a gate next: everybody comes in, and then all leave, or the school stays in session and a few go out and come back.

use std::collections::VecDeque;

use rand::Rng;
use rand::rngs::StdRng;

/// Of those who came, the share that is out at a time while the school stays in session.
const OUT: f64 = 0.03;
/// Passages are so much rarer while the school stays in session than while everybody comes.
const RARER: f64 = 20.0;

/// One passage of a gate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Passage {
    /// Which of the students.
    pub who: usize,
    /// `in` or `out`.
    pub direction: &'static str,
    /// How long it takes until it happens, in relation to the pace of the arrivals.
    pub pauses: f64,
}

pub struct Passages {
    students: usize,
    /// How many have come in, and after that, left for good.
    passed: usize,
    /// The school stays in session without end.
    stays: bool,
    /// Who is out, for the longest time first.
    out: VecDeque<usize>,
}

impl Passages {
    pub fn new(students: usize, stays: bool) -> Self {
        Self { students, passed: 0, stays, out: VecDeque::new() }
    }

    /// `None`: everybody has left.
    pub fn next(&mut self, random: &mut StdRng) -> Option<Passage> {
        if self.passed < self.students || (!self.stays && self.passed < 2 * self.students) {
            let who = self.passed % self.students;
            let direction = if self.passed < self.students { "in" } else { "out" };
            self.passed += 1;
            return Some(Passage { who, direction, pauses: 1.0 });
        }
        if !self.stays || self.students == 0 {
            return None;
        }
        let most = (self.students as f64 * OUT).ceil() as usize;
        let who = random.random_range(0..self.students);
        if self.out.len() >= most || self.out.contains(&who) {
            let who = self.out.pop_front()?;
            return Some(Passage { who, direction: "in", pauses: RARER });
        }
        self.out.push_back(who);
        Some(Passage { who, direction: "out", pauses: RARER })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn everybody_comes_and_leaves() {
        let (mut passages, mut random) = (Passages::new(3, false), StdRng::seed_from_u64(1));
        let all: Vec<(usize, &str)> = std::iter::from_fn(|| passages.next(&mut random)).map(|next| (next.who, next.direction)).collect();
        assert_eq!(all, [(0, "in"), (1, "in"), (2, "in"), (0, "out"), (1, "out"), (2, "out")]);
        assert_eq!(Passages::new(0, true).next(&mut random), None);
    }

    #[test]
    fn a_school_in_session_goes_on_with_few_out_at_a_time() {
        let (mut passages, mut random) = (Passages::new(120, true), StdRng::seed_from_u64(1));
        let (mut inside, mut went) = (HashSet::new(), HashSet::new());
        for step in 0..10_000 {
            let Passage { who, direction, .. } = passages.next(&mut random).unwrap();
            let is_new = if direction == "in" { inside.insert(who) } else { went.insert(who) | inside.remove(&who) };
            assert!(is_new, "{who} {direction} twice");
            assert!(step < 120 || inside.len() >= 116, "{} inside", inside.len());
        }
        assert!(went.len() > 100, "{} ever went out", went.len());
    }
}
