//! One plain sentence for a person, from what is stored with a status.

use chrono_tz::Tz;

use super::{BehindReason, StatusDetail};
use crate::status::{Authority, Flag, MarkStatus, Rule, Status};
use crate::time::UtcMillis;

/// Says in one English sentence, without any name, why a status holds; local times in `zone`. Works on a stored row
/// as on a fresh conclusion.
pub fn explain(status: Status, rule: Rule, detail: &StatusDetail, zone: Tz) -> String {
    let time = |instant: Option<UtcMillis>| clock(instant, zone);
    let arrived = || format!("Arrived {}", time(detail.arrival));
    let after_bell = || after_bell(detail);
    let mut sentence = match rule {
        Rule::BeforeStart => format!("Not yet seen; the bell rings at {}", time(detail.starts)),
        Rule::Awaited => format!("Not seen since the bell at {}; still awaited", time(detail.starts)),
        Rule::ArrivedByGrace if detail.arrival <= detail.starts => {
            format!("{}, before the bell at {}", arrived(), time(detail.starts))
        }
        Rule::ArrivedByGrace => {
            format!("{}, {} after the bell; within the grace of {} minutes", arrived(), after_bell(), detail.grace_min)
        }
        Rule::ArrivedAfterGrace => {
            format!("{}, {} after the bell; the grace is {} minutes", arrived(), after_bell(), detail.grace_min)
        }
        Rule::ArrivedAfterCutoff => {
            let cutoff = detail.tardy_cutoff_min;
            format!("{}, {} after the bell; later than the cutoff of {cutoff} minutes", arrived(), after_bell())
        }
        Rule::NoEvidence => format!("Not seen by any scanner since the bell at {}", time(detail.starts)),
        Rule::LeftBeforeEnd => {
            format!("Left {} and did not come back; the end was {}", time(detail.departure), time(detail.ends))
        }
        Rule::LeftBeforeStart => {
            let left = detail.evidence.last().map(|scan| scan.ts);
            format!("Left {}, before the bell at {}, and did not come back", time(left), time(detail.starts))
        }
        Rule::GateBehind => gate_behind(detail, zone),
        Rule::RollNotTaken => "The roll was not taken and there is no scanner that could tell".to_owned(),
        Rule::TeacherMark | Rule::OfficeMark => marked(status, detail, zone),
    };
    for flag in detail.flags.iter() {
        sentence.push_str(remark(flag));
    }
    sentence.push('.');
    sentence
}

fn clock(instant: Option<UtcMillis>, zone: Tz) -> String {
    match instant.and_then(UtcMillis::to_chrono) {
        Some(utc) => utc.with_timezone(&zone).format("%H:%M").to_string(),
        None => "at an unknown time".to_owned(),
    }
}

/// The time from the bell to the arrival: whole minutes begun, as a person reads a clock, but seconds below one.
fn after_bell(detail: &StatusDetail) -> String {
    let ms = match (detail.arrival, detail.starts) {
        (Some(arrival), Some(starts)) => arrival.0.saturating_sub(starts.0).max(0),
        _ => 0,
    };
    match ms / 60_000 {
        0 => "less than a minute".to_owned(),
        1 => "1 minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

fn gate_behind(detail: &StatusDetail, zone: Tz) -> String {
    let Some(first) = detail.behind.first() else { return "A scanner has not sent all of its scans yet".to_owned() };
    let why = match first.reason {
        BehindReason::Offline => "is offline",
        BehindReason::Queued => "still holds scans",
        BehindReason::Silent => "has gone silent",
    };
    let since = clock(Some(first.since), zone);
    match detail.behind.len() {
        1 => format!("A scanner {why}; what it saw since {since} is missing"),
        count => format!("{count} scanners are behind; what they saw since {since} is missing"),
    }
}

fn marked(status: Status, detail: &StatusDetail, zone: Tz) -> String {
    let Some(mark) = &detail.mark else { return "Marked by a person".to_owned() };
    let who = match mark.authority {
        Authority::Teacher => "a teacher",
        Authority::Office => "the office",
    };
    let said = match mark.status {
        MarkStatus::Present => "present",
        MarkStatus::Tardy => "tardy",
        MarkStatus::AbsentUnexcused => "absent, unexcused,",
        MarkStatus::AbsentExcused => "absent, excused,",
        MarkStatus::EarlyDeparture => "as an early departure",
        MarkStatus::Cleared => "as cleared",
    };
    let mut sentence = format!("Marked {said} by {who} at {}", clock(Some(mark.recorded), zone));
    match (mark.status, mark.at) {
        (MarkStatus::EarlyDeparture, Some(at)) => sentence.push_str(&format!("; left {}", clock(Some(at), zone))),
        (_, Some(at)) => sentence.push_str(&format!("; arrived {}", clock(Some(at), zone))),
        (_, None) => {}
    }
    let says_it = match status {
        Status::Present => mark.status == MarkStatus::Present,
        Status::Tardy => mark.status == MarkStatus::Tardy,
        Status::EarlyDeparture => mark.status == MarkStatus::EarlyDeparture,
        Status::Absent => matches!(mark.status, MarkStatus::AbsentExcused | MarkStatus::AbsentUnexcused),
        Status::Expected | Status::Unknown => true,
    };
    if !says_it {
        sentence.push_str(&format!("; that makes this {}", status.as_str().replace('_', " ")));
    }
    sentence
}

fn remark(flag: Flag) -> &'static str {
    match flag {
        Flag::InButMarkedAbsent => "; a scanner saw the student come in, please check",
        Flag::MissedScan => "; no scanner saw the student come in",
        Flag::ReentryGap => "; a scanner saw the student leave before that, please check",
        Flag::LateEvidence => "; a scan arrived late",
        Flag::LeftAfterMark => "; a scanner saw the student leave afterwards, please check",
    }
}
