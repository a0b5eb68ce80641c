//! Texts of drivers in the words that the engine knows, where the library that answers for the catalog does not help: found by
//! running what the JDBC driver asks for its metadata.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, SelectItem, SetExpr, Statement, Subscript, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Functions that make one row of many; a subquery that has one is left as it is.
const AGGREGATES: [&str; 11] =
    ["array_agg", "avg", "bool_and", "bool_or", "count", "every", "first_value", "max", "min", "string_agg", "sum"];

/// Lists of columns of constraints and indexes. There are neither, and the library's empty tables of them have texts in these places.
const KEYS: [&str; 5] = ["conkey", "confkey", "indkey", "indoption", "i_indoption"];

/// Columns that are true or false, which some drivers compare with a letter.
const FLAGS: [&str; 8] =
    ["attisdropped", "attnotnull", "atthasdef", "indisclustered", "indisprimary", "indisunique", "relhasrules", "relhassubclass"];

/// Columns of `pg_type` that hold functions by their names; drivers join them with the numbers of functions.
const FUNCTIONS: [&str; 4] = ["typinput", "typoutput", "typreceive", "typsend"];

/// Columns of `pg_class` that PostgreSQL has and the library has not.
const ABSENT: [&str; 2] = ["relacl", "reloptions"];

/// `'array_in'::regproc` as the plain name, because the catalog's columns of functions hold names; `None`: there is none in the text,
/// which is then best left as it was sent.
pub fn functions_by_name(sql: &str) -> Option<String> {
    let lower = sql.to_ascii_lowercase();
    if !lower.contains("regproc") {
        return None;
    }
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
    let mut names = ByName { found: false };
    let _ = statements.visit(&mut names);
    match statements.as_slice() {
        [statement] if names.found => Some(statement.to_string()),
        _ => None,
    }
}

struct ByName {
    found: bool,
}

impl VisitorMut for ByName {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Cast { expr: operand, data_type, .. } = expr else { return ControlFlow::Continue(()) };
        let Expr::Value(value) = operand.as_mut() else { return ControlFlow::Continue(()) };
        let Value::SingleQuotedString(name) = &value.value else { return ControlFlow::Continue(()) };
        if is_named(data_type, "regproc") {
            let bare = name.rsplit('.').next().unwrap_or_default().to_owned();
            value.value = Value::SingleQuotedString(bare);
            *expr = Expr::Value(value.clone());
            self.found = true;
        }
        ControlFlow::Continue(())
    }
}

fn is_named(data_type: &DataType, name: &str) -> bool {
    let written = data_type.to_string().to_ascii_lowercase();
    written.strip_prefix("pg_catalog.").unwrap_or(&written) == name
}

/// What a subquery gives in the place of a value, and a field of a composite value, in the engine's spelling: a subquery that looks at
/// the row around it is planned only when its one row is certain, and a field has its name in brackets.
pub fn one_row_each(statement: &mut Statement) {
    let _ = statement.visit(&mut OneRow);
}

struct OneRow;

