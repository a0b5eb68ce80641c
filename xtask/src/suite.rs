//! `cargo xtask test`: set-up, house rules, and every suite one after another. Ends with one line that adds them up.

use std::process::ExitCode;

use anyhow::Result;

use crate::shell::{Shell, cargo, command};
use crate::{rules, setup};

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    broken: Vec<&'static str>,
}

pub fn run(browser: bool) -> Result<ExitCode> {
    setup::for_tests(browser)?;
    let mut tally = Tally::default();
    tally.rules();
    tally.suite("dashboard types", command("npm").args(["run", "--silent", "check"]).dir("dashboard"))?;
    tally.suite("dashboard", command("npm").args(["test", "--silent"]).dir("dashboard"))?;
    tally.suite("timescale", command("npm").args(["test", "--silent"]).dir("tests/timescale"))?;
    // The black-box tests start the real binary, which `cargo test` alone would not build. Together with the tests, so
    // that both have the same features and nothing is built twice.
    cargo(["build", "--workspace", "--bins", "--tests"]).run()?;
    let mut tests = cargo(["test", "--workspace", "--no-fail-fast"]).env("RUST_BACKTRACE", "0");
    if !browser {
        tests = tests.env("ROLLCALL_TEST_NO_BROWSER", "1");
    }
    tally.suite("cargo", tests)?;
    for name in &tally.broken {
        println!("did not pass: {name}");
    }
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Tally {
    fn rules(&mut self) {
        match rules::check() {
            Ok(()) => self.passed += 1,
            Err(_) => self.broke("house rules"),
        }
    }

    /// A suite that fails without naming a failed test (it did not compile, it crashed) counts as one.
    fn suite(&mut self, name: &'static str, shell: Shell) -> Result<()> {
        let failed_before = self.failed;
        let ok = shell.run_watched(|line| {
            let (passed, failed) = counts(line);
            self.passed += passed;
            self.failed += failed;
        })?;
        if !ok {
            if self.failed == failed_before {
                self.failed += 1;
            }
            self.broken.push(name);
        }
        Ok(())
    }

    fn broke(&mut self, name: &'static str) {
        self.failed += 1;
        self.broken.push(name);
    }
}

/// What a runner's summary line says: cargo's "test result: ok. 3 passed; 1 failed; ..." or node's "# pass 3", "ℹ pass 3".
fn counts(line: &str) -> (u64, u64) {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    if let Some(rest) = line.strip_prefix("test result: ") {
        let before = |word: &str| rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)).map_or(0, number);
        return (before(" passed"), before(" failed"));
    }
    let line = line.trim_start_matches(['#', 'ℹ', ' ']);
    if let Some(rest) = line.strip_prefix("pass ") {
        return (number(rest), 0);
    }
    line.strip_prefix("fail ").map_or((0, 0), |rest| (0, number(rest)))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn summary_lines_are_counted() {
        assert_eq!(counts("test result: ok. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.85s"), (12, 1));
        assert_eq!(counts("# pass 7"), (7, 0));
        assert_eq!(counts("ℹ fail 2"), (0, 2));
        assert_eq!(counts("test passes ... ok"), (0, 0));
    }
}
