//! Columns of a result that have no name of their own: `select null, null` and `select count(*), count(*)` are questions that drivers and
//! people ask, and the planner wants every column to have a name that no other has.

use std::collections::{HashMap, HashSet};
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
    // Where the search for a number goes on: thousands of equal columns would otherwise each begin anew.
    let mut next: HashMap<String, usize> = HashMap::new();
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
        let number = next.entry(name.to_lowercase()).or_insert(2);
        let numbered = loop {
            let numbered = format!("{name}_{number}");
            *number += 1;
            if taken.insert(numbered.to_lowercase()) {
                break numbered;
            }
        };
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', numbered) };
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    /// Work that grew with the square of the columns would not end within the test's time.
    #[test]
    fn a_text_of_equal_columns_is_read_soon() {
        let sql = format!("SELECT {}1", "1,".repeat(30_000));
        let mut statements = Parser::parse_sql(&GenericDialect {}, &sql).unwrap();
        let begun = std::time::Instant::now();
        tell_apart(&mut statements[0]);
        assert!(statements[0].to_string().ends_with("1 AS \"1_30001\""));
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    }

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
