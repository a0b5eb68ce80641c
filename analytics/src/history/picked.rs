//! Which rows of files a scan reads, picked by where people stand ([`super::runs`]).

use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use futures_util::{StreamExt, stream};
use parquet::arrow::arrow_reader::RowSelection;
use rollcall_model::event::Kind;

use super::Core;
use super::manifest::FileEntry;
use crate::hot::scan::Selection;
use crate::hot::table::person_column;

/// Whoever asks for more people than this reads so much that looking for each is no gain.
const PEOPLE_MAX: usize = 1_000;

/// Indexes that are read at the same time; an object store answers each after a good while.
const READS_MAX: usize = 16;

/// A file, and the rows of it that are enough.
pub(super) struct Picked {
    pub file: Arc<FileEntry>,
    pub rows: ParquetRowSelection,
    /// How many those are.
    pub count: u64,
}

/// What a scan reads.
#[derive(Default)]
pub(super) struct Pick {
    /// Files that are read as conditions on them allow.
    pub whole: Vec<Arc<FileEntry>>,
    pub picked: Vec<Picked>,
}

impl Core {
    /// Of the files those, and of their rows those, in which the people that the selection names may stand. A file whose index cannot be
    /// used is read whole.
    pub(super) async fn pick(&self, kind: Kind, files: Vec<Arc<FileEntry>>, selection: &Selection) -> Pick {
        let mut pick = Pick::default();
        let Some(people) = selection.wanted(person_column(kind)).filter(|people| people.len() <= PEOPLE_MAX) else {
            return Pick { whole: files, ..pick };
        };
        let look = |file: Arc<FileEntry>| async move { (self.runs(&file).await, file) };
        let mut looked = stream::iter(files).map(look).buffered(READS_MAX);
        while let Some((runs, file)) = looked.next().await {
            let Some(runs) = runs else {
                pick.whole.push(file);
                continue;
            };
            let rows = runs.rows_of(people);
            let count = rows.iter().map(|run| run.len() as u64).sum();
            if count > 0 {
                let rows = ParquetRowSelection::new(RowSelection::from_consecutive_ranges(rows.into_iter(), file.rows as usize));
                pick.picked.push(Picked { file, rows, count });
            }
        }
        pick
    }
}
