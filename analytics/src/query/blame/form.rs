//! Faults that are no expression's: a name that is given twice, rows of different lengths, a position that is none.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, Query, Select, SelectItem, SetExpr, Spanned, Statement as Sql, TableFactor, Visit, Visitor};

use crate::query::error::Place;

/// The place of such a fault, if the text has it once.
pub(super) fn place(sql: &Sql, fault: &str) -> Option<Place> {
    let wanted = if fault.contains("Projections require unique expression names") {
        Fault::Column
    } else if fault.contains("duplicate qualified field name") {
        Fault::Table
    } else if fault.contains("WITH query name") {
        Fault::With
    } else if fault.contains("Inconsistent data length across values list") {
        Fault::Values
    } else {
        return None;
    };
    let mut faults = Faults { wanted, found: Vec::new() };
    let _ = sql.visit(&mut faults);
    match faults.found[..] {
        [place] => place,
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Column,
    Table,
    With,
    Values,
}

struct Faults {
    wanted: Fault,
    found: Vec<Option<Place>>,
}

impl Faults {
    /// Adds the names that others before them have.
    fn twice<'a>(&mut self, names: impl Iterator<Item = &'a Ident>) {
        let mut seen: Vec<String> = Vec::new();
        for name in names {
            let key = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
            if seen.contains(&key) {
                self.found.push(Place::of(name.span.start));
            } else {
                seen.push(key);
            }
        }
    }
}

/// What a column of a result is called.
fn column(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        _ => None,
    }
}

/// What a table is called.
fn table(factor: &TableFactor) -> Option<&Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => Some(&alias.name),
        TableFactor::Table { name, alias: None, .. } => name.0.last()?.as_ident(),
        _ => None,
    }
}

impl Visitor for Faults {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        match (self.wanted, query.body.as_ref()) {
            (Fault::With, _) => self.twice(query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| &cte.alias.name)),
            (Fault::Values, SetExpr::Values(values)) => {
                let length = values.rows.first().map_or(0, |row| row.content.len());
                let other = values.rows.iter().find(|row| row.content.len() != length);
                self.found.extend(other.map(|row| row.content.first().and_then(|first| Place::of(first.span().start))));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        match self.wanted {
            Fault::Column => self.twice(select.projection.iter().filter_map(column)),
            Fault::Table => {
                let joined = |table: &'_ datafusion::sql::sqlparser::ast::TableWithJoins| {
                    std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)).cloned().collect::<Vec<_>>()
                };
                let tables: Vec<TableFactor> = select.from.iter().flat_map(joined).collect();
                self.twice(tables.iter().filter_map(table));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
