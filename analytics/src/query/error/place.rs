//! Places in the SQL text.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

/// A place in the SQL text, both from 1; columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl Place {
    /// The parser's; it has one of zero for what is not of the text.
    pub(in crate::query) fn of(location: Location) -> Option<Self> {
        (location.line > 0).then_some(Self { line: location.line, column: location.column })
    }

    /// Of the character that begins at a byte of the text.
    pub(in crate::query) fn of_byte(sql: &str, at: usize) -> Self {
        let before = &sql[..at];
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() as u64 + 1;
        Self { line: before.matches('\n').count() as u64 + 1, column }
    }
}

/// The words and signs of a text, without spaces and comments; none when it cannot be read.
fn tokens(sql: &str) -> Vec<TokenWithSpan> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap_or_default();
    tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect()
}

fn is_word(token: &TokenWithSpan, name: &str) -> bool {
    matches!(&token.token, Token::Word(Word { value, .. }) if value.eq_ignore_ascii_case(name))
}

/// Where a name stands in the text, if that is in one place only.
pub(super) fn only(sql: &str, name: &str) -> Option<Place> {
    let name = name.rsplit('.').next()?;
    let tokens = tokens(sql);
    let mut found = tokens.iter().filter(|token| is_word(token, name));
    match (found.next(), found.next()) {
        (Some(token), None) => Place::of(token.span.start),
        _ => None,
    }
}

/// Where a table is first named: after a word that tables stand after, or behind a comma when the name stands nowhere else.
pub(super) fn of_table(sql: &str, name: &str) -> Option<Place> {
    let tokens = tokens(sql);
    let last = name.rsplit('.').next()?;
    let parts = name.split('.').count();
    let named = tokens.iter().enumerate().filter(|(_, token)| is_word(token, last)).find_map(|(at, _)| {
        // A qualified name begins with its catalog or schema, and a dot stands before each further part.
        let begin = (1..parts).fold(Some(at), |at, _| at?.checked_sub(2).filter(|before| tokens[before + 1].token == Token::Period));
        let begin = begin.unwrap_or(at);
        let before = &tokens.get(begin.checked_sub(1)?)?.token;
        let is_table = matches!(before, Token::Word(word) if matches!(word.keyword, Keyword::FROM | Keyword::JOIN | Keyword::TABLE));
        is_table.then_some(begin)
    });
    named.and_then(|at| Place::of(tokens[at].span.start)).or_else(|| only(sql, name))
}

/// Where the second statement of a text begins.
pub(in crate::query) fn second_statement(sql: &str) -> Option<Place> {
    let tokens = tokens(sql);
    let mut rest = tokens.iter().skip_while(|token| token.token == Token::SemiColon).skip_while(|token| token.token != Token::SemiColon);
    rest.find(|token| token.token != Token::SemiColon).and_then(|token| Place::of(token.span.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64, column: u64) -> Option<Place> {
        Some(Place { line, column })
    }

    #[test]
    fn names_are_found_where_they_are_meant() {
        let sql = "select evnts /* evnts */, 'evnts'\nfrom evnts";
        assert_eq!(of_table(sql, "evnts"), at(2, 6));
        assert_eq!(only(sql, "evnts"), None, "a column and a table");
        assert_eq!(only("select 'x', /* x */ é, x", "x"), at(1, 24));
        assert_eq!(of_table("select * from a, b.evnts", "b.evnts"), at(1, 20));
        assert_eq!(of_table("select * from a join\n b.evnts on true", "b.evnts"), at(2, 2));
        assert_eq!(of_table("select 'unclosed", "unclosed"), None);
    }

    #[test]
    fn a_second_statement_is_what_follows_the_end_of_the_first() {
        assert_eq!(second_statement("select ';' /* ; */;\n -- no\n  select 2; select 3"), at(3, 3));
        assert_eq!(second_statement(";; select 1;;"), None);
        assert_eq!(second_statement(";select 1;select 2"), at(1, 11));
    }
}
