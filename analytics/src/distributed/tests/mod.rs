//! A server with workers against the same server alone. The workers are real services on real sockets; that they are processes
//! of their own, and are killed, is tested with the binary.

mod answers;
mod doors;
mod faults;
mod field;
