//! What of the live state wakes those who keep something that was made of it.

use rollcall_model::event::Direction::In;
use rollcall_model::status::Status;

use super::town::*;

/// Two schools, gates connected, at 7:30 in Berlin.
async fn morning() -> Running {
    let town = Running::start(Town::new(2), at(0, 7, 30)).await;
    town.connection(0, true).await;
    town.connection(1, true).await;
    town
}

#[tokio::test]
async fn events_and_the_clock_move_the_statuses_of_their_school_only() {
    let town = morning().await;
    let changes = town.handle.status_changes();
    let count = changes.count();
    let moved = |since: u64| [0, 1].map(|number| changes.since(since, |key| *key == (DISTRICT, school(number))));

    let before = *count.borrow();
    town.scan(scanned(0, student(0), 1, at(0, 7, 50), In)).await;
    assert_eq!(moved(before), [true, false]);

    // No event comes any more; the second school is in New York and asleep.
    let before = *count.borrow();
    town.go_to(at(0, 8, 20)).await;
    assert_eq!(town.status(student(1), Some(0)).await, Status::Absent);
    assert!(*count.borrow() > before, "the clock made somebody absent and nobody was told");
    assert_eq!(moved(before), [true, false]);
    town.stop(false).await;
}

#[tokio::test]
async fn what_changes_no_status_wakes_nobody() {
    let town = morning().await;
    let mut count = town.handle.status_changes().count();
    town.scan(scanned(0, student(0), 1, at(0, 7, 50), In)).await;
    count.mark_unchanged();
    town.heartbeat(0, 0).await;
    town.scan(scanned(0, student(0), 2, at(0, 7, 51), In)).await;
    town.go_to(at(0, 7, 55)).await;
    assert!(!count.has_changed().unwrap());
    town.stop(false).await;
}

#[tokio::test]
async fn midnight_and_a_school_that_closes_are_changes() {
    let town = morning().await;
    let changes = town.handle.status_changes();
    let mut count = changes.count();
    let before = *count.borrow();
    town.go_to(at(0, 0, 0).plus_ms(24 * 60 * 60 * 1000)).await;
    assert!(changes.since(before, |key| *key == (DISTRICT, school(0))));

    let before = *count.borrow_and_update();
    town.office.change(|town| town.schools = 1);
    let closed = count.wait_for(|_| changes.since(before, |key| *key == (DISTRICT, school(1))));
    tokio::time::timeout(std::time::Duration::from_secs(10), closed).await.unwrap().unwrap();
    town.stop(false).await;
}
