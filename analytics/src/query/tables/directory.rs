//! The directory as tables: schools, periods, sections, students and enrolments without names, devices.
//!
//! Made of the directory in memory when a query asks, and kept until the directory changes.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, FixedSizeBinaryBuilder, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use parking_lot::Mutex;
use rollcall_store::directory::{Directory, DirectoryCache, DistrictDirectory, PersonKind};
use tokio::sync::watch;

use crate::query::ids::ID;
use crate::query::source::{About, ScopeColumns, TableSource};

/// One value of a row on its way into a column.
enum Cell<'a> {
    Id(&'a [u8; 16]),
    NoId,
    Text(Option<&'a str>),
    Date(Option<NaiveDate>),
    Flag(bool),
    Number(i32),
}

type Rows<'a> = Vec<Vec<Cell<'a>>>;

/// What one table is made of. A column is its name, its type, whether it may be null, and what it holds.
struct Made {
    name: &'static str,
    documentation: &'static str,
    scope: ScopeColumns,
    columns: &'static [(&'static str, DataType, bool, &'static str)],
    rows: for<'a> fn(&'a DistrictDirectory) -> Rows<'a>,
}

const fn scope(
    about: About,
    section: Option<&'static str>,
    person: Option<&'static str>,
    identifying: &'static [&'static str],
) -> ScopeColumns {
    ScopeColumns { about, district: "district", school: Some("school"), section, person, identifying }
}

const DISTRICT: (&str, DataType, bool, &str) = ("district", ID, false, "The district.");
const SCHOOL: (&str, DataType, bool, &str) = ("school", ID, false, "The school.");

static SCHOOLS: Made = Made {
    name: "schools",
    documentation: "One row a school.",
    scope: scope(About::Structure, None, None, &[]),
    columns: &[DISTRICT, SCHOOL, ("name", DataType::Utf8, false, "Its name."), ("zone", DataType::Utf8, false, "Its IANA time zone.")],
    rows: |district| {
        let schools = district.roster.schools.values();
        let row = |school: &'_ rollcall_store::directory::SchoolEntry| school.zone.name();
        schools.map(|school| vec![Cell::Id(school.id.as_bytes()), Cell::Text(Some(&school.name)), Cell::Text(Some(row(school)))]).collect()
    },
};

static PERIODS: Made = Made {
    name: "periods",
    documentation: "One row a period of a school's day, the same on all days.",
    scope: scope(About::Structure, None, None, &[]),
    columns: &[
        DISTRICT,
        SCHOOL,
        ("period", ID, false, "The period."),
        ("name", DataType::Utf8, false, "Its name."),
        ("ordinal", DataType::Int32, false, "Its place in the day."),
    ],
    rows: |district| {
        let schools = district.roster.schools.values();
        let periods = schools.flat_map(|school| school.periods.values().map(move |period| (school, period)));
        periods
            .map(|(school, period)| {
                vec![
                    Cell::Id(school.id.as_bytes()),
                    Cell::Id(period.id.as_bytes()),
                    Cell::Text(Some(&period.name)),
                    Cell::Number(period.ordinal),
                ]
            })
            .collect()
    },
};

static SECTIONS: Made = Made {
    name: "sections",
    documentation: "One row a section: one class that meets.",
    scope: scope(About::Structure, Some("section"), None, &[]),
    columns: &[
        DISTRICT,
        SCHOOL,
        ("section", ID, false, "The section."),
        ("title", DataType::Utf8, false, "Its title."),
        ("course", DataType::Utf8, true, "Its course."),
        ("room", DataType::Utf8, true, "Its room."),
        ("active", DataType::Boolean, false, "Whether it is on the roster now."),
        ("starts", DataType::Date32, true, "First day; null: since ever."),
        ("ends", DataType::Date32, true, "First day no longer; null: for ever."),
    ],
    rows: |district| {
        let sections = district.roster.sections.values();
        sections
            .map(|section| {
                vec![
                    Cell::Id(section.school.as_bytes()),
                    Cell::Id(section.id.as_bytes()),
                    Cell::Text(Some(&section.title)),
                    Cell::Text(section.course.as_deref()),
                    Cell::Text(section.room.as_deref()),
                    Cell::Flag(section.active),
                    Cell::Date(section.starts),
                    Cell::Date(section.ends),
                ]
            })
            .collect()
    },
};

