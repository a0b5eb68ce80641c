//! What a connection keeps between messages under names of its client's choice: prepared statements and portals, bounded.

use std::collections::HashMap;

use datafusion_postgres::pgwire::api::DEFAULT_NAME;
use datafusion_postgres::pgwire::api::store::{Entry, MemPortalStore, PortalStore};
use datafusion_postgres::pgwire::error::PgWireResult;
use datafusion_postgres::pgwire::messages::PgWireFrontendMessage;

use super::answer::wrong;
use super::connection::Said;

/// Statements, and as many portals. JDBC keeps 256 for as long as a connection lives, psycopg 100.
const NAMES_MAX: usize = 1_000;

/// Bytes of the statements, and as many of the portals.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest name. Drivers count: `S_1`, `_pg3_7`.
const NAME_BYTES_MAX: usize = 255;

/// What each takes beside what its client has sent, a statement also for each column of its result, and a portal for each of its
/// values; about.
const ENTRY_BYTES: usize = 1_024;
const COLUMN_BYTES: usize = 256;
const VALUE_BYTES: usize = 32;

/// The bytes that are kept under each name. The library's store does not say what it has, and forgets names by itself, which is
/// noticed when room is needed.
#[derive(Default)]
struct Names(HashMap<String, usize>);

#[derive(Default)]
pub struct Kept {
    statements: Names,
    portals: Names,
}

/// What a message asks to be kept.
pub struct Wish {
    is_portal: bool,
    name: String,
    bytes: usize,
}

impl Kept {
    /// What a message asks to be kept, if there is room for it, else an error. It counts once it is kept.
    pub fn admit(&mut self, store: &impl PortalStore, message: &PgWireFrontendMessage) -> PgWireResult<Option<Wish>> {
        let name_of = |name: &Option<String>| name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let (is_portal, name, bytes) = match message {
            PgWireFrontendMessage::Parse(parse) => {
                (false, name_of(&parse.name), parse.query.len() + size_of_val(parse.type_oids.as_slice()))
            }
            PgWireFrontendMessage::Bind(bind) => {
                let values: usize = bind.parameters.iter().map(|value| VALUE_BYTES + value.as_ref().map_or(0, |value| value.len())).sum();
                let codes = size_of_val(bind.parameter_format_codes.as_slice()) + size_of_val(bind.result_column_format_codes.as_slice());
                // A portal holds its statement, also when another one has its name by then.
                let statement = self.statements.0.get(&name_of(&bind.statement_name)).copied().unwrap_or_default();
                (true, name_of(&bind.portal_name), values + codes + statement)
            }
            _ => return Ok(None),
        };
        if name.len() > NAME_BYTES_MAX {
            return Err(wrong("42622", format!("a name has at most {NAME_BYTES_MAX} bytes here")));
        }
        let wish = Wish { is_portal, bytes: bytes + ENTRY_BYTES, name };
        let what = if is_portal {
            self.portals.make_room(&wish, |name| store.get_portal(name).is_some()).then_some(wish).ok_or("portals")
        } else {
            self.statements.make_room(&wish, |name| store.get_statement(name).is_some()).then_some(wish).ok_or("prepared statements")
        };
        let refused =
            |what| wrong("53400", format!("a connection keeps at most {NAMES_MAX} {what} and {BYTES_MAX} bytes of them; close some first"));
        what.map(Some).map_err(refused)
    }

