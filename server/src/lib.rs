//! The one binary: command line, configuration, wiring, start and ordered stop.

pub mod cli;
mod commands;
pub mod config;
mod database;
mod demo;
mod devices;
mod doctor;
mod exports;
mod folder_lock;
mod history;
mod import;
mod limits;
mod query_pool;
mod readiness;
mod serve;
pub mod simulate;
mod supervise;
mod trace;
mod worker;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Account, Badge, Cli, Command, Device, EXIT_FAILED, EXIT_UNHEALTHY, EXIT_USAGE, Import};
use crate::config::{Config, Flags};

/// Parses the command line, runs the command and maps its outcome to an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Serve(serve) = &cli.command
        && serve.print_defaults
    {
        print!("{}", config::DEFAULTS);
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(&flags(&cli), std::env::vars()) {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    if let Err(error) = trace::start(&config.trace) {
        return fail(&error, EXIT_USAGE);
    }
    let named = cli.global.data_dir.is_some();
    match run(cli.command, config, named) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, EXIT_FAILED),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("rollcall: {error:#}");
    ExitCode::from(code)
}

/// Flags of the command that are settings too.
fn flags(cli: &Cli) -> Flags {
    let mut flags = cli.global.flags();
    if let Command::Serve(serve) = &cli.command {
        flags.http.clone_from(&serve.http);
        flags.mqtt.clone_from(&serve.mqtt);
    }
    flags
}

/// `named`: whether the data folder was named on the command line.
fn run(command: Command, config: Config, named: bool) -> Result<u8> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if matches!(command, Command::Worker(_)) {
        builder.thread_stack_size(worker::STACK_BYTES);
    }
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        match command {
            Command::Serve(_) => serve::run(config, until_signal()?).await.map(|()| 0),
            Command::Worker(options) => worker::run(&config, &options, until_signal()?).await.map(|()| 0),
            Command::Simulate(options) => {
                let sent = simulate::run(&options, until_signal()?).await?;
                println!("{}", serde_json::json!({"scans": sent}));
                Ok(0)
            }
            Command::Migrate => commands::migrate(&config).await.map(|()| 0),
            Command::Import(Import::Oneroster(import)) => import::oneroster(&config, &import).await,
            Command::Account(Account::Add(add)) => commands::account_add(&config, &add).await.map(|()| 0),
            Command::Device(Device::Add(add)) => commands::device_add(&config, &add).await.map(|()| 0),
            Command::Device(Device::List(list)) => commands::device_list(&config, &list).await.map(|()| 0),
            Command::Badge(Badge::Issue(issue)) => commands::badge_issue(&config, &issue).await.map(|()| 0),
            Command::Doctor(doctor) => Ok(if doctor::run(&config, doctor.json)? { 0 } else { EXIT_UNHEALTHY }),
            Command::Demo(demo) => demo::run(config, &demo, named, until_signal()?).await.map(|()| 0),
        }
    })
}

/// A token that Ctrl-C and SIGTERM cancel.
fn until_signal() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn({
        let token = token.clone();
        async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(token)
}
