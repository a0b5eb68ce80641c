//! The REST routes, one module for each kind of thing.

pub mod accounts;
pub mod audit;
pub mod badges;
pub mod dead_letters;
pub mod device_days;
pub mod devices;
pub mod districts;
pub mod engagement;
pub mod erasures;
pub mod exports;
pub mod marks;
pub mod overview;
pub mod people;
pub mod reports;
pub mod saved_queries;
pub mod schools;
pub mod sections;
pub mod session;
pub mod sql;
pub mod students;
pub mod tokens;