static STUDENTS: Made = Made {
    name: "students",
    documentation: "One row a student and school, without names: who is or was a member between two dates.",
    scope: scope(About::Students, None, Some("person"), &[]),
    columns: &[
        DISTRICT,
        SCHOOL,
        ("person", ID, false, "The student, by pseudonymous id."),
        ("grade", DataType::Utf8, true, "The grade's code."),
        ("active", DataType::Boolean, false, "Whether the student is on the roster now."),
        ("starts", DataType::Date32, true, "First day; null: since ever."),
        ("ends", DataType::Date32, true, "First day no longer; null: for ever."),
    ],
    rows: |district| {
        let students = district.roster.people.values().filter(|person| person.kind == PersonKind::Student);
        let members = students.flat_map(|person| person.memberships.iter().map(move |membership| (person, membership)));
        members
            .map(|(person, membership)| {
                vec![
                    Cell::Id(membership.school.as_bytes()),
                    Cell::Id(person.id.as_bytes()),
                    Cell::Text(person.grade.as_deref()),
                    Cell::Flag(person.active),
                    Cell::Date(membership.starts),
                    Cell::Date(membership.ends),
                ]
            })
            .collect()
    },
};

static ENROLMENTS: Made = Made {
    name: "enrolments",
    documentation: "One row a student and section: who is or was enrolled between two dates.",
    scope: scope(About::Students, Some("section"), Some("person"), &[]),
    columns: &[
        DISTRICT,
        SCHOOL,
        ("section", ID, false, "The section."),
        ("person", ID, false, "The student, by pseudonymous id."),
        ("starts", DataType::Date32, true, "First day; null: since ever."),
        ("ends", DataType::Date32, true, "First day no longer; null: for ever."),
    ],
    rows: |district| {
        let sections = district.roster.sections.values();
        let enrolled = sections.flat_map(|section| section.students.iter().map(move |enrolment| (section, enrolment)));
        enrolled
            .map(|(section, enrolment)| {
                vec![
                    Cell::Id(section.school.as_bytes()),
                    Cell::Id(section.id.as_bytes()),
                    Cell::Id(enrolment.person.as_bytes()),
                    Cell::Date(enrolment.starts),
                    Cell::Date(enrolment.ends),
                ]
            })
            .collect()
    },
};

static DEVICES: Made = Made {
    name: "devices",
    documentation: "One row a registered device.",
    scope: scope(About::Devices, None, None, &[]),
    columns: &[
        DISTRICT,
        SCHOOL,
        ("device", ID, false, "The device."),
        ("kind", DataType::Utf8, false, "gate, room, tablet, wearable or gateway."),
        ("name", DataType::Utf8, false, "Its name."),
        ("gateway", ID, true, "The gateway that it is registered behind."),
        ("disabled", DataType::Boolean, false, "Whether it may not speak any more."),
    ],
    rows: |district| {
        let devices = district.devices.values();
        devices
            .map(|device| {
                vec![
                    Cell::Id(device.school.as_bytes()),
                    Cell::Id(device.id.as_bytes()),
                    Cell::Text(Some(device.kind.as_str())),
                    Cell::Text(Some(&device.name)),
                    device.gateway.as_ref().map_or(Cell::NoId, |gateway| Cell::Id(gateway.as_bytes())),
                    Cell::Flag(device.disabled),
                ]
            })
            .collect()
    },
};

