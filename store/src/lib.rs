//! Everything that is PostgreSQL: the private server, tenancy, the directory, the sink, and every SQL statement.

pub mod embedded;
