//! `rollcall import oneroster`: reads the files, reports every problem with its place, and loads all or nothing.

use anyhow::{Context, Result};
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use rollcall_roster::{LoadError, LoadOptions, Problems, Severity};
use rollcall_store::roster::{self, Progress};
use serde_json::json;

use crate::cli::{EXIT_REFUSED, Oneroster};
use crate::config::Config;
use crate::database::{Database, Use};

/// Returns the exit code: 0, or [`EXIT_REFUSED`] when the files have errors.
pub async fn oneroster(config: &Config, import: &Oneroster) -> Result<u8> {
    let zone: chrono_tz::Tz =
        import.zone.parse().map_err(|_| anyhow::anyhow!("{:?} is no time zone, such as America/Chicago", import.zone))?;
    let options = LoadOptions { default_zone: Some(zone) };
    let loaded = match rollcall_roster::load(&import.file, import.timetable.as_deref(), &options) {
        Ok(loaded) => loaded,
        Err(LoadError::Refused(problems)) => {
            report_problems(import, &problems);
            if import.json {
                println!("{}", json!({"imported": false, "problems": problems.kept(), "problems_not_listed": problems.not_kept()}));
            } else {
                eprintln!("nothing was imported: {} errors", problems.errors());
            }
            return Ok(EXIT_REFUSED);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", import.file.display())),
    };
    report_problems(import, &loaded.warnings);
    let database = Database::open(config, Use::Command).await?;
    let bar = progress_bar();
    let mut progress = |at: Progress| {
        bar.set_length(at.total);
        bar.set_position(at.done);
        bar.set_message(at.step);
    };
    // The district's date, not that of UTC: in the evening the two differ, and enrolments that end would end a day off.
    let zone = loaded.roster.schools.first().map_or(zone, |school| school.zone);
    let today = Utc::now().with_timezone(&zone).date_naive();
    let outcome = roster::import(&database.store, &database.vault, &import.district, &loaded.roster, today, &mut progress).await;
    bar.finish_and_clear();
    let report = outcome.with_context(|| format!("nothing was imported into {}", import.district))?;
    if import.json {
        println!("{}", json!({"imported": true, "report": report, "problems": loaded.warnings.kept()}));
    } else {
        println!("imported into {}:", import.district);
        for (what, tally) in [
            ("schools", report.schools),
            ("people", report.people),
            ("sections", report.sections),
            ("enrolments", report.enrolments),
            ("guardians", report.guardians),
        ] {
            println!("  {what:<11} {:>7} added {:>7} changed {:>7} ended", tally.added, tally.changed, tally.ended);
        }
    }
    database.close().await;
    Ok(0)
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<14} {bar:40} {pos}/{len} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    // indicatif shows nothing where standard error is no terminal.
    ProgressBar::new(0).with_style(style)
}

fn report_problems(import: &Oneroster, problems: &Problems) {
    if import.json {
        return;
    }
    for problem in problems.kept() {
        let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
        eprintln!("{}:{}:{}: {severity}: {}", problem.file, problem.line, problem.column, problem.message);
    }
    if problems.not_kept() > 0 {
        eprintln!("and {} more", problems.not_kept());
    }
}
