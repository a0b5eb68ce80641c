//! Packages of CSV files, from outside: what is wrong with them, and what published examples give.

mod problems;
mod published_examples;
mod sets;
