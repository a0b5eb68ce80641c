//! What devices and people say: the kinds of events and the closed vocabularies of their fields.
//!
//! Codes are the one-byte values that stand in Arrow columns, log frames and the database. They are part of
//! the on-disk format: never renumber one, only add.

use serde::{Deserialize, Serialize};

macro_rules! code {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant = $code),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn code(self) -> u8 { self as u8 }

            /// The word on the wire, in the database and in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use code;

code!(/** The kind of a batch: which columns it has. */ Kind {
    Scan = 1 "scan",
    Telemetry = 2 "telemetry",
    Activity = 3 "activity",
    Status = 4 "status",
    Mark = 5 "mark",
    /** A payload that was acknowledged but refused; durable like any event before its acknowledgement. */
    DeadLetter = 6 "dead_letter",
});

code!(/** Direction of a scan. `Auto` toggles between in and out. */ Direction {
    In = 1 "in",
    Out = 2 "out",
    Auto = 3 "auto",
});

code!(/** How a badge was read. */ Method {
    Qr = 1 "qr",
    Nfc = 2 "nfc",
    Ble = 3 "ble",
    Manual = 4 "manual",
});

code!(/** What happened in a learning app. */ ActivityKind {
    Opened = 1 "opened",
    Interacted = 2 "interacted",
    Answered = 3 "answered",
    Submitted = 4 "submitted",
    Advanced = 5 "advanced",
    Closed = 6 "closed",
});

code!(/** What a device is. A gateway speaks for devices registered behind it. */ DeviceKind {
    Gate = 1 "gate",
    Room = 2 "room",
    Tablet = 3 "tablet",
    Wearable = 4 "wearable",
    Gateway = 5 "gateway",
});
