//! How hard a fault test tries. In the test command each has its short form with one seed; `cargo xtask torture` sets the
//! seed and the length by environment.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of the test command, so that it does the same every day.
const SEED: u64 = 1;
/// How long a whole long form takes, about, on two processors that have other things to do.
const LONG_MINUTES: u64 = 20;

#[derive(Clone, Copy, Debug)]
pub struct Torture {
    pub seed: u64,
    /// The long form, and of how many minutes all scenarios have together.
    pub minutes: Option<u64>,
}

impl Torture {
    /// Reads the environment and prints the seed; a test that fails shows it.
    pub fn begin(scenario: &str) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let torture = Self { seed: number("ROLLCALL_TEST_SEED").unwrap_or(SEED), minutes: number("ROLLCALL_TEST_TORTURE_MINUTES") };
        let form = if torture.minutes.is_some() { "long" } else { "short" };
        println!("{scenario}: seed {}, {form} form", torture.seed);
        torture
    }

    pub fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }

    /// How often something is done: the long form's number is that of twenty minutes.
    pub fn scaled(&self, short: u64, long: u64) -> u64 {
        self.minutes.map_or(short, |minutes| (long * minutes / LONG_MINUTES).clamp(short, long))
    }

    /// One value for each form.
    pub fn either<T>(&self, short: T, long: T) -> T {
        if self.minutes.is_some() { long } else { short }
    }
}
