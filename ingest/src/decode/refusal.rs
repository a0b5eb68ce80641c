//! Why an event was not taken: a stable code for programs, a sentence for the person who reads the log of a device.

use rollcall_model::ids::DeviceId;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $text:literal $malformed:literal),+ $(,)?) => {
        /// Stable codes of refusals; part of the protocol. Never rename one, only add.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
            /// Whether the payload's form is at fault (MQTT 5 reason 0x99) and not what it says (0x83).
            pub const fn is_malformed(self) -> bool { match self { $(Self::$variant => $malformed),+ } }
        }
    };
}

codes! {
    InvalidUtf8 "invalid_utf8" true,
    JsonSyntax "json_syntax" true,
    /// Arrays and objects inside one another deeper than any event needs.
    JsonDepth "json_depth" true,
    MissingField "missing_field" true,
    WrongType "wrong_type" true,
    OutOfRange "out_of_range" true,
    UnknownType "unknown_type" true,
    TooManyEvents "too_many_events" true,
    PayloadTooLarge "payload_too_large" true,
    ArrowInvalid "arrow_invalid" true,
    ForbiddenTopic "forbidden_topic" false,
    UnknownBadge "unknown_badge" false,
    UnknownDevice "unknown_device" false,
    NotAGateway "not_a_gateway" false,
    TimeInFuture "time_in_future" false,
    TimeTooOld "time_too_old" false,
    /// The number lies below what is remembered of this device, so nobody can say whether it was taken before.
    SeqBelowWindow "seq_below_window" false,
}

/// A code and a sentence, before it is known which event of which payload it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    pub message: String,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// One event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub device: DeviceId,
    /// What the event claimed, when it could be read.
    pub seq: Option<u64>,
    pub code: Code,
    pub message: String,
}

impl Refusal {
    /// The payload of the reject topic and an item of the HTTP answer: {"seq", "code", "message"}.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "seq": self.seq, "code": self.code.as_str(), "message": self.message })
    }
}
