//! The facts as tables of a query engine: `attendance_day`, `attendance_period`, `membership`, `absence_at_school`,
//! `absence_in_district` and `absence_in_section`.
//!
//! A scan reads all districts of the server; whoever plans a query keeps the caller's scope above it. Filters on district,
//! school, section, student, date and week narrow what is read. A filter `as_of = <instant>` asks for the facts as they
//! were known then; without one they are as of now. Other conditions on `as_of` are refused: rows could meet them by chance
//! only. The tables of absence are about a range of dates: filters `first_date = <date>` and `last_date = <date>` ask for it,
//! and other comparisons see the school year to date.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::NaiveDate;
use datafusion::catalog::TableProvider;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;
use rollcall_model::ids::{DistrictId, PersonId, SchoolId, SectionId};
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_store::Store;
use rollcall_store::directory::{DirectoryCache, DistrictDirectory};

use super::absence::{self, Range};
use super::columns::{self, Column};
use super::narrow::{Narrow, OnDemand, OnDemandTable};
use super::read::{Asked, Reader};

/// Which of the facts a table has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Facts {
    Days,
    Periods,
    Membership,
    AbsenceAtSchool,
    AbsenceInDistrict,
    AbsenceInSection,
}

impl Facts {
    pub const ALL: [Self; 6] =
        [Self::Days, Self::Periods, Self::Membership, Self::AbsenceAtSchool, Self::AbsenceInDistrict, Self::AbsenceInSection];

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Days => "attendance_day",
            Self::Periods => "attendance_period",
            Self::Membership => "membership",
            Self::AbsenceAtSchool => "absence_at_school",
            Self::AbsenceInDistrict => "absence_in_district",
            Self::AbsenceInSection => "absence_in_section",
        }
    }

    pub const fn documentation(self) -> &'static str {
        match self {
            Self::Days => "One row a student and day in session on which the student was a member of the school: what the day was worth.",
            Self::Periods => "One row a student and meeting of a section in which the student was enrolled.",
            Self::Membership => "One row a student and day in session on which the student was a member of the school.",
            Self::AbsenceAtSchool => {
                "One row a student and school: the days of a range, the school year to date unless a query says another, and their tier of absence."
            }
            Self::AbsenceInDistrict => {
                "One row a student, who counts once in the district: the days of a range, the school year to date unless a query says another, \
                 and their tier of absence."
            }
            Self::AbsenceInSection => {
                "One row a section and student who is in it on the last date: the days at its school of a range, the school year to date unless \
                 a query says another, and their tier of absence."
            }
        }
    }

    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Days => &columns::DAY,
            Self::Periods => &columns::PERIOD,
            Self::Membership => &columns::MEMBERSHIP,
            Self::AbsenceAtSchool => &absence::AT_SCHOOL,
            Self::AbsenceInDistrict => &absence::IN_DISTRICT,
            Self::AbsenceInSection => &absence::IN_SECTION,
        }
    }
}

/// One table of the facts. Cheap to clone.
#[derive(Clone)]
pub struct FactsTable {
    facts: Facts,
    store: Store,
    directory: Arc<DirectoryCache>,
    clock: Clock,
    schema: SchemaRef,
}

impl fmt::Debug for FactsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FactsTable").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl FactsTable {
    pub fn new(facts: Facts, store: Store, directory: Arc<DirectoryCache>, clock: Clock) -> Self {
        Self { facts, store, directory, clock, schema: columns::schema(facts.columns()) }
    }

    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// As a query engine takes it.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(OnDemandTable(self.clone()))
    }
}

impl OnDemand for FactsTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn rows(&self, narrow: Narrow) -> Arc<dyn PartitionStream> {
        Arc::new(Rows { table: self.clone(), narrow })
    }
}

/// A scan that has not begun.
#[derive(Debug)]
struct Rows {
    table: FactsTable,
    narrow: Narrow,
}

