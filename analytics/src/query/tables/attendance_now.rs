//! `attendance_now`: the statuses of today from the live state, as the boards show them.
//!
//! The rows of a school are made when a query asks and kept until one of them changes, so that asking again costs the
//! live state a comparison of versions. A query asks school after school: the boards wait for one school's copy at most.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;
use parking_lot::Mutex;
use rollcall_model::ids::{DistrictId, SchoolId};
use rollcall_store::directory::DirectoryCache;
use tokio::sync::watch;

use crate::attendance::{EngineHandle, StatusNow};
use crate::facts::columns::{self, Column};
use crate::facts::narrow::{Narrow, OnDemand, OnDemandTable};
use crate::query::ids::ID;
use crate::query::source::{About, ScopeColumns, TableSource};

const NAME: &str = "attendance_now";

fn described() -> Vec<Column> {
    let instant = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    vec![
        ("district", ID, false, "The district."),
        ("school", ID, false, "The school."),
        ("student", ID, false, "The student, by pseudonymous id."),
        ("section", ID, true, "The section; null in the row about the day."),
        ("period", ID, true, "The period; null in the row about the day."),
        ("date", DataType::Date32, false, "The school's local date, today."),
        ("starts", instant(), true, "When the meeting begins; null in the row about the day."),
        ("ends", instant(), true, "When the meeting ends; null in the row about the day."),
        ("status", DataType::Utf8, false, "expected, present, tardy, absent, early_departure or unknown."),
        ("since", instant(), true, "Arrival for present and tardy, departure for early departure."),
        ("rule", DataType::Utf8, false, "The rule that led to the status."),
    ]
}

/// The rows of one school, as they were last read.
struct Kept {
    date: NaiveDate,
    version: u64,
    rows: RecordBatch,
}

struct Live {
    handle: EngineHandle,
    directory: Arc<DirectoryCache>,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// One a school of the directory.
    kept: Mutex<HashMap<(DistrictId, SchoolId), Kept>>,
}

impl Live {
    /// The schools that the filters leave; what was kept of others that are gone is forgotten.
    fn schools(&self, narrow: &Narrow) -> VecDeque<(DistrictId, SchoolId)> {
        let directory = self.directory.current();
        let districts = directory.districts.values();
        let all: Vec<_> = districts.flat_map(|district| district.roster.schools.keys().map(|school| (district.id, *school))).collect();
        let mut kept = self.kept.lock();
        if kept.len() > all.len() {
            kept.retain(|key, _| all.contains(key));
        }
        let mut schools: Vec<_> = all.into_iter().filter(|school| narrow.wants_school(school)).collect();
        schools.sort_unstable();
        schools.into()
    }

    /// The rows of a school; `None`: its day is not loaded.
    async fn rows(&self, (district, school): (DistrictId, SchoolId)) -> Result<Option<RecordBatch>> {
        let known = self.kept.lock().get(&(district, school)).map(|kept| (kept.date, kept.version));
        let Some(now) = self.handle.statuses(district, school, known).await else { return Ok(None) };
        let Some(rows) = now.rows else {
            let kept = self.kept.lock();
            if let Some(kept) = kept.get(&(district, school)).filter(|kept| (kept.date, kept.version) == (now.date, now.version)) {
                return Ok(Some(kept.rows.clone()));
            }
            drop(kept);
            // Another query has put something newer in its place; that one is as good.
            return Ok(self.kept.lock().get(&(district, school)).map(|kept| kept.rows.clone()));
        };
        let rows = batch(&self.schema, (district, school), now.date, &rows)?;
        let kept = Kept { date: now.date, version: now.version, rows: rows.clone() };
        self.kept.lock().insert((district, school), kept);
        Ok(Some(rows))
    }
}

fn batch(
    schema: &SchemaRef,
    (district, school): (DistrictId, SchoolId),
    date: NaiveDate,
    rows: &[StatusNow],
) -> Result<RecordBatch, ArrowError> {
    let of = || rows.iter();
    let columns: Vec<ArrayRef> = vec![
        columns::ids(of().map(|_| Some(district.as_bytes())))?,
        columns::ids(of().map(|_| Some(school.as_bytes())))?,
        columns::ids(of().map(|row| Some(row.student.as_bytes())))?,
        columns::ids(of().map(|row| row.meeting.as_ref().map(|(section, ..)| section.as_bytes())))?,
        columns::ids(of().map(|row| row.meeting.as_ref().map(|(_, period, _)| period.as_bytes())))?,
        columns::dates(of().map(|_| date)),
        columns::instants(of().map(|row| row.meeting.map(|(.., span)| span.starts))),
        columns::instants(of().map(|row| row.meeting.map(|(.., span)| span.ends))),
        columns::texts(of().map(|row| Some(row.status.as_str()))),
        columns::instants(of().map(|row| row.since)),
        columns::texts(of().map(|row| Some(row.rule.as_str()))),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns)
}

struct Source(Arc<Live>);

impl TableSource for Source {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }

    fn documentation(&self) -> &str {
        "One row a student who is expected today and meeting of a section, and one about the day: what the boards show now."
    }

    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.0.columns.iter().find(|(name, ..)| *name == column).map(|(.., documentation)| *documentation)
    }

    fn scope(&self) -> ScopeColumns {
        ScopeColumns {
            about: About::Students,
            district: "district",
            school: Some("school"),
            section: Some("section"),
            person: Some("student"),
            identifying: &[],
        }
    }

    fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(OnDemandTable(Table(Arc::clone(&self.0))))
    }

    fn changed(&self) -> Vec<watch::Receiver<u64>> {
        vec![self.0.handle.status_changes().count()]
    }

    fn has_news(&self, since: &[u64], filters: &[Expr]) -> bool {
        let (narrow, since) = (Narrow::of(filters), since.first().copied().unwrap_or_default());
        self.0.handle.status_changes().since(since, |school| narrow.wants_school(school))
    }

    fn warnings(&self) -> Vec<String> {
        match self.0.handle.ready() {
            true => Vec::new(),
            false => vec!["The statuses of today are still being loaded for some schools.".to_owned()],
        }
    }
}

struct Table(Arc<Live>);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}

impl OnDemand for Table {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn rows(&self, narrow: Narrow) -> Arc<dyn PartitionStream> {
        Arc::new(Rows { live: Arc::clone(&self.0), narrow })
    }
}

struct Rows {
    live: Arc<Live>,
    narrow: Narrow,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME} {:?}", self.narrow)
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.live.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let live = Arc::clone(&self.live);
        let batches = stream::try_unfold((live, self.live.schools(&self.narrow)), |(live, mut schools)| async move {
            while let Some(school) = schools.pop_front() {
                if let Some(rows) = live.rows(school).await? {
                    return Ok(Some((rows, (live, schools))));
                }
            }
            Ok(None)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.live.schema), batches))
    }
}

/// `attendance_now` over the running live state.
pub fn attendance_now(live: &EngineHandle, directory: &Arc<DirectoryCache>) -> Arc<dyn TableSource> {
    let (columns, handle) = (described(), live.clone());
    let schema = columns::schema(&columns);
    Arc::new(Source(Arc::new(Live { handle, directory: Arc::clone(directory), columns, schema, kept: Mutex::default() })))
}