    /// What was asked for is in the store.
    pub fn keep(&mut self, store: &impl PortalStore, Wish { is_portal, name, bytes }: Wish) {
        // The library does not name the type of its store.
        let known = store.as_any().downcast_ref::<MemPortalStore<Said>>().filter(|_| !is_portal);
        let columns = match known.and_then(|store| store.get_statement(&name)) {
            Some(Entry::Value(statement)) => statement.statement.columns(),
            _ => 0,
        };
        let names = if is_portal { &mut self.portals } else { &mut self.statements };
        names.0.insert(name, bytes + COLUMN_BYTES * columns);
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
    fn make_room(&mut self, wish: &Wish, is_there: impl Fn(&str) -> bool) -> bool {
        if !self.has_room(wish) {
            self.0.retain(|name, _| is_there(name));
        }
        self.has_room(wish)
    }

    /// With what is replaced gone.
    fn has_room(&self, wish: &Wish) -> bool {
        let others = self.0.iter().filter(|(name, _)| **name != wish.name);
        let (count, bytes) = others.fold((0, 0), |(count, sum), (_, bytes)| (count + 1, sum + bytes));
        count < NAMES_MAX && bytes + wish.bytes <= BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion_postgres::pgwire::api::portal::Portal;
    use datafusion_postgres::pgwire::api::stmt::StoredStatement;
    use datafusion_postgres::pgwire::messages::extendedquery::{Bind, Parse};

    use super::super::word::Word;
    use super::*;

    /// As a connection takes a message; `is_right`: it is not refused for another reason.
    fn take(kept: &mut Kept, store: &MemPortalStore<Said>, message: PgWireFrontendMessage, is_right: bool) -> bool {
        let Ok(Some(wish)) = kept.admit(store, &message) else { return false };
        if is_right {
            match message {
                PgWireFrontendMessage::Parse(parse) => {
                    store.put_statement(Arc::new(StoredStatement::new(parse.name.unwrap(), Said::Word(Word::Begin), vec![])));
                }
                PgWireFrontendMessage::Bind(bind) => {
                    let Some(Entry::Value(statement)) = store.get_statement(&bind.statement_name.clone().unwrap()) else {
                        panic!("{bind:?}")
                    };
                    store.put_portal(Arc::new(Portal::try_new(&bind, statement).unwrap()));
                }
                other => panic!("{other:?}"),
            }
            kept.keep(store, wish);
        }
        is_right
    }

    fn parse(name: &str, bytes: usize) -> PgWireFrontendMessage {
        PgWireFrontendMessage::Parse(Parse::new(Some(name.to_owned()), "x".repeat(bytes), vec![]))
    }

    fn bind(portal: &str, statement: &str) -> PgWireFrontendMessage {
        PgWireFrontendMessage::Bind(Bind::new(Some(portal.to_owned()), Some(statement.to_owned()), vec![], vec![], vec![]))
    }

    #[test]
    fn what_is_refused_or_wrong_changes_nothing_of_what_counts() {
        let (mut kept, store) = (Kept::default(), MemPortalStore::new());
        assert!(take(&mut kept, &store, parse("small", 1), true));
        assert!(take(&mut kept, &store, parse("large", BYTES_MAX - 10_000), true));
        assert!(!take(&mut kept, &store, parse("small", 20_000), true), "there is no room");
        assert!(!take(&mut kept, &store, parse("large", 1), false), "its text is wrong, so the old one stays");
        assert!(!take(&mut kept, &store, parse("more", 20_000), true), "and takes as much as before");
        assert!(take(&mut kept, &store, parse("large", 1), true));
        assert!(take(&mut kept, &store, parse("more", 20_000), true));
        kept.deallocate(&store, None).unwrap();
        assert!(["small", "large", "more"].iter().all(|name| store.get_statement(name).is_none()));
        assert!(!take(&mut kept, &store, parse(&"n".repeat(256), 1), true), "the name is too long");
    }

    #[test]
    fn a_portal_counts_with_its_statement_and_until_it_is_gone() {
        let (mut kept, store) = (Kept::default(), MemPortalStore::new());
        assert!(take(&mut kept, &store, parse("large", BYTES_MAX / 4), true));
        let bound = (0..10).take_while(|number| take(&mut kept, &store, bind(&format!("p{number}"), "large"), true)).count();
        assert_eq!(bound, 3, "and a quarter is theirs alone");
        // The library forgets portals with their transaction.
        store.rm_portal("p1");
        assert!(take(&mut kept, &store, bind("another", "large"), true));
        assert!(!take(&mut kept, &store, bind("one more", "large"), true));
    }
}
