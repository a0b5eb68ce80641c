//! The gateway from outside: real sockets, a log in memory that can be held, a small directory.

mod acknowledging;
mod bad_input;
mod broker;
mod clients;
mod dedup;
mod harness;
mod http;
mod kept;
mod tls;
