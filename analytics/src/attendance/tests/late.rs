//! What reaches a day long after it was over, and who is there meanwhile.

use rollcall_model::event::Direction;
use rollcall_model::status::{MarkStatus, Status};
use rollcall_model::time::UtcMillis;

use super::town::*;
use crate::attendance::seam::DayKey;

const DAY_MIN: u32 = 24 * 60;

/// Everybody's newest statuses of the day that is over, but those of one.
async fn of_the_others(running: &Running, but: u8) -> Vec<Status> {
    // What one turn concludes is written together.
    running.written(1).await;
    let rows = running.database.newest();
    rows.into_iter().filter(|((day, person, _), _)| day.date == friday() && *person != student(but)).map(|(_, row)| row.status).collect()
}

async fn on_monday() -> (Running, UtcMillis) {
    let now = at(0, 12, 0).plus_min(3 * DAY_MIN);
    let running = Running::start(Town::new(1), now).await;
    running.connection(0, true).await;
    (running, now)
}

#[tokio::test]
async fn a_mark_about_a_day_without_any_scan_accuses_nobody_else() {
    let (running, now) = on_monday().await;
    running.mark(marked(1, 0, student(0), 0, MarkStatus::Present, now)).await;
    let others = of_the_others(&running, 0).await;
    assert!(!others.contains(&Status::Absent), "{others:?}");
    let marked = running
        .database
        .newest()
        .into_iter()
        .find(|((day, person, meeting), _)| (day.date, *person, *meeting) == (friday(), student(0), Some((section(0, 0), period(0)))));
    assert_eq!(marked.map(|(_, row)| row.status), Some(Status::Present));
}

#[tokio::test]
async fn a_day_of_which_gates_sent_scans_is_concluded_from_them() {
    let (running, _) = on_monday().await;
    running.scan(scanned(0, student(1), 1, at(0, 7, 55), Direction::In)).await;
    let others = of_the_others(&running, 1).await;
    assert!(!others.is_empty() && others.iter().all(|status| *status == Status::Absent), "{others:?}");
}

/// Scanned in before the first bell, out a quarter past it, and in again later than the gap that is bridged.
#[tokio::test]
async fn whoever_left_and_came_back_was_not_there_meanwhile() {
    let town = Town::new(1);
    let (hour, minute) = town.bells[0].0;
    let starts = at(0, hour, minute);
    let running = Running::start(town, starts.plus_ms(-600_000)).await;
    running.connection(0, true).await;
    let steps = [(-5_i64, Direction::In), (15, Direction::Out), (40, Direction::In)];
    for (seq, (minutes, direction)) in steps.into_iter().enumerate() {
        let now = starts.plus_ms(minutes * 60_000);
        running.go_to(now).await;
        running.scan(scanned(0, student(0), seq as u64 + 1, now, direction)).await;
    }
    let day = DayKey { district: DISTRICT, school: school(0), date: friday() };
    let minutes = loop {
        let present = running.handle.presence(day, u64::MAX).await.and_then(|said| said.present).unwrap_or_default();
        let of_one = present.into_iter().filter(|one| one.student == student(0) && one.period == period(0)).map(|one| one.span);
        let minutes: Vec<_> = of_one.map(|span| ((span.starts.0 - starts.0) / 60_000, (span.ends.0 - starts.0) / 60_000)).collect();
        if minutes.len() > 1 || running.clock.now() > starts.plus_min(50) {
            break minutes;
        }
        running.go_to(running.clock.now().plus_min(1)).await;
    };
    assert_eq!(minutes.len(), 2, "{minutes:?}");
    assert_eq!((minutes[0], minutes[1].0), ((0, 15), 40));
}
