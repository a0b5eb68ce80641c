//! Two districts of two schools with students in sections, and tables about them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use rollcall_model::ids::{AccountId, DistrictId, PersonId, SchoolId, SectionId};
use rollcall_store::account::Role;

use crate::query::ids::ID;
use crate::query::*;

pub fn id(kind: u8, number: u8) -> [u8; 16] {
    let mut bytes = [number; 16];
    bytes[0] = kind;
    bytes
}

/// One event: district, school, section, person, minutes.
pub type Event = (u8, u8, u8, u8, i64);

/// District 1 and 2; schools 1 and 2 of the first, 3 and 4 of the second; sections and persons are numbered through.
pub fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for person in 0..40_u8 {
        let school = 1 + person / 20;
        let section = 10 + person / 10;
        events.extend([(1, school, section, person, 10), (1, school, section, person, i64::from(person))]);
    }
    events.extend((100..140_u8).map(|person| (2, 3 + (person - 100) / 20, 20, person, 1_000)));
    events
}

pub struct Table {
    name: &'static str,
    about: About,
    rows: RecordBatch,
}

fn schema() -> SchemaRef {
    let ids = ["district", "school", "section", "person"].map(|name| Field::new(name, ID, false));
    let fields = ids.into_iter().chain([Field::new("minutes", DataType::Int64, false), Field::new("word", DataType::Utf8, false)]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl Table {
    pub fn new(name: &'static str, about: About, events: &[Event]) -> Arc<Self> {
        let ids = |kind: u8, number: fn(&Event) -> u8| -> ArrayRef {
            let ids: Vec<[u8; 16]> = events.iter().map(|event| id(kind, number(event))).collect();
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.iter().map(Some), 16).unwrap())
        };
        let columns: Vec<ArrayRef> = vec![
            ids(1, |event| event.0),
            ids(2, |event| event.1),
            ids(3, |event| event.2),
            ids(4, |event| event.3),
            Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.4))),
            Arc::new(StringArray::from_iter_values(events.iter().map(|event| if event.4 % 2 == 0 { "even" } else { "odd" }))),
        ];
        Arc::new(Self { name, about, rows: RecordBatch::try_new(schema(), columns).unwrap() })
    }
}

impl TableSource for Table {
    fn name(&self) -> &str {
        self.name
    }
    fn schema(&self) -> SchemaRef {
        schema()
    }
    fn documentation(&self) -> &str {
        "One row an event."
    }
    fn column_documentation(&self, column: &str) -> Option<&str> {
        (column == "minutes").then_some("How long, in minutes.")
    }
    fn scope(&self) -> ScopeColumns {
        ScopeColumns {
            about: self.about,
            district: "district",
            school: Some("school"),
            section: Some("section"),
            person: Some("person"),
            identifying: &["word"],
        }
    }
    fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(MemTable::try_new(schema(), vec![vec![self.rows.clone()]]).unwrap())
    }
}

pub fn engine_with(config: EngineConfig, events: &[Event]) -> QueryEngine {
    let engine = QueryEngine::new(config).unwrap();
    engine.register(Table::new("events", About::Students, events));
    engine.register(Table::new("places", About::Structure, events));
    engine.register(Table::new("things", About::Devices, events));
    engine
}

pub fn engine() -> QueryEngine {
    engine_with(EngineConfig { threads: 2, ..EngineConfig::default() }, &events())
}

pub fn caller(role: Role) -> Caller {
    Caller {
        district: DistrictId::from_bytes(id(1, 1)),
        account: AccountId::from_bytes([9; 16]),
        role,
        schools: None,
        sections: None,
        students: None,
        privacy: PrivacyKey([7; 32]),
        group_min: GROUP_MIN,
    }
}

/// Office of school 1 only.
pub fn school_office() -> Caller {
    Caller { schools: Some(BTreeSet::from([SchoolId::from_bytes(id(2, 1))])), ..caller(Role::Office) }
}

/// Teacher of section 11.
pub fn teacher() -> Caller {
    Caller {
        schools: Some(BTreeSet::from([SchoolId::from_bytes(id(2, 1))])),
        sections: Some(BTreeSet::from([SectionId::from_bytes(id(3, 11))])),
        students: Some((10..20).map(|person| PersonId::from_bytes(id(4, person))).collect()),
        ..caller(Role::Teacher)
    }
}

/// The rows of a query as text, in order of the text.
pub async fn rows(engine: &QueryEngine, caller: &Caller, sql: &str) -> Result<Vec<Vec<String>>, QueryError> {
    let batches = engine.run(caller, sql, &Limits::default()).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let text =
                |column: &ArrayRef| if column.is_null(row) { "null".to_owned() } else { array_value_to_string(column, row).unwrap() };
            rows.push(batch.columns().iter().map(text).collect::<Vec<_>>());
        }
    }
    rows.sort();
    Ok(rows)
}

pub async fn one(engine: &QueryEngine, caller: &Caller, sql: &str) -> String {
    match rows(engine, caller, sql).await {
        Ok(rows) => rows.concat().join(" "),
        Err(error) => panic!("{sql}: {error:?}"),
    }
}
