//! Tests of history against a naive reference, with an object store that dies.

mod cut_short;
mod damage;
mod engine;
pub(crate) mod faults;
mod kills;
mod pressure;
mod pruning;
mod restart;
mod s3;
mod seam;
pub(crate) mod town;
