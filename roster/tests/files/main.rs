//! Packages of CSV files, from outside: what is wrong with them.

mod problems;
mod sets;
