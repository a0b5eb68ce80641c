//! Engagement in SQL: settled windows of sections, and what single students contributed to them.
//!
//! A scan reads the windows of all districts that the filters leave, school after school and a few dates at a time, each
//! as it stands now. Whoever plans a query keeps the caller's scope above it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;
use rollcall_model::ids::{DistrictId, SchoolId};
use rollcall_model::schedule::local_date;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_store::Store;
use rollcall_store::directory::DirectoryCache;
use rollcall_store::engagement::{self, EngagementWindow};
use serde::Deserialize;
use uuid::Uuid;

use crate::facts::columns::{self, Column};
use crate::facts::narrow::{Narrow, OnDemand, OnDemandTable};

/// Dates of one school that are read at a time: some ten thousand windows of a large one.
const DATES_PER_CHUNK: usize = 4;

const ID: DataType = DataType::FixedSizeBinary(16);
const COUNT: DataType = DataType::Int32;
const LARGE: DataType = DataType::Int64;
const RATIO: DataType = DataType::Float64;

/// What a row is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    Sections,
    Students,
}

impl Grain {
    pub const ALL: [Self; 2] = [Self::Sections, Self::Students];

    /// The table's name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sections => "engagement",
            Self::Students => "engagement_student",
        }
    }

    pub const fn documentation(self) -> &'static str {
        match self {
            Self::Sections => {
                "One row a section and settled window of five minutes of which there is data: the class as a whole, as corrected until now."
            }
            Self::Students => "One row a student with data and settled window of five minutes: what the section's figures are made of.",
        }
    }

    pub fn columns(self) -> Vec<Column> {
        match self {
            Self::Sections => [window(), section()].concat(),
            Self::Students => [window(), student()].concat(),
        }
    }
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn window() -> Vec<Column> {
    vec![
        ("district", ID, false, "The district."),
        ("school", ID, false, "The school."),
        ("section", ID, false, "The section."),
        ("period", ID, false, "The period in which it met."),
        ("date", DataType::Date32, false, "The school's local date."),
        ("slot", instant(), false, "Multiple of five minutes at which the window begins, before it is clipped to the meeting."),
        ("definition", COUNT, false, "Version of the definition of the metrics."),
    ]
}

fn section() -> Vec<Column> {
    vec![
        ("revision", COUNT, false, "1: as it settled; more: corrected that often."),
        ("starts", instant(), false, "Beginning, clipped to the meeting."),
        ("ends", instant(), false, "End, clipped to the meeting, exclusive."),
        ("parameters", DataType::Utf8, false, "What the values were computed with, as JSON."),
        ("present", COUNT, false, "Enrolled students who were present."),
        ("with_data", COUNT, false, "How many of them there is data of."),
        ("events", LARGE, false, "Their events in the window."),
        ("late_events", LARGE, false, "Events that were received after the window had settled."),
        ("meaningful", LARGE, false, "Events that opened, answered, submitted or advanced something."),
        ("active_ms", LARGE, false, "Active milliseconds, summed over the students."),
        ("allowed_ms", LARGE, false, "Of these in resources that the teacher allows."),
        ("coverage", RATIO, true, "with_data / present, 0 to 1."),
        ("active_min", RATIO, true, "Active minutes of a student, mean over those with data; null: no data."),
        ("interaction_rate", RATIO, true, "Meaningful events an active minute; null: no active time."),
        (
            "resource_alignment",
            RATIO,
            true,
            "Share of active time in allowed resources, 0 to 1; null: too little coverage, or none are set.",
        ),
        ("quiz_present", COUNT, true, "Students who were present when the window's quizzes were opened; null: no quiz."),
        ("quiz_responders", COUNT, true, "How many of them had answered by the window's end."),
        ("quiz_participation", RATIO, true, "quiz_responders / quiz_present."),
        ("quiz_latency_ms", LARGE, true, "Median milliseconds from the opening to the first answer."),
        ("wearers", COUNT, true, "Present students with readings of a wearable and consent; null: none."),
        ("worn_ratio", RATIO, true, "Share of readings that say worn, 0 to 1."),
        ("steps", RATIO, true, "Steps of all wearers."),
        ("movement_min", COUNT, true, "Minutes with steps, summed over the wearers."),
        ("recorded_at", instant(), false, "When it was computed."),
    ]
}

