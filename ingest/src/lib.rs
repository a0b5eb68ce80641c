//! Intake: MQTT, WebSocket and HTTP in, rows of the log out.
//!
//! A payload is decoded into Arrow columns, freed of what was already taken, appended to the log, and acknowledged once
//! the log says it is on stable storage. This crate knows no SQL and no attendance rule; what it needs of the directory
//! it states in [`directory::Directory`].

pub mod config;
pub mod directory;

pub use config::{AdmissionConfig, GatewayConfig, Namespace, TlsConfig};
pub use directory::{AuthError, BadgeHolder, DeviceIdentity, Directory};
