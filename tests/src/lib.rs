//! What the black-box tests and the benchmark share: the real binary started as a process, a seeded district, and clients
//! of the public protocols. Nothing here looks inside the server.

pub mod district;
pub mod instance;
pub mod ledger;
pub mod live;
pub mod mqtt;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod session;
#[cfg(target_os = "linux")]
pub mod syscalls;
pub mod torture;
pub mod traffic;

pub use district::District;
pub use instance::{Instance, Launch};
pub use live::{Board, Live};
pub use session::Session;
