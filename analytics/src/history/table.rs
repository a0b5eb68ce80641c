//! One name for hot rows and history: the table that queries see.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, project_schema};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::schema::{DISTRICT, SCHOOL};
use uuid::Uuid;

use super::gap::LogRows;
use super::picked::Pick;
use super::reads::Reads;
use super::snapshot::Snapshot;
use super::verify::Looked;
use super::warnings::{QueryWarnings, Warning};
use super::{Core, FileEntry, History, cold};
use crate::hot::scan::{self, Selection};
use crate::hot::{HotScan, HotTables, Visible, table};

/// The table of one kind: files for offsets before the manifest's `next`, hot rows from there on, and the log for what is in
/// neither: not hot any more, or not yet. Each scan sees one state: every row that was durable when it began, once.
pub struct HistoryTable {
    history: History,
    hot: Arc<HotTables>,
    kind: Kind,
    schema: SchemaRef,
}

impl std::fmt::Debug for HistoryTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HistoryTable({})", table::name(self.kind))
    }
}

impl HistoryTable {
    /// # Panics
    /// When the kind is not a table.
    pub fn new(history: History, hot: Arc<HotTables>, kind: Kind) -> Self {
        Self { history, hot, kind, schema: Arc::clone(table::schema(kind)) }
    }

    /// The rows of the log in a range of offsets, none before the snapshot's `next`; `None` for an empty range.
    fn log_rows(
        &self,
        snapshot: &Snapshot,
        (from, to): (Offset, Offset),
        selection: &Arc<Selection>,
        projection: Option<&Vec<usize>>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let from = from.max(snapshot.next);
        if from >= to {
            return Ok(None);
        }
        let rows = LogRows {
            log: Arc::clone(&self.history.0.log),
            kind: self.kind,
            schema: Arc::clone(&self.schema),
            from,
            to,
            selection: Arc::clone(selection),
            erased: Arc::clone(&snapshot.erased),
            pin: Arc::clone(&snapshot.pin),
        };
        let scan = StreamingTableExec::try_new(Arc::clone(&self.schema), vec![Arc::new(rows)], projection, None, false, None)?;
        Ok(Some(Arc::new(scan)))
    }

    /// Whether the table itself leaves out every row for which the filter is not true.
    fn answers(&self, filter: &Expr) -> bool {
        scan::id_test(&self.schema, filter).is_some()
    }

    /// Whether the manifest says that the filter is true for every row of the files: each is of one district, so the first
    /// filter of every scope costs nothing.
    fn is_proven(&self, filter: &Expr, files: &[Arc<FileEntry>]) -> bool {
        let Some(test) = scan::id_test(&self.schema, filter) else { return false };
        let wanted = |id: &[u8; 16]| test.wanted.binary_search(id).is_ok();
        match test.column {
            DISTRICT => files.iter().all(|file| wanted(file.district.as_bytes())),
            SCHOOL => files.iter().all(|file| file.school_min == file.school_max && wanted(file.school_min.as_bytes())),
            _ => false,
        }
    }
}

impl Core {
    /// The files that a query reads. What it must be warned of is left in the snapshot.
    async fn readable(
        &self,
        session: &dyn Session,
        schema: &SchemaRef,
        snapshot: &mut Snapshot,
        filters: &[Expr],
    ) -> Result<Vec<Arc<FileEntry>>> {
        let pruned = cold::prune(session, schema, filters, std::mem::take(&mut snapshot.files))?;
        // Of a file that is known to be damaged only those hear whose rows it had.
        let (known, pruned): (Vec<_>, Vec<_>) = pruned.into_iter().partition(|file| snapshot.damaged.contains_key(&file.path));
        let known = known.into_iter().map(|file| (Arc::clone(&file), snapshot.damaged[&file.path].clone())).collect();
        let warn = |snapshot: &mut Snapshot, damaged: Vec<(Arc<FileEntry>, String)>| {
            let warning = |(file, reason): (Arc<FileEntry>, String)| Warning::Damaged { path: file.path.clone(), rows: file.rows, reason };
            snapshot.warnings.extend(damaged.into_iter().map(warning));
        };
        warn(snapshot, known);
        match self.while_alive(self.look(pruned)).await.and_then(|looked| looked) {
            Ok(Looked { sound, damaged, unchecked }) => {
                damaged.iter().for_each(|(file, reason)| self.found_damaged(&file.path, reason));
                warn(snapshot, damaged);
                if !unchecked.is_empty() {
                    let rows = unchecked.iter().map(|file| file.rows).sum();
                    snapshot.warnings.push(Warning::Unchecked { files: unchecked.len(), rows });
                }
                Ok(sound)
            }
            // The store went away since the last sign of life: the answer is what is here, and says so.
            Err(error) => {
                let reason = error.describe();
                self.set_away(Some(reason.clone()));
                snapshot.warnings.push(Warning::Away { rows_before: snapshot.next.0, reason });
                Ok(Vec::new())
            }
        }
    }
}

