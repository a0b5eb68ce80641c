//! Runs the SQL of the definition over one set of tables.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef, UInt32Type};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use serde::Serialize;

use super::definition::{ASKED_SQL, EXPECTED_SQL, STUDENT_SQL, WINDOW_SQL};
use super::input::{Input, Sums};

/// The values of one window. Counts are exact; ratios are derived from them by the SQL and are null where the
/// definition says so. Without data (`with_data` = 0) there is no metric, which is not the same as a low one.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct WindowValue {
    /// Enrolled students who are present in the window.
    pub present: u32,
    /// How many of them there is data of.
    pub with_data: u32,
    pub events: u64,
    /// Events that were received after the window had settled.
    pub late_events: u64,
    pub meaningful: u64,
    pub active_ms: u64,
    /// Of `active_ms` in allowed resources; 0 as well when none are set.
    pub allowed_ms: u64,
    /// `with_data` / `present`; null when nobody is present.
    pub coverage: Option<f64>,
    /// Active minutes of a student, the mean over those with data.
    pub active_min: Option<f64>,
    /// Meaningful events per active minute.
    pub interaction_rate: Option<f64>,
    /// Share of active time in allowed resources.
    pub resource_alignment: Option<f64>,
    pub quiz_present: Option<u32>,
    pub quiz_responders: Option<u32>,
    pub quiz_participation: Option<f64>,
    /// Median time from the opening to a student's first answer.
    pub quiz_latency_ms: Option<i64>,
    /// Students with readings of a wearable, with consent.
    pub wearers: Option<u32>,
    pub worn_ratio: Option<f64>,
    pub steps: Option<f64>,
    /// Minutes in which a student made steps, summed over the students.
    pub movement_min: Option<u32>,
}

/// What one student did in one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StudentValue {
    pub window: u32,
    pub student: u32,
    pub sums: Sums,
}

/// What a calculation gives.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// One for each window of the input, in its order.
    pub windows: Vec<WindowValue>,
    /// Everybody who did something in one of the windows, present or not, ordered by window and student.
    pub students: Vec<StudentValue>,
}

/// Calculates all windows of the input. Run it on a pool for queries: it keeps a processor busy.
pub async fn calculate(input: &Input) -> Result<Output, DataFusionError> {
    if input.windows.is_empty() {
        return Ok(Output::default());
    }
    let context = SessionContext::new_with_state(session());
    for (name, batch) in input.tables() {
        register(&context, name, batch.schema(), vec![batch])?;
    }
    let observed = keep(&context, "observed", STUDENT_SQL).await?;
    let mut students: Vec<StudentValue> = observed.iter().flat_map(observed_students).collect();
    keep(&context, "expected", EXPECTED_SQL).await?;
    keep(&context, "asked", ASKED_SQL).await?;
    let windows = context.sql(WINDOW_SQL).await?.collect().await?;
    students.sort_unstable_by_key(|row| (row.window, row.student));
    Ok(Output { windows: windows.iter().flat_map(values).collect(), students })
}

/// A session of its own for one calculation. Its functions and rules are made once: to make them takes longer than a turn in which
/// little happened.
fn session() -> SessionState {
    static BASE: LazyLock<SessionState> = LazyLock::new(|| {
        // One partition: what counts is the processor time of a tick, not how soon it ends.
        let config = SessionConfig::new().with_target_partitions(1).with_create_default_catalog_and_schema(false);
        SessionStateBuilder::new().with_config(config).with_default_features().build()
    });
    let options = &BASE.config_options().catalog;
    let catalog = MemoryCatalogProvider::new();
    // An empty catalog has no schema of any name.
    let _ = catalog.register_schema(&options.default_schema, Arc::new(MemorySchemaProvider::new()));
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(options.default_catalog.clone(), Arc::new(catalog));
    SessionStateBuilder::new_from_existing(BASE.clone()).with_catalog_list(Arc::new(catalogs)).build()
}

fn register(context: &SessionContext, name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<(), DataFusionError> {
    context.register_table(name, Arc::new(MemTable::try_new(schema, vec![batches])?))?;
    Ok(())
}

/// Runs a text whose result is a table for those after it.
async fn keep(context: &SessionContext, name: &str, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    let frame = context.sql(sql).await?;
    let planned = Arc::clone(frame.schema().inner());
    let batches = frame.collect().await?;
    // What runs may know better than the plan that nothing is null.
    let schema = batches.first().map_or(planned, RecordBatch::schema);
    register(context, name, schema, batches.clone())?;
    Ok(batches)
}

fn observed_students(batch: &RecordBatch) -> impl Iterator<Item = StudentValue> + '_ {
    let number = |place: usize| batch.column(place).as_primitive::<UInt32Type>();
    let sum = |place: usize| batch.column(place).as_primitive::<Int64Type>();
    let (windows, students) = (number(0), number(1));
    let (events, late, meaningful, active, allowed) = (sum(2), sum(3), sum(4), sum(5), sum(6));
    (0..batch.num_rows()).map(move |row| StudentValue {
        window: windows.value(row),
        student: students.value(row),
        sums: Sums {
            events: events.value(row),
            late_events: late.value(row),
            meaningful: meaningful.value(row),
            active_ms: active.value(row),
            allowed_ms: allowed.value(row),
        },
    })
}

fn values(batch: &RecordBatch) -> impl Iterator<Item = WindowValue> + '_ {
    let integer = |name: &str, row: usize| {
        let column = batch.column_by_name(name).expect("the SQL gives this column").as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let ratio = |name: &str, row: usize| {
        let column = batch.column_by_name(name).expect("the SQL gives this column").as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let count = move |name: &str, row: usize| integer(name, row).unwrap_or(0).max(0) as u64;
    let few = move |name: &str, row: usize| integer(name, row).and_then(|value| u32::try_from(value).ok());
    (0..batch.num_rows()).map(move |row| WindowValue {
        present: few("present", row).unwrap_or(0),
        with_data: few("with_data", row).unwrap_or(0),
        events: count("events", row),
        late_events: count("late_events", row),
        meaningful: count("meaningful", row),
        active_ms: count("active_ms", row),
        allowed_ms: count("allowed_ms", row),
        coverage: ratio("coverage", row),
        active_min: ratio("active_min", row),
        interaction_rate: ratio("interaction_rate", row),
        resource_alignment: ratio("resource_alignment", row),
        quiz_present: few("quiz_present", row),
        quiz_responders: few("quiz_responders", row),
        quiz_participation: ratio("quiz_participation", row),
        quiz_latency_ms: integer("quiz_latency_ms", row),
        wearers: few("wearers", row),
        worn_ratio: ratio("worn_ratio", row),
        steps: ratio("steps", row),
        movement_min: few("movement_min", row),
    })
}
