//! The PostgreSQL door with messages that no driver would send, or only some.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::doors::Doors;
use crate::town::{As, PASSWORD, PATIENCE, Town};

/// A client that sends what it is told to.
struct Wire(TcpStream);

/// A message by its letter.
type Said = (char, Vec<u8>);

fn text(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| word.bytes().chain([0])).collect()
}

/// How a statement without a name is parsed and bound to a portal.
fn prepared(sql: &str, portal: &str) -> Vec<Said> {
    vec![('P', [&text(&["", sql])[..], &[0, 0]].concat()), bound(portal)]
}

fn bound(portal: &str) -> Said {
    ('B', [&text(&[portal, ""])[..], &[0; 6]].concat())
}

fn execute(portal: &str, rows_max: i32) -> Said {
    ('E', [&text(&[portal])[..], &rows_max.to_be_bytes()].concat())
}

fn query(sql: &str) -> Said {
    ('Q', text(&[sql]))
}

fn sync() -> Said {
    ('S', Vec::new())
}

/// The letters of messages.
fn letters(said: &[Said]) -> String {
    said.iter().map(|(letter, _)| letter).collect()
}

/// The code of the first error.
fn code(said: &[Said]) -> Option<String> {
    let (_, body) = said.iter().find(|(letter, _)| *letter == 'E')?;
    let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C'))?;
    Some(String::from_utf8_lossy(&field[1..]).into_owned())
}

impl Wire {
    /// A client that has said its name and not its password.
    async fn stranger(doors: &Doors, user: &str) -> Self {
        let mut wire = Self(TcpStream::connect(("127.0.0.1", doors.postgres)).await.unwrap());
        let body = [&196_608_i32.to_be_bytes()[..], &text(&["user", user, "database", "rollcall", ""])].concat();
        wire.0.write_all(&(body.len() as u32 + 4).to_be_bytes()).await.unwrap();
        wire.0.write_all(&body).await.unwrap();
        assert_eq!(wire.next().await.unwrap().0, 'R');
        wire
    }

    async fn open(doors: &Doors, who: As) -> Self {
        let mut wire = Self::stranger(doors, Town::email(who)).await;
        wire.ask(&[('p', text(&[PASSWORD]))]).await;
        wire
    }

    async fn send(&mut self, messages: &[Said]) {
        for (letter, body) in messages {
            let head = [&[*letter as u8][..], &(body.len() as u32 + 4).to_be_bytes()].concat();
            self.0.write_all(&[&head, &body[..]].concat()).await.unwrap();
        }
    }

