//! How large a text becomes when it is planned.
//!
//! The planner puts the query of a WITH wherever its name stands, and an expression wherever its column stands. Each step that names the one
//! before twice doubles what is planned: two dozen lines take all memory, which no limit on time or memory sees in time. So the
//! size is added up before anything is planned.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, Visit, Visitor};

use super::error::{Bound, QueryError};

/// Most tables, with those of a WITH as often as its name stands.
const RELATIONS_MAX: u64 = 256;

/// Most columns in one expression, with what those were made of.
const COLUMNS_MAX: u64 = 100_000;

/// What a query, or what stands for it, is made of.
#[derive(Clone, Copy)]
struct Size {
    tables: u64,
    columns: u64,
}

/// A table of its own name.
const TABLE: Size = Size { tables: 1, columns: 1 };

/// One query while its text is gone through.
#[derive(Default)]
struct Frame {
    tables: u64,
    /// Of its largest input.
    input_columns: u64,
    /// Columns of the expression that is gone through, how deep in it, and those of the largest.
    columns: u64,
    depth: usize,
    columns_max: u64,
    /// Queries of its WITH by their place in memory, until they are sized.
    named: HashMap<*const Query, String>,
}

impl Frame {
    fn size(&self) -> Size {
        Size { tables: self.tables.max(1), columns: self.columns_max.max(1).saturating_mul(self.input_columns.max(1)) }
    }

    fn reads(&mut self, size: Size) {
        self.tables = self.tables.saturating_add(size.tables);
        self.input_columns = self.input_columns.max(size.columns);
    }
}

struct Sizes {
    frames: Vec<Frame>,
    /// The largest query of each name, wherever it stands: what a name means is the planner's to say, and two that differ in
    /// quotes or case are one here.
    sized: HashMap<String, Size>,
    whole: Size,
    /// Of any query in it.
    columns_max: u64,
}

impl Visitor for Sizes {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        let named = named.map(|cte| (std::ptr::from_ref(cte.query.as_ref()), key(&cte.alias.name.value)));
        self.frames.push(Frame { named: named.collect(), ..Frame::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(done) = self.frames.pop() else { return ControlFlow::Break(()) };
        let size = done.size();
        self.columns_max = self.columns_max.max(size.columns);
        match self.frames.last_mut() {
            Some(above) => match above.named.remove(&std::ptr::from_ref(query)) {
                Some(name) => {
                    let known = self.sized.entry(name).or_insert(TABLE);
                    *known = Size { tables: known.tables.max(size.tables), columns: known.columns.max(size.columns) };
                }
                None => above.reads(size),
            },
            None => self.whole = size,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let size = self.sized.get(&key(&name.to_string())).copied().unwrap_or(TABLE);
        if let Some(frame) = self.frames.last_mut() {
            frame.reads(size);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Some(frame) = self.frames.last_mut() {
            frame.depth += 1;
            frame.columns += u64::from(matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        if let Some(frame) = self.frames.last_mut() {
            frame.depth -= 1;
            if frame.depth == 0 {
                frame.columns_max = frame.columns_max.max(std::mem::take(&mut frame.columns));
            }
        }
        ControlFlow::Continue(())
    }
}

/// A name without its quotes and case.
fn key(name: &str) -> String {
    name.chars().filter(|character| !matches!(character, '"' | '`' | '[' | ']')).flat_map(char::to_lowercase).collect()
}

/// Refuses a query that would be too large to be planned.
pub fn check(query: &Query) -> Result<(), QueryError> {
    let mut sizes = Sizes { frames: Vec::new(), sized: HashMap::new(), whole: TABLE, columns_max: 1 };
    let _ = query.visit(&mut sizes);
    let message = if sizes.whole.tables > RELATIONS_MAX {
        format!("a query names {RELATIONS_MAX} tables at most, those of a WITH as often as its name stands")
    } else if sizes.columns_max > COLUMNS_MAX {
        format!("an expression is made of {COLUMNS_MAX} columns at most, those of a subquery as often as their names stand; group in between")
    } else {
        return Ok(());
    };
    Err(QueryError::Limit { bound: Bound::Text, message })
}
