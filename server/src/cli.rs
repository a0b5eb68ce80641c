//! The command line. Exit codes: 0 done; 1 failed; 2 the command line or configuration is wrong; 3 the input was refused
//! (an import with problems); 4 `doctor` found something to mend.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Flags;

pub const EXIT_FAILED: u8 = 1;
pub const EXIT_USAGE: u8 = 2;
pub const EXIT_REFUSED: u8 = 3;
pub const EXIT_UNHEALTHY: u8 = 4;

/// Real-time attendance for school districts: devices stream, the log holds, the board is live.
#[derive(Parser, Debug)]
#[command(name = "rollcall", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes. Each is also a setting of the configuration file and the environment.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Configuration file (TOML); the defaults are printed by `rollcall serve --print-defaults`
    #[arg(long, global = true, env = "ROLLCALL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the log, the private database and the keys [default: /var/lib/rollcall for root, else ~/.local/share/rollcall]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL to use instead of the private one, as postgres://user:password@host/database
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
}

impl Global {
    pub fn flags(&self) -> Flags {
        Flags { config: self.config.clone(), data_dir: self.data_dir.clone(), database_url: self.database_url.clone(), ..Flags::default() }
    }
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the server: devices, log, database, live boards and pages
    Serve(Serve),
    /// Seed a synthetic district, run the server and simulated devices, and print the accounts
    Demo(Demo),
    /// Drive devices named in a file as real MQTT and WebSocket clients
    Simulate(Simulate),
    /// Create or update the database's schema and exit
    Migrate,
    /// Import rosters and timetables
    #[command(subcommand)]
    Import(Import),
    /// Manage accounts of people
    #[command(subcommand)]
    Account(Account),
    /// Manage devices
    #[command(subcommand)]
    Device(Device),
    /// Manage badges
    #[command(subcommand)]
    Badge(Badge),
    /// Read history for the queries of a server on another machine
    Worker(Worker),
    /// Check this machine, the configuration, the log and the database, and say what to mend
    Doctor(Doctor),
}

#[derive(Args, Debug)]
pub struct Serve {
    /// Address of pages, API, live updates and HTTP and WebSocket ingest [default: 127.0.0.1:8080]; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Address of MQTT [default: 127.0.0.1:1883]; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub mqtt: Option<String>,
    /// Print the configuration's defaults with their meanings and exit
    #[arg(long)]
    pub print_defaults: bool,
}

#[derive(Args, Debug)]
pub struct Worker {
    /// Address for servers [default: 127.0.0.1:8100]; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Place of history, as the server names it in history.url [default: the folder "history" in the data folder]
    #[arg(long, value_name = "URL")]
    pub history: Option<String>,
    /// Address of /health and /metrics; without it there is none
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
}

#[derive(Args, Debug)]
pub struct Demo {
    /// Address of the pages [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Address of MQTT [default: 127.0.0.1:1883, or a free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    pub mqtt: Option<String>,
    /// Schools of the synthetic district
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub schools: u32,
    /// Students of each school
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub students: u32,
    /// Stop after this many seconds instead of at Ctrl-C
    #[arg(long, value_name = "SECONDS")]
    pub run_for_s: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Simulate {
    /// JSON file with the server's addresses, devices (id, token, kind) and badges; `rollcall demo` writes one as simulation.json
    #[arg(long, value_name = "FILE")]
    pub plan: PathBuf,
    /// How many students arrive in a second
    #[arg(long, default_value_t = 2.0)]
    pub arrivals_per_s: f64,
    /// Telemetry events a second over all wearables
    #[arg(long, default_value_t = 20.0)]
    pub telemetry_per_s: f64,
    /// Events of learning apps a second over all tablets
    #[arg(long, default_value_t = 20.0)]
    pub activity_per_s: f64,
    /// Nobody leaves for good: when everybody has arrived, a few go out and come back, without end
    #[arg(long)]
    pub stay: bool,
    /// Stop after this many seconds instead of when everybody has arrived and left
    #[arg(long, value_name = "SECONDS")]
    pub run_for_s: Option<u64>,
    /// Seed of who comes when; the same seed tells the same story
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Subcommand, Debug)]
pub enum Import {
    /// Import a OneRoster 1.1 or 1.2 CSV file (bulk); nothing is changed if it has an error
    Oneroster(Oneroster),
}

