//! The project's own commands: `cargo xtask demo`, `cargo xtask test` and what they are made of. Each does its own set-up.

mod node;
mod rules;
mod setup;
mod shell;
mod suite;
mod torture;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Rollcall's development commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build, and run the whole product on a synthetic district
    Demo {
        /// Passed on to `rollcall demo`, such as --http 127.0.0.1:9000
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Install what is missing and run every test
    Test {
        /// Leave out the tests in a browser
        #[arg(long)]
        no_browser: bool,
    },
    /// Install what the tests need, and nothing else
    Setup,
    /// Check the house rules: which crate may use which, and the shape of the code
    Rules,
    /// Write dashboard/openapi.json from the code
    Openapi,
    /// Break it on purpose, with ever new seeds, until the time is over
    Torture(torture::Torture),
    /// Run a fuzz target: mqtt, event_json, arrow_ipc, log_frames or oneroster_csv
    Fuzz(torture::Fuzz),
    /// Measure: starts fresh servers, runs bounded loads, prints a table and writes JSON
    Bench {
        /// Scenario; none: all
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo { args } => {
            setup::for_demo()?;
            shell::cargo(["build", "--release", "--workspace", "--bins"]).run()?;
            shell::release_binary("rollcall")?.arg("demo").args(args).replace_process()
        }
        Command::Test { no_browser } => suite::run(!no_browser),
        Command::Setup => setup::for_tests(true).map(|()| ExitCode::SUCCESS),
        Command::Rules => rules::check().map(|()| ExitCode::SUCCESS),
        Command::Openapi => {
            shell::cargo(["test", "--workspace", "--lib", "openapi"]).env("ROLLCALL_REWRITE", "1").run()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Torture(torture) => torture.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Bench { args } => {
            setup::for_bench()?;
            shell::cargo(["build", "--release", "--workspace", "--bins", "--examples"]).run()?;
            shell::release_binary("rollcall-bench")?.args(args).replace_process()
        }
    }
}