#[async_trait]
impl TableProvider for HistoryTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Tests of ids, which the scope of every caller is made of, are answered for files, hot rows and the log alike. Other
    /// filters prune files, row groups, pages and hot batches; whoever plans keeps them for the rows.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.answers(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let core = &self.history.0;
        let mut snapshot = self.history.snapshot(self.kind).await;
        // After the snapshot: what it does not have is hot by now, or in the log, which it keeps from being trimmed.
        let (hot, durable) = (self.hot.snapshot(self.kind), *core.log.durable().borrow());
        let selection = Arc::new(Selection::new(&self.schema, filters));
        let files = core.readable(session, &self.schema, &mut snapshot, filters).await?;
        let reads = Reads::of(&self.history);
        if let Some(listener) = session.config().get_extension::<QueryWarnings>() {
            listener.note(&reads);
        }
        let mut parts = Vec::with_capacity(5);
        if !files.is_empty() {
            let exact: Vec<Expr> =
                filters.iter().filter(|filter| self.answers(filter) && !self.is_proven(filter, &files)).cloned().collect();
            let asked = cold::Asked { reads: &reads, schema: &self.schema, projection, exact, limit };
            let Pick { whole, picked } = core.pick(self.kind, files, &selection).await;
            if !picked.is_empty() {
                parts.push(cold::plan_picked(core, session, &picked, asked.clone())?);
            }
            if !whole.is_empty() {
                parts.push(cold::plan(core, session, &whole, asked)?);
            }
        }
        parts.extend(self.log_rows(&snapshot, (snapshot.next, hot.first), &selection, projection)?);
        let visible = Visible { from: snapshot.next, erased: Arc::clone(&snapshot.erased) };
        let hot_scan = HotScan::new(self.kind, &hot, visible, projection, filters, limit, session.config().target_partitions())?;
        if !hot_scan.is_empty() {
            parts.push(Arc::new(hot_scan));
        }
        parts.extend(self.log_rows(&snapshot, (hot.end, durable), &selection, projection)?);
        snapshot.warnings.retain(|warning| !is_of_others(warning, &selection));
        warn(session, self.kind, snapshot.warnings);
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?))),
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}

/// Whether a warning names a stranger's file in the folder of a district that is not asked for.
fn is_of_others(warning: &Warning, selection: &Selection) -> bool {
    let Warning::Foreign { path } = warning else { return false };
    let district = path.split('/').find_map(|part| Uuid::parse_str(part.strip_prefix("district=")?).ok());
    match (district, selection.wanted(DISTRICT)) {
        (Some(district), Some(wanted)) => !wanted.contains(district.as_bytes()),
        _ => false,
    }
}

/// Hands the warnings to the query, if whoever runs it listens.
fn warn(session: &dyn Session, kind: Kind, warnings: Vec<Warning>) {
    let listener = session.config().get_extension::<QueryWarnings>();
    for warning in warnings {
        match &listener {
            Some(listener) => listener.add(warning),
            None => tracing::warn!(kind = kind.as_str(), %warning, "a query's result is not complete"),
        }
    }
}