impl Rows {
    /// Readers of each district, and the instant that all have in common.
    fn readers(&self) -> (VecDeque<Reader>, UtcMillis) {
        let (table, narrow) = (&self.table, &self.narrow);
        let now = table.clock.now();
        let as_of = narrow.as_of.unwrap_or(now).min(now);
        let directory = table.directory.current();
        let districts = directory.districts.values().filter(|district| Narrow::wants(&narrow.district, district.id.as_bytes()));
        let mut districts: Vec<_> = districts.collect();
        districts.sort_unstable_by_key(|district| -> DistrictId { district.id });
        let asked = districts.into_iter().flat_map(|district| self.asked(district, as_of));
        (asked.map(|asked| Reader::new(table.store.clone(), asked)).collect(), as_of)
    }

    fn asked(&self, district: &Arc<DistrictDirectory>, as_of: UtcMillis) -> Vec<Asked> {
        let narrow = &self.narrow;
        let mut schools: Vec<SchoolId> = district.roster.schools.keys().copied().collect();
        // What a student's days at home add up to is a matter of all schools.
        schools.retain(|school| self.table.facts == Facts::AbsenceInDistrict || Narrow::wants(&narrow.school, school.as_bytes()));
        schools.sort_unstable();
        let asked = |schools: Vec<SchoolId>, from: NaiveDate, to: NaiveDate| Asked {
            directory: Arc::clone(district),
            schools,
            from,
            to,
            as_of,
            students: narrow.student.as_ref().map(|ids| Arc::new(ids.iter().map(|id| PersonId::from_bytes(*id)).collect())),
            sections: narrow.section.as_ref().map(|ids| Arc::new(ids.iter().map(|id| SectionId::from_bytes(*id)).collect())),
        };
        let range = |schools: Vec<SchoolId>| {
            let entries: Vec<_> = schools.iter().filter_map(|id| district.school(*id)).collect();
            let range = Range::of((narrow.first, narrow.last), &entries, as_of)?;
            Some(asked(schools, range.first, range.last))
        };
        match self.table.facts {
            Facts::AbsenceAtSchool | Facts::AbsenceInSection => schools.into_iter().filter_map(|school| range(vec![school])).collect(),
            Facts::AbsenceInDistrict => range(schools).into_iter().collect(),
            _ => vec![asked(schools, narrow.from.unwrap_or(NaiveDate::MIN), narrow.to.unwrap_or(NaiveDate::MAX))],
        }
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.table.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (readers, as_of) = self.readers();
        let (facts, schema) = (self.table.facts, Arc::clone(&self.table.schema));
        let batches = stream::try_unfold(readers, move |mut readers| async move {
            while let Some(reader) = readers.front_mut() {
                match next(reader, facts, as_of).await? {
                    Some(batch) => return Ok(Some((batch, readers))),
                    None => drop(readers.pop_front()),
                }
            }
            Ok(None)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

async fn next(reader: &mut Reader, facts: Facts, as_of: UtcMillis) -> Result<Option<RecordBatch>> {
    let external = |error| DataFusionError::External(Box::new(error));
    let batch = match facts {
        Facts::Days => reader.days().await.map_err(external)?.map(|rows| columns::days(&rows, as_of)),
        Facts::Periods => reader.periods().await.map_err(external)?.map(|rows| columns::periods(&rows, as_of)),
        Facts::Membership => reader.membership().map(|rows| columns::membership(&rows, as_of)),
        // All at once; a reader that was read to its end has nobody.
        Facts::AbsenceInSection => {
            let judged = absence::judged(reader, true).await.map_err(external)?;
            (!judged.is_empty()).then(|| absence::batch_by_section(&absence::by_section(judged, reader.asked()), reader))
        }
        Facts::AbsenceAtSchool | Facts::AbsenceInDistrict => {
            let rows = absence::judged(reader, facts == Facts::AbsenceAtSchool).await.map_err(external)?;
            (!rows.is_empty()).then(|| absence::batch(&rows, reader))
        }
    };
    Ok(batch.transpose()?)
}
