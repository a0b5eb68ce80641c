//! Intake: MQTT, WebSocket and HTTP in, rows of the log out.
//!
//! A payload is decoded into Arrow columns, freed of what was already taken, appended to the log, and acknowledged once
//! the log says it is on stable storage. This crate knows no SQL and no attendance rule; what it needs of the directory
//! it states in [`directory::Directory`].

pub mod admission;
pub mod config;
pub mod decode;
pub mod directory;
pub mod gateway;
pub mod http;
mod listen;
pub mod metrics;
mod mqtt;
mod permission;
mod places;
mod presence;
mod stream_of_frames;
mod throttle;
mod websocket;

/// For the fuzz targets only.
#[doc(hidden)]
pub mod untrusted {
    pub use crate::mqtt::untrusted::mqtt;
    pub use crate::websocket::untrusted::websocket;
}

pub use admission::{Admission, AdmissionError, Admitted};
pub use config::{AdmissionConfig, GatewayConfig, Namespace, TlsConfig};
pub use directory::{AuthError, BadgeHolder, DeviceIdentity, Directory};
pub use gateway::{Gateway, GatewayHandle};
pub use listen::{GatewayError, Listeners};
pub use metrics::Metrics;
