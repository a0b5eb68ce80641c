//! Events as tables of the engine: one name for hot rows and for history.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use tokio::sync::watch;

use crate::history::{History, HistoryTable};
use crate::hot::scan::Selection;
use crate::hot::table::{self, KINDS};
use crate::hot::{HotTable, HotTables};
use crate::query::source::{About, ScopeColumns, TableSource};

/// What the rows of a kind are, for the catalog.
pub const fn documentation(kind: Kind) -> &'static str {
    match kind {
        Kind::Scan => "One row a scan: a device saw a badge at an instant. Evidence, not yet a conclusion.",
        Kind::Telemetry => "One row a metric of a reading of a wearable or device. An event with four metrics is four rows.",
        Kind::Activity => "One row for everything that happened in a learning app.",
        Kind::Mark => "One row a mark: what a teacher or office stated about a student's period or day. Corrections are new rows.",
        Kind::Status | Kind::DeadLetter => "",
    }
}

/// What a column of a kind holds, for the catalog.
pub fn column_documentation(kind: Kind, column: &str) -> Option<&'static str> {
    Some(match (kind, column) {
        (_, "district") => "The district.",
        (_, "school") => "The school of the device, or of the student for a mark.",
        (Kind::Mark, "device") => "The account of the author.",
        (_, "device") => "The device that spoke.",
        (Kind::Mark, "seq") => "Always 0.",
        (_, "seq") => "The device's sequence number.",
        (Kind::Mark, "ts") => "When it was recorded.",
        (_, "ts") => "Event time: when it happened at the device.",
        (_, "received") => "When the server accepted it.",
        (_, "offline") => "Whether the event waited in the device's queue.",
        (Kind::Telemetry, "person") => "Who wears it; null for a device that nobody wears.",
        (_, "person" | "student") => "The student or member of staff, by pseudonymous id.",
        (_, "badge") => "The record of the badge.",
        (_, "dir") => "in, out or auto.",
        (_, "method") => "qr, nfc, ble or manual.",
        (_, "metric") => "Name of the metric: steps, worn, battery, ...",
        (_, "value") => "The metric's value, in its own unit.",
        (_, "kind") => "opened, interacted, answered, submitted, advanced or closed.",
        (_, "resource") => "What it happened in.",
        (_, "section") => "The section, where it was given.",
        (_, "dur_ms") => "How long it took, in milliseconds.",
        (_, "mark") => "The mark's own id.",
        (_, "period") => "The period; null: about the day.",
        (_, "date") => "The school's local date.",
        (_, "status") => "present, tardy, absent_unexcused, early_departure, absent_excused or cleared.",
        (_, "authority") => "teacher or office.",
        (_, "reason") => "Why, in the author's words.",
        (_, "supersedes") => "The mark that this one corrects.",
        (_, "at") => "When the stated tardiness or departure was.",
        (_, table::OFFSET) => "The row's place in the log.",
        _ => return None,
    })
}

/// By which columns a kind is limited to what a caller may see.
pub fn scope(kind: Kind) -> ScopeColumns {
    let (section, person, identifying): (_, _, &[&str]) = match kind {
        Kind::Scan => (None, "person", &["device", "seq", "badge", table::OFFSET]),
        Kind::Activity => (Some("section"), "person", &["device", "seq", table::OFFSET]),
        // A reason is free text; the author's account stands in `device`.
        Kind::Mark => (Some("section"), "student", &["device", "mark", "supersedes", "reason", table::OFFSET]),
        _ => (None, "person", &["device", "seq", table::OFFSET]),
    };
    ScopeColumns { about: About::Students, district: "district", school: Some("school"), section, person: Some(person), identifying }
}

struct EventSource {
    kind: Kind,
    tables: Arc<HotTables>,
    history: Option<History>,
}

impl TableSource for EventSource {
    fn name(&self) -> &str {
        table::name(self.kind)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(table::schema(self.kind))
    }

    fn documentation(&self) -> &str {
        documentation(self.kind)
    }

    fn column_documentation(&self, column: &str) -> Option<&str> {
        column_documentation(self.kind, column)
    }

    fn scope(&self) -> ScopeColumns {
        scope(self.kind)
    }

    fn provider(&self) -> Arc<dyn TableProvider> {
        match &self.history {
            Some(history) => Arc::new(HistoryTable::new(history.clone(), Arc::clone(&self.tables), self.kind)),
            None => Arc::new(HotTable::new(Arc::clone(&self.tables), self.kind)),
        }
    }

    fn changed(&self) -> Vec<watch::Receiver<u64>> {
        vec![self.tables.changed_of(self.kind)]
    }

    fn has_news(&self, since: &[u64], filters: &[Expr]) -> bool {
        let since = Offset(since.first().copied().unwrap_or_default());
        let snapshot = self.tables.snapshot(self.kind);
        // What has left is in history, where there is one.
        let has_lost = self.history.is_none() && snapshot.shrunk > since;
        has_lost || since < snapshot.first || snapshot.has_since(since, &Selection::new(table::schema(self.kind), filters))
    }
}

/// `scans`, `telemetry`, `activity` and `marks`: of the last hours, and of as long as history keeps them where there is one.
pub fn event_tables(tables: &Arc<HotTables>, history: Option<&History>) -> Vec<Arc<dyn TableSource>> {
    let source = |kind: &Kind| EventSource { kind: *kind, tables: Arc::clone(tables), history: history.cloned() };
    KINDS.iter().map(|kind| Arc::new(source(kind)) as Arc<dyn TableSource>).collect()
}
