//! How fast SQL is, through the query engine as its doors use it.
//!
//! `sql_speed hot [ROWS]`: a section's filter and a school's groups on ten million hot rows, the memory that they take,
//! and what following a question about a school adds to each batch.
//!
//! `sql_speed files FOLDER [ROWS] [PYTHON] [ONLY]`: questions on fifty million rows of Parquet that history wrote into the folder
//! (which is filled first when it is empty) and a hundred thousand hot ones. With a Python that has the package duckdb,
//! DuckDB answers the same questions from the same files in turns. Only those whose name contains ONLY are asked.
//!
//! `sql_speed worker FOLDER ADDR`: a worker on the folder. `sql_speed workers FOLDER ROWS URL...`: the same questions by the
//! engine alone and with these workers, in turns.
//!
//! `cargo run --release --example sql_speed -p rollcall-analytics -- hot`

mod ask;
mod data;
mod duckdb;
mod feed;
mod files;
mod hot;
mod live;
mod measured;
mod workers;

/// What is wrong is shown as it is: this is a measurement.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How often each question is asked; the median counts.
const TURNS: usize = 7;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["hot"] => hot::run(10_000_000).await,
        ["hot", rows] => hot::run(rows.parse()?).await,
        ["files", folder] => files::run(folder, 50_000_000, None, "").await,
        ["files", folder, rows] => files::run(folder, rows.parse()?, None, "").await,
        ["files", folder, rows, python] => files::run(folder, rows.parse()?, Some(python), "").await,
        ["files", folder, rows, python, only] => files::run(folder, rows.parse()?, Some(python), only).await,
        ["worker", folder, address] => workers::serve(folder, address).await,
        ["workers", folder, rows, ref urls @ ..] => workers::run(folder, rows.parse()?, urls).await,
        _ => Err("sql_speed hot [ROWS] | files FOLDER [ROWS] [PYTHON] [ONLY] | worker FOLDER ADDR | workers FOLDER ROWS URL...".into()),
    }
}
