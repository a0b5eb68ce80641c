//! MQTT 3.1.1 and 5. [`frame`], [`property`], [`topic`] and [`packet`] are the wire; [`broker`], [`session`] and [`tree`]
//! are the generic broker, which knows topics and clients and nothing of events; [`connection`] is one client's task, which
//! joins both to the log and to the permissions of the product's topics. [`journal`] keeps what of the broker outlives the
//! process.

pub(crate) mod broker;
pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod hello;
mod inbound;
pub(crate) mod journal;
mod keeping;
mod outbound;
pub(crate) mod packet;
pub(crate) mod property;
pub(crate) mod session;
mod tables;
pub(crate) mod topic;
pub(crate) mod tree;
pub(crate) mod untrusted;
pub(crate) mod wire;

/// The version a client chose in CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 3.1.1
    V4,
    V5,
}

/// Why a connection ends: the MQTT 5 reason code and what was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    pub reason: u8,
    pub what: &'static str,
}

impl Violation {
    pub const TOO_LARGE: Self = Self::new(0x95, "a packet above the permitted size");

    pub const fn new(reason: u8, what: &'static str) -> Self {
        Self { reason, what }
    }

    pub const fn malformed(what: &'static str) -> Self {
        Self::new(0x81, what)
    }

    pub const fn protocol(what: &'static str) -> Self {
        Self::new(0x82, what)
    }
}
