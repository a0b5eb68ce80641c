//! What a table tells the engine of itself.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use tokio::sync::watch;

/// What the rows of a table are about: decides who may ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// Students: figures of single ones need the right, others get groups.
    Students,
    /// Classes of any size, of no student in particular: figures that nothing makes figures of groups, for who may see single students only.
    Classes,
    /// Schools, sections, periods: nobody in particular.
    Structure,
    /// Devices and their health. The only tables of IT staff; not for teachers.
    Devices,
}

/// By which columns the engine limits a table to what the caller may see. All are names of `FixedSizeBinary(16)` columns
/// of ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScopeColumns {
    pub about: About,
    /// Always there: a table without it could not be kept apart.
    pub district: &'static str,
    pub school: Option<&'static str>,
    pub section: Option<&'static str>,
    /// The student (or other person) a row is about.
    pub person: Option<&'static str>,
    /// Further columns of which one value can belong to one person: a badge, an assigned device, a sequence number.
    /// Roles without student-level rights do not see them.
    pub identifying: &'static [&'static str],
}

/// One table of the engine. Registered once; asked for a provider with every query.
///
/// The provider returns the rows of all districts: the engine puts the caller's scope above every scan.
pub trait TableSource: Send + Sync + 'static {
    /// The name in SQL, lower case.
    fn name(&self) -> &str;

    fn schema(&self) -> SchemaRef;

    /// One or two sentences on what a row is.
    fn documentation(&self) -> &str;

    /// One sentence on a column, with its unit.
    fn column_documentation(&self, column: &str) -> Option<&str>;

    fn scope(&self) -> ScopeColumns;

    fn provider(&self) -> Arc<dyn TableProvider>;

    /// Where the table stands: numbers that move when the table may have changed and are compared with none but their own, such as the
    /// offset that rows of the log were read up to. They move once the new rows can be read, not before. None: the table does not tell, so
    /// that a live query computes again every [`super::live::LiveConfig::reread`] and says so.
    fn changed(&self) -> Vec<watch::Receiver<u64>> {
        Vec::new()
    }

    /// Whether what has changed since the table stood at `since` can show in a scan with these filters, which are in the words of the
    /// optimizer and all true of every row that the scan lets through. A table that cannot tell cheaply says yes.
    fn has_news(&self, since: &[u64], filters: &[Expr]) -> bool {
        let _ = (since, filters);
        true
    }

    /// What the caller of every query on this table should know now, such as a file that could not be read.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