impl VisitorMut for OneRow {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection.iter_mut().for_each(absent);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Subquery(query) => certain(query),
            Expr::CompoundFieldAccess { root, access_chain } if is_of_a_key(root, access_chain) => *expr = Expr::Value(Value::Null.into()),
            // The numbers of the columns of a constraint, as a value.
            Expr::Function(function) if is_called(function, "generate_series") => *expr = Expr::Value(Value::Null.into()),
            // PostgreSQL's own type of names is text.
            Expr::Cast { data_type, .. } if is_named(data_type, "name") => *data_type = DataType::Text,
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                compared(left, right);
                compared(right, left);
            }
            // After a name the dot says which table a column is of.
            Expr::CompoundFieldAccess { root, access_chain } if matches!(**root, Expr::Nested(_) | Expr::Function(_)) => {
                access_chain.iter_mut().for_each(bracketed);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A column that the library's tables do not have is null, as where nothing was granted and nothing set.
fn absent(item: &mut SelectItem) {
    let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = item else { return };
    let Some(alias) = parts.last().filter(|last| ABSENT.contains(&last.value.to_ascii_lowercase().as_str())).cloned() else { return };
    *item = SelectItem::ExprWithAlias { expr: Expr::Value(Value::Null.into()), alias };
}

/// An element of a list of columns, of which there is none.
fn is_of_a_key(root: &Expr, access_chain: &[AccessExpr]) -> bool {
    match (root, access_chain) {
        (_, [AccessExpr::Dot(Expr::Identifier(name)), AccessExpr::Subscript(_)]) | (Expr::Identifier(name), [AccessExpr::Subscript(_)]) => {
            KEYS.contains(&name.value.to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

fn is_called(function: &Function, name: &str) -> bool {
    function.name.0.last().is_some_and(|last| last.to_string().eq_ignore_ascii_case(name))
}

/// What a column is compared with, in the column's own type.
fn compared(column: &Expr, with: &mut Expr) {
    let name = match column {
        Expr::Identifier(name) => name,
        Expr::CompoundIdentifier(parts) if !parts.is_empty() => &parts[parts.len() - 1],
        _ => return,
    };
    let name = name.value.to_ascii_lowercase();
    match with {
        Expr::Value(value) if FLAGS.contains(&name.as_str()) => {
            if let Value::SingleQuotedString(text) = &value.value {
                value.value = Value::Boolean(matches!(text.as_str(), "t" | "true"));
            }
        }
        Expr::CompoundIdentifier(parts) if FUNCTIONS.contains(&name.as_str()) => {
            if let Some(last) = parts.last_mut().filter(|last| last.value.eq_ignore_ascii_case("oid")) {
                *last = Ident::new("proname");
            }
        }
        _ => {}
    }
}

fn bracketed(access: &mut AccessExpr) {
    if let AccessExpr::Dot(Expr::Identifier(name)) = access {
        let index = Expr::Value(Value::SingleQuotedString(name.value.clone()).into());
        *access = AccessExpr::Subscript(Subscript::Index { index });
    }
}

fn certain(query: &mut Query) {
    if query.order_by.is_some() {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    if select.from.is_empty() || select.distinct.is_some() || select.having.is_some() {
        return;
    }
    let [SelectItem::UnnamedExpr(shown) | SelectItem::ExprWithAlias { expr: shown, .. }] = select.projection.as_mut_slice() else { return };
    let mut aggregates = Aggregates { found: false };
    let _ = shown.visit(&mut aggregates);
    if !aggregates.found {
        *shown = first_value(shown.clone());
    }
}

struct Aggregates {
    found: bool,
}

impl VisitorMut for Aggregates {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { name, .. }) = expr {
            let last = name.0.last().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase();
            self.found |= AGGREGATES.contains(&last.as_str());
        }
        ControlFlow::Continue(())
    }
}

fn first_value(of: Expr) -> Expr {
    let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(of))];
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("first_value")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_row(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        one_row_each(&mut statements[0]);
        statements[0].to_string()
    }

    #[test]
    fn functions_are_called_by_their_names() {
        let asked = "SELECT typinput = 'pg_catalog.array_in'::regproc FROM pg_type WHERE a <> 'x'";
        assert_eq!(functions_by_name(asked).unwrap(), "SELECT typinput = 'array_in' FROM pg_type WHERE a <> 'x'");
        for untouched in ["SELECT 'scans'::regclass", "SELECT typinput::regproc FROM pg_type", "selct 'x'::regproc"] {
            assert_eq!(functions_by_name(untouched), None, "{untouched}");
        }
    }

    #[test]
    fn a_subquery_in_the_place_of_a_value_has_one_row() {
        let value = "SELECT a FROM t WHERE a = 0 OR (SELECT c.k = 'c' FROM c WHERE c.o = t.o)";
        assert_eq!(one_row(value), "SELECT a FROM t WHERE a = 0 OR (SELECT first_value(c.k = 'c') FROM c WHERE c.o = t.o)");
        for certain in ["SELECT (SELECT max(a) FROM t)", "SELECT (SELECT 1)", "SELECT (SELECT a FROM t ORDER BY b LIMIT 1)"] {
            assert_eq!(one_row(certain), certain);
        }
    }

    #[test]
    fn a_column_is_compared_in_its_own_type() {
        assert_eq!(one_row("SELECT 1 FROM i WHERE i.indisprimary = 't'"), "SELECT 1 FROM i WHERE i.indisprimary = true");
        assert_eq!(one_row("SELECT 1 FROM t, p WHERE p.oid = t.typreceive"), "SELECT 1 FROM t, p WHERE p.proname = t.typreceive");
        assert_eq!(one_row("SELECT 'a'::name, k::pg_catalog.name FROM c"), "SELECT 'a'::TEXT, k::TEXT FROM c");
        assert_eq!(one_row("SELECT generate_series(1, 2) AS i FROM c"), "SELECT NULL AS i FROM c");
        for untouched in ["SELECT 1 FROM t WHERE t.k = 't' AND t.oid = c.oid", "SELECT * FROM generate_series(1, 2)"] {
            assert_eq!(one_row(untouched), untouched);
        }
    }

    #[test]
    fn a_field_has_its_name_in_brackets() {
        assert_eq!(one_row("SELECT (f(i.k)).n FROM i"), "SELECT (f(i.k))['n'] FROM i");
        assert_eq!(one_row("SELECT con.conkey[pos.n] FROM con, pos"), "SELECT NULL FROM con, pos");
        assert_eq!(one_row("SELECT c.relname, c.relacl FROM c"), "SELECT c.relname, NULL AS relacl FROM c");
        assert_eq!(one_row("SELECT 1 FROM a WHERE a.n = confkey[i]"), "SELECT 1 FROM a WHERE a.n = NULL");
        for untouched in ["SELECT r.k FROM (SELECT a.k FROM a) AS r", "SELECT con.keys[pos.n] FROM con, pos"] {
            assert_eq!(one_row(untouched), untouched);
        }
    }
}
