//! What a connection keeps between messages under names of its client's choice: prepared statements and portals, bounded.

use std::collections::HashMap;

use datafusion_postgres::pgwire::api::DEFAULT_NAME;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::error::PgWireResult;
use datafusion_postgres::pgwire::messages::PgWireFrontendMessage;

use super::answer::wrong;

/// Statements, and as many portals. JDBC keeps 256 for as long as a connection lives, psycopg 100.
const NAMES_MAX: usize = 1_000;

/// Bytes of the statements' texts, and as many of the portals' values.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// The bytes that are kept under each name. The library's store does not say what it has, and forgets names by itself, which is
/// noticed when room is needed.
#[derive(Default)]
struct Names(HashMap<String, usize>);

#[derive(Default)]
pub struct Kept {
    statements: Names,
    portals: Names,
}

impl Kept {
    /// Makes room for what a message asks to be kept; an error when there is none.
    pub fn admit(&mut self, store: &impl PortalStore, message: &PgWireFrontendMessage) -> PgWireResult<()> {
        match message {
            PgWireFrontendMessage::Parse(parse) => {
                let is_there = |name: &str| store.get_statement(name).is_some();
                self.statements.admit(parse.name.as_deref(), parse.query.len(), is_there, "prepared statements")
            }
            PgWireFrontendMessage::Bind(bind) => {
                let bytes = bind.parameters.iter().flatten().map(|value| value.len()).sum();
                self.portals.admit(bind.portal_name.as_deref(), bytes, |name| store.get_portal(name).is_some(), "portals")
            }
            _ => Ok(()),
        }
    }

    /// `DEALLOCATE`: of one statement, or of all of them.
    pub fn deallocate(&mut self, store: &impl PortalStore, name: Option<&str>) -> PgWireResult<()> {
        match name {
            Some(name) if store.get_statement(name).is_none() => {
                return Err(wrong("26000", format!("prepared statement {name:?} does not exist")));
            }
            Some(name) => {
                store.rm_statement(name);
                self.statements.0.remove(name);
            }
            None => self.statements.0.drain().for_each(|(name, _)| store.rm_statement(&name)),
        }
        Ok(())
    }
}

impl Names {
    fn admit(&mut self, name: Option<&str>, bytes: usize, is_there: impl Fn(&str) -> bool, what: &str) -> PgWireResult<()> {
        let name = name.unwrap_or(DEFAULT_NAME);
        self.0.remove(name);
        if !self.has_room(bytes) {
            self.0.retain(|name, _| is_there(name));
        }
        if !self.has_room(bytes) {
            let message = format!("a connection keeps at most {NAMES_MAX} {what} and {BYTES_MAX} bytes of them; close some first");
            return Err(wrong("53400", message));
        }
        self.0.insert(name.to_owned(), bytes);
        Ok(())
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.0.len() < NAMES_MAX && self.0.values().sum::<usize>() + bytes <= BYTES_MAX
    }
}