fn student() -> Vec<Column> {
    vec![
        ("student", ID, false, "The student, by pseudonymous id."),
        ("events", LARGE, false, "The student's events in the window."),
        ("meaningful", LARGE, false, "Of these, events that opened, answered, submitted or advanced something."),
        ("active_ms", LARGE, false, "Active milliseconds."),
        ("allowed_ms", LARGE, false, "Of these in resources that the teacher allows."),
    ]
}

/// One table of engagement. Cheap to clone.
#[derive(Clone)]
pub struct EngagementTable {
    grain: Grain,
    store: Store,
    directory: Arc<DirectoryCache>,
    clock: Clock,
    schema: SchemaRef,
}

impl fmt::Debug for EngagementTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.grain.name())
    }
}

impl EngagementTable {
    pub fn new(grain: Grain, store: Store, directory: Arc<DirectoryCache>, clock: Clock) -> Self {
        Self { grain, store, directory, clock, schema: columns::schema(&grain.columns()) }
    }

    pub fn grain(&self) -> Grain {
        self.grain
    }

    /// As a query engine takes it.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(OnDemandTable(self.clone()))
    }

    /// What is read one after the other: dates in session until today of the schools that the filters leave.
    fn chunks(&self, narrow: &Narrow) -> VecDeque<Chunk> {
        let mut chunks = Vec::new();
        let (directory, now) = (self.directory.current(), self.clock.now());
        for district in directory.districts.values().filter(|district| Narrow::wants(&narrow.district, district.id.as_bytes())) {
            let schools = district.roster.schools.values().filter(|school| Narrow::wants(&narrow.school, school.id.as_bytes()));
            for school in schools {
                let today = local_date(now, school.zone).unwrap_or_default();
                let wanted = |date: &NaiveDate| {
                    *date <= today && narrow.from.is_none_or(|from| from <= *date) && narrow.to.is_none_or(|to| *date <= to)
                };
                let mut dates: Vec<NaiveDate> = school.calendar.keys().copied().filter(wanted).collect();
                dates.sort_unstable();
                chunks.extend(dates.chunks(DATES_PER_CHUNK).map(|dates| Chunk {
                    district: district.id,
                    school: school.id,
                    dates: (dates[0], dates[dates.len() - 1]),
                }));
            }
        }
        chunks.sort_unstable_by_key(|chunk| (chunk.district, chunk.school, chunk.dates));
        chunks.into()
    }

    async fn read(&self, chunk: &Chunk, sections: Option<&[Uuid]>) -> Result<RecordBatch> {
        let external = |error| DataFusionError::External(Box::new(error));
        let mut tenant = self.store.snapshot(chunk.district).await.map_err(external)?;
        let windows = engagement::windows_between(&mut tenant, chunk.school, chunk.dates, sections).await.map_err(external)?;
        Ok(match self.grain {
            Grain::Sections => of_sections(&self.schema, chunk.district, &windows)?,
            Grain::Students => of_students(&self.schema, chunk.district, &windows)?,
        })
    }
}

struct Chunk {
    district: DistrictId,
    school: SchoolId,
    /// Both inclusive.
    dates: (NaiveDate, NaiveDate),
}

fn at(instant: chrono::DateTime<chrono::Utc>) -> Option<UtcMillis> {
    Some(UtcMillis(instant.timestamp_millis()))
}

/// The columns of [`window`].
macro_rules! window {
    ($district:expr, $rows:expr) => {
        vec![
            columns::ids($rows.iter().map(|_| Some($district.as_bytes())))?,
            columns::ids($rows.iter().map(|row| Some(row.school.as_bytes())))?,
            columns::ids($rows.iter().map(|row| Some(row.section.as_bytes())))?,
            columns::ids($rows.iter().map(|row| Some(row.period.as_bytes())))?,
            columns::dates($rows.iter().map(|row| row.date)),
            columns::instants($rows.iter().map(|row| at(row.slot))),
            Arc::new(Int32Array::from_iter_values($rows.iter().map(|row| i32::from(row.definition)))),
        ]
    };
}

