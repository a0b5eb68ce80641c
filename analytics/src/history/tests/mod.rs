//! Tests of history against a naive reference, with an object store that dies.

mod damage;
mod engine;
mod faults;
mod kills;
mod pruning;
mod s3;
mod town;
