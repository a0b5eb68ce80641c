//! What the black-box tests and the benchmark share: the real binary started as a process, a seeded district, and clients
//! of the public protocols. Nothing here looks inside the server.

pub mod district;
pub mod instance;
pub mod live;
pub mod session;

pub use district::District;
pub use instance::Instance;
pub use live::{Board, Live};
pub use session::Session;
