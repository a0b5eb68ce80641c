//! Columns of a result that have no name of their own: `select null, null` and `select count(*), count(*)` are questions that drivers and
//! people ask, and the planner wants every column to have a name that no other has.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, Query, SelectItem, SetExpr, Statement, VisitMut, VisitorMut};

/// Gives the second and further ones of equal columns a number.
pub fn tell_apart(statement: &mut Statement) {
    let _ = statement.visit(&mut Queries);
}

struct Queries;

impl VisitorMut for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        body(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn body(expr: &mut SetExpr) {
    match expr {
        SetExpr::Select(select) => columns(&mut select.projection),
        SetExpr::SetOperation { left, right, .. } => {
            body(left);
            body(right);
        }
        _ => {}
    }
}

fn columns(projection: &mut [SelectItem]) {
    let mut taken = HashSet::new();
    for item in projection {
        let SelectItem::UnnamedExpr(expr) = item else {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                taken.insert(alias.value.to_lowercase());
            }
            continue;
        };
        let name = expr.to_string();
        if taken.insert(name.to_lowercase()) {
            continue;
        }
        let numbered = (2..).map(|number| format!("{name}_{number}")).find(|numbered| taken.insert(numbered.to_lowercase()));
        let Some(numbered) = numbered else { continue };
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', numbered) };
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn equal_columns_are_numbered_and_others_stay() {
        for (sql, expected) in [
            ("SELECT NULL, NULL, a FROM t", "SELECT NULL, NULL AS \"NULL_2\", a FROM t"),
            (
                "SELECT count(*), COUNT(*) FROM t UNION SELECT 1, 1",
                "SELECT count(*), COUNT(*) AS \"COUNT(*)_2\" FROM t UNION SELECT 1, 1 AS \"1_2\"",
            ),
            ("SELECT a AS \"1_2\", 1, 1 FROM t", "SELECT a AS \"1_2\", 1, 1 AS \"1_3\" FROM t"),
            ("SELECT x FROM (SELECT 1, 1, 2 AS x)", "SELECT x FROM (SELECT 1, 1 AS \"1_2\", 2 AS x)"),
            ("SELECT a, b, *, t.a FROM t", "SELECT a, b, *, t.a FROM t"),
        ] {
            let mut statements = Parser::parse_sql(&GenericDialect {}, sql).unwrap();
            tell_apart(&mut statements[0]);
            assert_eq!(statements[0].to_string(), expected);
        }
    }
}