fn schema_of(made: &Made) -> SchemaRef {
    let fields = made.columns.iter().map(|(name, data_type, nullable, _)| Field::new(*name, data_type.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows of all districts as one batch.
fn batch_of(made: &Made, schema: &SchemaRef, directory: &Directory) -> RecordBatch {
    let mut rows: Rows<'_> = Vec::new();
    for district in directory.districts.values() {
        rows.extend((made.rows)(district).into_iter().map(|mut row| {
            row.insert(0, Cell::Id(district.id.as_bytes()));
            row
        }));
    }
    let columns = (0..schema.fields().len()).map(|place| column_of(schema.field(place).data_type(), &rows, place)).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).expect("each cell is made for the column that it stands in")
}

fn column_of(data_type: &DataType, rows: &Rows<'_>, place: usize) -> ArrayRef {
    let cells = rows.iter().map(|row| &row[place]);
    match data_type {
        DataType::Boolean => {
            Arc::new(cells.map(|cell| if let Cell::Flag(flag) = cell { Some(*flag) } else { None }).collect::<BooleanArray>())
        }
        DataType::Int32 => {
            Arc::new(cells.map(|cell| if let Cell::Number(number) = cell { Some(*number) } else { None }).collect::<Int32Array>())
        }
        DataType::Date32 => {
            let days = |date: NaiveDate| date.signed_duration_since(NaiveDate::default()).num_days() as i32;
            Arc::new(cells.map(|cell| if let Cell::Date(date) = cell { date.map(days) } else { None }).collect::<Date32Array>())
        }
        DataType::Utf8 => Arc::new(cells.map(|cell| if let Cell::Text(text) = cell { *text } else { None }).collect::<StringArray>()),
        _ => {
            let mut ids = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
            for cell in cells {
                match cell {
                    Cell::Id(id) => ids.append_value(id).expect("an id is sixteen bytes wide"),
                    _ => ids.append_null(),
                }
            }
            Arc::new(ids.finish())
        }
    }
}

struct DirectoryTable {
    made: &'static Made,
    schema: SchemaRef,
    directory: Arc<DirectoryCache>,
    /// Of the directory's version.
    kept: Mutex<Option<(u64, Arc<MemTable>)>>,
}

impl TableSource for DirectoryTable {
    fn name(&self) -> &str {
        self.made.name
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn documentation(&self) -> &str {
        self.made.documentation
    }

    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.made.columns.iter().find(|(name, ..)| *name == column).map(|(.., documentation)| *documentation)
    }

    fn scope(&self) -> ScopeColumns {
        self.made.scope
    }

    fn provider(&self) -> Arc<dyn TableProvider> {
        let directory = self.directory.current();
        let mut kept = self.kept.lock();
        if let Some((version, table)) = kept.as_ref()
            && *version == directory.version
        {
            return Arc::clone(table) as Arc<dyn TableProvider>;
        }
        let batch = batch_of(self.made, &self.schema, &directory);
        let table = MemTable::try_new(Arc::clone(&self.schema), vec![vec![batch]]);
        let table = Arc::new(table.expect("the batch has the table's own schema"));
        *kept = Some((directory.version, Arc::clone(&table)));
        table
    }

    fn changed(&self) -> Vec<watch::Receiver<u64>> {
        vec![self.directory.changed()]
    }
}

/// `schools`, `periods`, `sections`, `students`, `enrolments` and `devices` as they are in the directory now.
pub fn directory_tables(directory: &Arc<DirectoryCache>) -> Vec<Arc<dyn TableSource>> {
    let made = [&SCHOOLS, &PERIODS, &SECTIONS, &STUDENTS, &ENROLMENTS, &DEVICES];
    let table = |made: &'static Made| -> Arc<dyn TableSource> {
        Arc::new(DirectoryTable { made, schema: schema_of(made), directory: Arc::clone(directory), kept: Mutex::new(None) })
    };
    made.into_iter().map(table).collect()
}