    /// `None` when the server has closed the connection.
    async fn next(&mut self) -> Option<Said> {
        let read = async {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let mut body = vec![0; length - 4];
            self.0.read_exact(&mut body).await.ok()?;
            Some((char::from(head[0]), body))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("nothing is said")
    }

    async fn until(&mut self, last: char) -> Vec<Said> {
        let mut said = Vec::new();
        while !said.iter().any(|(letter, _)| *letter == last) {
            said.push(self.next().await.unwrap_or_else(|| panic!("closed after {}", letters(&said))));
        }
        said
    }

    /// Sends messages and returns what is said until the server waits for the next.
    async fn ask(&mut self, messages: &[Said]) -> Vec<Said> {
        self.send(messages).await;
        self.until('Z').await
    }
}

/// Changes an account as its administrator would.
async fn set(doors: &Doors, who: As, what: &str) {
    doors.town.as_owner(&format!("update rollcall.account set {what} where email = '{}'", Town::email(who))).await;
}

#[tokio::test]
async fn a_portal_gives_as_many_rows_as_are_asked_for_and_takes_any_number() {
    let doors = Doors::open().await;
    let mut wire = Wire::open(&doors, As::DistrictOffice).await;
    let sql = "SELECT value FROM generate_series(1, 5)";
    for rows_max in [0, i32::MAX, -1, i32::MIN] {
        let said = wire.ask(&[&prepared(sql, "")[..], &[execute("", rows_max), sync()]].concat()).await;
        assert_eq!(letters(&said), "12DDDDDCZ", "{rows_max}");
    }
    let parts = [execute("p", 2), execute("p", 2), execute("p", 2), execute("p", 2), sync()];
    let said = wire.ask(&[&prepared(sql, "p")[..], &parts].concat()).await;
    assert_eq!(letters(&said), "12DDsDDsDCCZ");
    let empty = wire.ask(&[&prepared("", "")[..], &[execute("", -1), sync()]].concat()).await;
    assert_eq!(letters(&empty), "12IZ");
    // A portal whose rows end with an error is gone.
    let fails = "SELECT 1 / (value - 3) FROM generate_series(1, 5)";
    let said = wire.ask(&[&prepared(fails, "q")[..], &[execute("q", 0), sync(), execute("q", 0), sync()]].concat()).await;
    assert_eq!(code(&said).as_deref(), Some("22000"), "{}", letters(&said));
    assert_eq!(code(&wire.until('Z').await).as_deref(), Some("26000"));
}

#[tokio::test]
async fn the_statements_of_a_text_run_one_after_the_other() {
    let doors = Doors::open().await;
    let mut wire = Wire::open(&doors, As::DistrictOffice).await;
    let said = wire.ask(&[query("select 1; select 2; select 3; select 4; select 5; select 6")]).await;
    assert_eq!(letters(&said), format!("{}Z", "TDC".repeat(6)));
    // What came before an error has come, and a transaction that had begun has failed.
    let said = wire.ask(&[query("begin; select 1; select nothing; select 2")]).await;
    assert_eq!(letters(&said), "CTDCEZ");
    assert_eq!(said.last().unwrap().1, b"E");
    assert_eq!(wire.ask(&[query("rollback")]).await.last().unwrap().1, b"I");
    assert_eq!(letters(&wire.ask(&[query(" ;; ")]).await), "IZ");
}

#[tokio::test]
async fn a_text_that_is_too_long_or_too_deep_is_not_parsed() {
    let doors = Doors::open().await;
    let mut wire = Wire::open(&doors, As::Guardian).await;
    let sum = |terms: usize| "+1".repeat(terms);
    let (long, deep) = (sum(200_000), sum(20_000));
    for sql in [
        format!("select 1{long};"),
        format!("select 1; select 1{long}"),
        format!("select pg_backend_pid(), 1{long}"),
        format!("select 1; select 1{deep}"),
        format!("select pg_backend_pid(), 1{deep}"),
        // One dialect reads this mark as a name without an end, another as a word that it does not know.
        format!("select 1; select 1{deep} `"),
        format!("select '{long}'::regproc"),
    ] {
        let shown = &sql[..30];
        assert_eq!(code(&wire.ask(&[query(&sql)]).await).as_deref(), Some("54000"), "{shown}");
        let said = wire.ask(&[&prepared(&sql, "")[..], &[sync()]].concat()).await;
        assert_eq!(code(&said).as_deref(), Some("54000"), "parsed: {shown}");
    }
    let mut office = Wire::open(&doors, As::DistrictOffice).await;
    let said = office.ask(&[query(&format!("select 1; select 1{}", sum(900)))]).await;
    assert_eq!(letters(&said), "TDCTDCZ", "{:?}", code(&said));
}

#[tokio::test]
async fn a_message_that_is_too_long_is_cut() {
    let doors = Doors::open().await;
    let user = Town::email(As::DistrictOffice);
    let stranger = Wire::stranger(&doors, user).await;
    let mut signed_in = Wire::open(&doors, As::DistrictOffice).await;
    let long = format!("select length('{}')", "x".repeat(60_000));
    assert_eq!(letters(&signed_in.ask(&[query(&long)]).await), "TDCZ");
    let value = "x".repeat(900_000);
    let bind = [&text(&["", ""])[..], &[0, 0, 0, 1], &(value.len() as u32).to_be_bytes(), value.as_bytes(), &[0, 0]].concat();
    let said = signed_in.ask(&[prepared("select length($1::text)", "").remove(0), ('B', bind), sync()]).await;
    assert_eq!(letters(&said), "12Z", "{:?}", code(&said));

    for mut wire in [stranger, signed_in] {
        let mib = vec![b'x'; 1 << 20];
        let sent = async {
            wire.0.write_all(&[b'Q', 4, 0, 0, 4]).await?;
            for _ in 0..64 {
                wire.0.write_all(&mib).await?;
            }
            std::io::Result::Ok(())
        };
        let sent = tokio::time::timeout(PATIENCE, sent).await.expect("it neither takes nor refuses");
        assert!(sent.is_err(), "64 MB of a message were taken");
    }
    let mut other = Wire::open(&doors, As::DistrictOffice).await;
    assert_eq!(letters(&other.ask(&[query("select 1")]).await), "TDCZ");
}

#[tokio::test]
async fn a_statement_whose_columns_have_changed_with_the_role_is_not_executed() {
    let doors = Doors::open().await;
    let mut wire = Wire::open(&doors, As::Analyst).await;
    let sql = "SELECT * FROM attendance_day";
    let said = wire.ask(&[prepared(sql, "").remove(0), ('D', [b"S", &text(&[""])[..]].concat()), sync()]).await;
    assert!(letters(&said).starts_with("1tT"), "{}", letters(&said));
    set(&doors, As::Analyst, "role = 'office'").await;
    let said = wire.ask(&[bound(""), execute("", 0), sync()]).await;
    assert_eq!(code(&said).as_deref(), Some("0A000"), "{}", letters(&said));
    let said = wire.ask(&[&prepared(sql, "")[..], &[execute("", 1), sync()]].concat()).await;
    assert_eq!(code(&said), None, "parsed again");
}

#[tokio::test]
async fn a_disabled_account_takes_no_more_rows() {
    let doors = Doors::open().await;
    let mut wire = Wire::open(&doors, As::DistrictOffice).await;
    wire.ask(&[query("BEGIN; DECLARE c CURSOR FOR SELECT value FROM generate_series(1, 20000)")]).await;
    assert_eq!(letters(&wire.ask(&[query("FETCH 2 FROM c")]).await), "TDDCZ");
    let begun = [&prepared("SELECT value FROM generate_series(1, 20000)", "p")[..], &[execute("p", 2), ('H', Vec::new())]].concat();
    wire.send(&begun).await;
    assert_eq!(letters(&wire.until('s').await), "12DDs");
    set(&doors, As::DistrictOffice, "disabled = true").await;
    let said = wire.ask(&[execute("p", 2), sync()]).await;
    assert_eq!(code(&said).as_deref(), Some("28000"), "{}", letters(&said));
    let said = wire.ask(&[query("FETCH 2 FROM c")]).await;
    assert_eq!(code(&said).as_deref(), Some("28000"), "{}", letters(&said));
}
