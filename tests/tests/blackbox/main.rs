//! Black-box tests: the real binary with a real PostgreSQL, real MQTT and WebSocket clients, kills and restarts, and a real
//! browser. One binary, so that it links once. Each test has a server, a folder and ports of its own.

mod bad_input;
mod browser;
mod command_line;
mod database;
mod day;
mod durability;
mod erasure;
mod exports;
mod faults;
mod history;
mod questions;
mod workers;