fn of_sections(schema: &SchemaRef, district: DistrictId, rows: &[EngagementWindow]) -> Result<RecordBatch, ArrowError> {
    let count = |value: fn(&EngagementWindow) -> Option<i32>| Arc::new(rows.iter().map(value).collect::<Int32Array>());
    let large = |value: fn(&EngagementWindow) -> Option<i64>| Arc::new(rows.iter().map(value).collect::<Int64Array>());
    let ratio = |value: fn(&EngagementWindow) -> Option<f64>| Arc::new(rows.iter().map(value).collect::<Float64Array>());
    let mut all: Vec<arrow::array::ArrayRef> = window!(district, rows);
    all.extend([
        count(|row| Some(row.revision)) as arrow::array::ArrayRef,
        columns::instants(rows.iter().map(|row| at(row.starts))),
        columns::instants(rows.iter().map(|row| at(row.ends))),
        Arc::new(rows.iter().map(|row| Some(row.parameters.to_string())).collect::<StringArray>()),
        count(|row| Some(row.present)),
        count(|row| Some(row.with_data)),
        large(|row| Some(row.events)),
        large(|row| Some(row.late_events)),
        large(|row| Some(row.meaningful)),
        large(|row| Some(row.active_ms)),
        large(|row| Some(row.allowed_ms)),
        ratio(|row| row.coverage),
        ratio(|row| row.active_min),
        ratio(|row| row.interaction_rate),
        ratio(|row| row.resource_alignment),
        count(|row| row.quiz_present),
        count(|row| row.quiz_responders),
        ratio(|row| row.quiz_participation),
        large(|row| row.quiz_latency_ms),
        count(|row| row.wearers),
        ratio(|row| row.worn_ratio),
        ratio(|row| row.steps),
        count(|row| row.movement_min),
        columns::instants(rows.iter().map(|row| at(row.recorded_at))),
    ]);
    RecordBatch::try_new(Arc::clone(schema), all)
}

/// A student's part of a window, as it is stored with it.
#[derive(Deserialize)]
struct Part {
    student: Uuid,
    events: i64,
    meaningful: i64,
    active_ms: i64,
    allowed_ms: i64,
}

fn of_students(schema: &SchemaRef, district: DistrictId, windows: &[EngagementWindow]) -> Result<RecordBatch> {
    let mut rows: Vec<&EngagementWindow> = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    for window in windows {
        let of_window = Vec::<Part>::deserialize(&window.students).map_err(|error| DataFusionError::External(Box::new(error)))?;
        rows.extend(of_window.iter().map(|_| window));
        parts.extend(of_window);
    }
    let large = |value: fn(&Part) -> i64| Arc::new(Int64Array::from_iter_values(parts.iter().map(value)));
    let mut all: Vec<arrow::array::ArrayRef> = window!(district, rows);
    all.extend([
        columns::ids(parts.iter().map(|part| Some(part.student.as_bytes())))?,
        large(|part| part.events) as arrow::array::ArrayRef,
        large(|part| part.meaningful),
        large(|part| part.active_ms),
        large(|part| part.allowed_ms),
    ]);
    Ok(RecordBatch::try_new(Arc::clone(schema), all)?)
}

impl OnDemand for EngagementTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn rows(&self, narrow: Narrow) -> Arc<dyn PartitionStream> {
        Arc::new(Rows { table: self.clone(), narrow })
    }
}

#[derive(Debug)]
struct Rows {
    table: EngagementTable,
    narrow: Narrow,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.table.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let chunks = self.table.chunks(&self.narrow);
        let sections = self.narrow.section.as_ref().map(|ids| ids.iter().map(|id| Uuid::from_bytes(*id)).collect::<Vec<_>>());
        let start = (self.table.clone(), sections, chunks);
        let batches = stream::try_unfold(start, |(table, sections, mut chunks)| async move {
            let Some(chunk) = chunks.pop_front() else { return Ok(None) };
            let rows = table.read(&chunk, sections.as_deref()).await?;
            Ok(Some((rows, (table, sections, chunks))))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.table.schema), batches))
    }
}
