//! The words of the live protocol: what a client may say, and the envelopes around the hub's encoded data.

use bytes::{Bytes, BytesMut};
use rollcall_analytics::hub::Update;
use serde::Deserialize;
use serde_json::json;

use crate::problem::ApiError;

/// What a client says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Follow a topic under an id of the client's choice. With `since` inside the kept history the missing deltas come. The
    /// topic `sql` has its question in `sql`.
    Subscribe {
        id: u64,
        topic: String,
        since: Option<u64>,
        sql: Option<String>,
    },
    Unsubscribe {
        id: u64,
    },
    Ping,
}

/// One message around an update: `{"op":"delta","id":1,"version":58,"data":…}`. A merged delta also has `from`, the version
/// it starts from; all others start from `version - 1`. The data's bytes are copied, not encoded again.
pub fn update(id: Option<u64>, update: &Update) -> Bytes {
    let data = update.data();
    let mut out = BytesMut::with_capacity(data.len() + 96);
    let (op, from) = match update {
        Update::Snapshot { .. } => ("snapshot", None),
        Update::Delta { from, version, .. } => ("delta", Some(*from).filter(|from| from + 1 != *version)),
    };
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(op.as_bytes());
    out.extend_from_slice(b"\"");
    let mut number = |name: &str, value: u64| {
        out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    };
    if let Some(id) = id {
        number("id", id);
    }
    number("version", update.version());
    if let Some(from) = from {
        number("from", from);
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data);
    out.extend_from_slice(b"}");
    out.freeze()
}

/// The label of an update in the metrics.
pub fn kind(update: &Update) -> &'static str {
    match update {
        Update::Snapshot { .. } => "snapshot",
        Update::Delta { from, version, .. } if from + 1 == *version => "delta",
        Update::Delta { .. } => "merged",
    }
}

/// A refusal; with the subscription's id when it is about one.
pub fn refusal(id: Option<u64>, code: &str, message: &str) -> String {
    match id {
        Some(id) => json!({"op": "error", "id": id, "code": code, "message": message}).to_string(),
        None => json!({"op": "error", "code": code, "message": message}).to_string(),
    }
}

/// The same from an error of the API; with the place in the text and a hint when it is about a question.
pub fn refused(id: Option<u64>, error: &ApiError) -> String {
    let ApiError::Query { line, column, hint, .. } = error else { return refusal(id, error.code(), &error.to_string()) };
    let mut said = json!({"op": "error", "code": error.code(), "message": error.to_string()});
    if let Some(id) = id {
        said["id"] = id.into();
    }
    for (name, number) in [("line", line), ("column", column)] {
        if let Some(number) = number {
            said[name] = (*number).into();
        }
    }
    if let Some(hint) = hint {
        said["hint"] = hint.as_str().into();
    }
    said.to_string()
}

pub const PONG: &str = r#"{"op":"pong"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_what_the_protocol_says() {
        let op = |text: &str| serde_json::from_str::<Op>(text).ok();
        let topic = "section/x/attendance".to_owned();
        assert_eq!(
            op(r#"{"op": "subscribe", "id": 1, "topic": "section/x/attendance", "since": 41}"#),
            Some(Op::Subscribe { id: 1, topic: topic.clone(), since: Some(41), sql: None })
        );
        assert_eq!(
            op(r#"{"op":"subscribe","id":1,"topic":"section/x/attendance"}"#),
            Some(Op::Subscribe { id: 1, topic, since: None, sql: None })
        );
        let (topic, sql) = ("sql".to_owned(), Some("select 1".to_owned()));
        assert_eq!(
            op(r#"{"op":"subscribe","id":1,"topic":"sql","sql":"select 1"}"#),
            Some(Op::Subscribe { id: 1, topic, since: None, sql })
        );
        assert_eq!(op(r#"{"op": "unsubscribe", "id": 1}"#), Some(Op::Unsubscribe { id: 1 }));
        assert_eq!(op(r#"{"op": "ping"}"#), Some(Op::Ping));
        for wrong in ["", "{}", "[]", r#"{"op":"drop"}"#, r#"{"op":"subscribe","id":-1,"topic":"x"}"#] {
            assert_eq!(op(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn envelopes_are_json_around_the_same_data() {
        let data = Bytes::from_static(br#"{"students":{"a":null}}"#);
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let snapshot = Update::Snapshot { version: 57, data: data.clone() };
        assert_eq!(text(update(Some(1), &snapshot)), r#"{"op":"snapshot","id":1,"version":57,"data":{"students":{"a":null}}}"#);
        let delta = Update::Delta { from: 57, version: 58, data: data.clone() };
        assert_eq!(text(update(Some(1), &delta)), r#"{"op":"delta","id":1,"version":58,"data":{"students":{"a":null}}}"#);
        let merged = Update::Delta { from: 57, version: 99, data };
        assert_eq!(text(update(None, &merged)), r#"{"op":"delta","version":99,"from":57,"data":{"students":{"a":null}}}"#);
    }
}
