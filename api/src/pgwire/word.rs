//! Statements that drivers send around their questions, which the door answers itself.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::cursor;

/// What a statement is to the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Answered with this tag; nothing happens.
    Done(&'static str),
    Begin,
    /// `COMMIT` or `ROLLBACK`.
    End(&'static str),
    /// `ROLLBACK TO` a savepoint: the transaction goes on, also after an error.
    Back,
    /// `SHOW` of a setting: its name and value.
    Show(String, &'static str),
    /// Of the prepared statement of this name; `None`: of all.
    Deallocate(Option<String>),
    Refused(String),
}

/// Settings that drivers change for themselves. None of them has an effect here.
const HARMLESS: [&str; 22] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "names",
    "row_security",
    "search_path",
    "session",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "time",
    "timezone",
    "transaction",
];

/// The tag of `DISCARD`.
pub const DISCARD_ALL: &str = "DISCARD ALL";

/// The version of PostgreSQL whose protocol and catalog tools may expect.
pub const SERVER_VERSION: &str = "16.6";

/// What `SHOW` and `pg_settings` say.
pub const SETTINGS: [(&str, &str); 24] = [
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("extra_float_digits", "0"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("lock_timeout", "0"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "160006"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("timezone", "UTC"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "on"),
];

fn shown(name: &str) -> Option<&'static str> {
    let name = match name {
        "time zone" => "timezone",
        "transaction isolation level" => "transaction_isolation",
        other => other,
    };
    SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// The statement as a word of the door; `None`: it is a question.
pub fn of(sql: &str) -> Option<Word> {
    let written = sql.trim().trim_end_matches(';').trim();
    let text = written.to_ascii_lowercase();
    if text.contains(';') {
        // Several statements of which one cannot be read: not as if there were only the first.
        return None;
    }
    let mut words = text.split(|at: char| at.is_whitespace() || at == '=').filter(|word| !word.is_empty());
    Some(match words.next()? {
        "begin" | "start" => Word::Begin,
        "commit" | "end" => Word::End("COMMIT"),
        "rollback" if words.any(|word| word == "to") => Word::Back,
        "rollback" | "abort" => Word::End("ROLLBACK"),
        // Nothing is written that would have to be undone.
        "savepoint" => Word::Done("SAVEPOINT"),
        "release" => Word::Done("RELEASE"),
        "discard" => match words.next()? {
            "all" => Word::Done(DISCARD_ALL),
            "plans" => Word::Done("DISCARD PLANS"),
            "sequences" => Word::Done("DISCARD SEQUENCES"),
            "temp" | "temporary" => Word::Done("DISCARD TEMP"),
            _ => return None,
        },
        "deallocate" => Word::Deallocate(deallocated(written)?),
        "reset" => Word::Done("RESET"),
        "unlisten" => Word::Done("UNLISTEN"),
        "set" => {
            let name = words.find(|word| !matches!(*word, "local" | "session")).or(text.contains("session").then_some("session"));
            match name.map(|name| name.trim_matches('"')) {
                Some(name) if HARMLESS.contains(&name) || name == "characteristics" => Word::Done("SET"),
                Some(name) => Word::Refused(format!("the setting {name:?} cannot be changed")),
                None => Word::Refused("settings cannot be changed".to_owned()),
            }
        }
        "show" => {
            let name = text.split_once(char::is_whitespace).map(|(_, name)| name.trim().to_owned()).unwrap_or_default();
            match name.split_whitespace().next() {
                Some("tables" | "columns") | None => return None,
                _ => match shown(&name) {
                    Some(value) => Word::Show(name, value),
                    None => Word::Refused(format!("there is no setting {name:?} to show")),
                },
            }
        }
        _ => return None,
    })
}

/// What a `DEALLOCATE` is of: a name as it was written, for a quoted one may have capitals, or everything.
fn deallocated(written: &str) -> Option<Option<String>> {
    let after = |text: &'_ str, word: &str| {
        let (before, rest) = text.split_at_checked(word.len())?;
        (before.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace)).then(|| rest.trim_start().to_owned())
    };
    let of = after(written, "deallocate")?;
    let of = after(&of, "prepare").unwrap_or(of);
    Some((!of.eq_ignore_ascii_case("all")).then(|| cursor::name(&of)))
}

/// The statements of a text. One that cannot be read stays whole: the engine says what is wrong with it, and where.
pub fn split(sql: &str) -> Vec<String> {
    let text = sql.trim().trim_end_matches(|end: char| end == ';' || end.is_whitespace());
    if !text.contains(';') {
        // Untouched, so that the place of an error is a place in what was sent.
        return vec![sql.trim_end_matches(|end: char| end == ';' || end.is_whitespace()).to_owned()];
    }
    match Parser::parse_sql(&PostgreSqlDialect {}, text) {
        Ok(statements) if statements.len() > 1 => statements.iter().map(ToString::to_string).collect(),
        _ => vec![text.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_send_around_questions_is_known() {
        let done = |sql: &str, tag| assert_eq!(of(sql), Some(Word::Done(tag)), "{sql}");
        done("SET extra_float_digits = 3", "SET");
        done("set application_name='x';", "SET");
        done("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET");
        done("SET TIME ZONE 'Europe/Berlin'", "SET");
        done("DISCARD ALL", "DISCARD ALL");
        done("DISCARD TEMP", "DISCARD TEMP");
        let deallocate = |name: &str| Some(Word::Deallocate(Some(name.to_owned())));
        assert_eq!(of("DEALLOCATE _PG3_7;"), deallocate("_pg3_7"));
        assert_eq!(of("deallocate PREPARE \"My own\""), deallocate("My own"));
        assert_eq!(of("deallocate prepared"), deallocate("prepared"));
        assert_eq!(of("Deallocate  All"), Some(Word::Deallocate(None)));
        assert_eq!(of("========\u{3000}deallocate x"), None);
        done("SAVEPOINT _EXEC_SVP_1", "SAVEPOINT");
        done("release _EXEC_SVP_1", "RELEASE");
        assert_eq!(of("ROLLBACK TO SAVEPOINT a"), Some(Word::Back));
        assert_eq!(of("BEGIN READ ONLY"), Some(Word::Begin));
        assert_eq!(of("rollback"), Some(Word::End("ROLLBACK")));
        assert_eq!(of(" commit ; "), Some(Word::End("COMMIT")));
        assert_eq!(of("SHOW transaction isolation level"), Some(Word::Show("transaction isolation level".to_owned(), "read committed")));
        for question in [
            "SELECT 1",
            "show tables",
            "SHOW COLUMNS FROM scans",
            "with x as (select 1) select * from x",
            "table scans",
            "",
            "BEGIN; selct 1",
        ] {
            assert_eq!(of(question), None, "{question}");
        }
        for refused in ["SET datafusion.execution.batch_size = 1", "set role admin", "SHOW data_directory"] {
            assert!(matches!(of(refused), Some(Word::Refused(_))), "{refused}");
        }
    }

    #[test]
    fn statements_are_split_where_they_end() {
        assert_eq!(split("SELECT 1"), ["SELECT 1"]);
        assert_eq!(split("select  ';' ;"), ["select  ';'"]);
        assert_eq!(split("BEGIN; select 'a;b'; COMMIT;").len(), 3);
        assert_eq!(split("selct 1; selct 2"), ["selct 1; selct 2"]);
    }
}