#[derive(Args, Debug)]
pub struct Oneroster {
    /// The zip file, or a folder with its CSV files
    #[arg(value_name = "FILE.zip")]
    pub file: PathBuf,
    /// District to import into; created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub district: String,
    /// Folder with schools.csv, bells.csv, calendar.csv and meetings.csv (see docs/roster-import.md)
    #[arg(long, value_name = "DIR")]
    pub timetable: Option<PathBuf>,
    /// Time zone of schools that the timetable does not name, such as America/Chicago
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub zone: String,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Teacher,
    Office,
    Analyst,
    Guardian,
    It,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Office => "office",
            Self::Analyst => "analyst",
            Self::Guardian => "guardian",
            Self::It => "it",
        }
    }
}

#[derive(Subcommand, Debug)]
pub enum Account {
    /// Add an account; the password is read from standard input
    Add(AccountAdd),
}

#[derive(Args, Debug)]
pub struct AccountAdd {
    #[arg(long)]
    pub email: String,
    #[arg(long, value_enum)]
    pub role: Role,
    /// Whose account it is: a person's id or OneRoster sourcedId; needed for teachers and guardians
    #[arg(long, value_name = "ID")]
    pub person: Option<String>,
    /// The only school an office account sees: a school's id, sourcedId or name
    #[arg(long, value_name = "SCHOOL")]
    pub school: Option<String>,
    #[command(flatten)]
    pub district: InDistrict,
    /// Print {"id"} as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which district a command is about.
#[derive(Args, Debug)]
pub struct InDistrict {
    /// District by name; may be left out when there is only one
    #[arg(long, value_name = "NAME")]
    pub district: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Gate,
    Room,
    Tablet,
    Wearable,
    Gateway,
}

#[derive(Subcommand, Debug)]
pub enum Device {
    /// Register a device and print its id and token; the token is shown this once
    Add(DeviceAdd),
    /// List devices
    List(DeviceList),
}

#[derive(Args, Debug)]
pub struct DeviceAdd {
    /// School by name, id or sourcedId
    #[arg(long)]
    pub school: String,
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// What people call it, such as "Gate 1"
    #[arg(long)]
    pub name: String,
    /// Register this many, all or none; a number from 1 on follows the name
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: Option<u32>,
    /// The only person that a tablet or wearable speaks for: id or sourcedId
    #[arg(long, value_name = "ID")]
    pub person: Option<String>,
    /// The section whose room a room scanner stands in: id or sourcedId
    #[arg(long, value_name = "ID")]
    pub section: Option<String>,
    /// The gateway that the device is behind: its id
    #[arg(long, value_name = "ID")]
    pub gateway: Option<String>,
    #[command(flatten)]
    pub district: InDistrict,
    /// Print {"id", "token"} as JSON, a line each
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct DeviceList {
    #[command(flatten)]
    pub district: InDistrict,
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum Badge {
    /// Issue a badge and print its secret; it is shown this once
    Issue(BadgeIssue),
}

#[derive(Args, Debug)]
pub struct BadgeIssue {
    /// Whom it is for: a person's id or OneRoster sourcedId
    #[arg(long, value_name = "ID", required_unless_present = "school", conflicts_with = "school")]
    pub person: Option<String>,
    /// One for each student of this school who has none: name, id or sourcedId
    #[arg(long, value_name = "SCHOOL")]
    pub school: Option<String>,
    #[command(flatten)]
    pub district: InDistrict,
    /// Print {"badge", "person", "source_id"} as JSON, a line for each badge
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Doctor {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}
