//! A log that fills its disk is given room by history, without waiting for the time or for a whole file.

use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;

use super::town::{Disk, Town};

#[tokio::test]
async fn history_is_due_when_its_rows_fill_half_of_the_disk() {
    let mut town = Town::new();
    town.append(Kind::Scan, 0, &[(1, 1), (2, 2), (3, 3)], 0);
    town.history.open().await.unwrap();
    let is_due = |disk_bytes, newest_segment| {
        *town.log.1.lock() = Disk { disk_bytes, budget_bytes: 100, newest_segment: Offset(newest_segment) };
        town.history.is_due()
    };
    assert!(!is_due(50, 3), "there is room");
    assert!(is_due(51, 3));
    assert!(is_due(51, 1), "a segment would go");
    assert!(!is_due(51, 0), "the one segment there is would stay");
    assert!(is_due(51, 3));
    while town.history.flush().await.unwrap() {}
    assert!(!town.history.is_due(), "nothing waits any more");
}
