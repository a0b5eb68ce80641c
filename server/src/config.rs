//! Configuration: the documented defaults (`rollcall.toml` beside this crate's manifest), overridden by a file, then by
//! the environment, then by flags. Everything is checked before anything binds; unknown keys are refused by name.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

pub const DEFAULTS: &str = include_str!("../rollcall.toml");
const ENVIRONMENT_PREFIX: &str = "ROLLCALL_";
/// Variables that share the prefix and mean something else: the configuration file's name, and what the tests use.
const NOT_SETTINGS: [&str; 2] = ["ROLLCALL_CONFIG", "ROLLCALL_TEST_"];

/// A text that never shows in a log or an error.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "[unset]" } else { "[redacted]" })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data_dir: PathBuf,
    pub http: SocketAddr,
    pub mqtt: SocketAddr,
    pub database_url: Secret,
    pub vault_key: Secret,
    pub secure_cookies: SecureCookies,
    pub tls: Tls,
    pub log: Log,
    pub ingest: Ingest,
    pub retention: Retention,
    pub history: History,
    pub hot: Hot,
    pub sql: Sql,
    pub worker: Worker,
    pub exports: Exports,
    pub trace: Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecureCookies {
    Auto,
    Always,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub mqtt: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub segment_bytes: u64,
    pub disk_budget_bytes: u64,
    pub tail_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    pub connections_max: usize,
    pub connections_per_address_max: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub scan_days: u32,
    pub telemetry_days: u32,
    pub activity_days: u32,
    pub device_status_days: u32,
    pub rollup_days: u32,
}

/// The URL may name a user, so it is never printed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    pub url: Secret,
    pub flush_interval_s: u64,
    pub file_rows: u64,
    pub delete_delay_s: u64,
    pub scan_days: u32,
    pub telemetry_days: u32,
    pub activity_days: u32,
    pub mark_days: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hot {
    pub keep_hours: u32,
    pub bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    pub flight: String,
    pub postgres: String,
    pub concurrent: usize,
    pub time_s: u64,
    pub memory_bytes: usize,
    pub spill_bytes: u64,
    pub rows: usize,
    pub live_interval_ms: u64,
    pub live_queries: usize,
    pub live_queries_per_account: usize,
    pub workers: Vec<String>,
    pub workers_token: Secret,
    pub workers_ca: PathBuf,
    pub workers_shares: usize,
    pub workers_bytes_min: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    pub listen: SocketAddr,
    pub http: String,
    pub memory_bytes: usize,
    pub spill_bytes: u64,
}

/// The URL may name a user, so it is never printed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exports {
    pub url: Secret,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    pub level: String,
    pub format: TraceFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceFormat {
    Auto,
    Json,
    Text,
}

/// Values given on the command line, as `key = value` of the top level; `None` where a flag was not given.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub http: Option<String>,
    pub mqtt: Option<String>,
    pub database_url: Option<String>,
}

impl Config {
    /// Reads all sources. `environment` is passed in so that tests need not change the process's.
    pub fn load(flags: &Flags, environment: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut table: toml::Table = toml::from_str(DEFAULTS).context("the built-in defaults are not valid TOML")?;
        if let Some(path) = &flags.config {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration file {}", path.display()))?;
            let file: toml::Table = toml::from_str(&text).with_context(|| format!("{} is not valid TOML", path.display()))?;
            merge(&mut table, file, "").with_context(|| format!("in {}", path.display()))?;
        }
        for (name, value) in environment {
            apply_environment(&mut table, &name, &value)?;
        }
        let flags = [
            ("data_dir", flags.data_dir.as_ref().map(|path| path.display().to_string())),
            ("http", flags.http.clone()),
            ("mqtt", flags.mqtt.clone()),
            ("database_url", flags.database_url.clone()),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                table.insert(key.to_owned(), toml::Value::String(value));
            }
        }
        let mut config: Self = table.try_into().context("the configuration does not fit")?;
        if config.data_dir.as_os_str().is_empty() {
            config.data_dir = default_data_dir()?;
        }
        config.validate()?;
        Ok(config)
    }

    /// Passwords travel over these doors, so that each is encrypted or stays on the machine.
    fn validate_doors(&self) -> Result<()> {
        for (name, address) in [("sql.flight", &self.sql.flight), ("sql.postgres", &self.sql.postgres)] {
            if address.is_empty() {
                continue;
            }
            let address: SocketAddr = address.parse().with_context(|| format!("{name}: {address:?} is not an address"))?;
            if self.tls.certificate.as_os_str().is_empty() && !address.ip().is_loopback() {
                bail!("{name} is {address}, which other machines reach: tls.certificate and tls.key are needed");
            }
        }
        Ok(())
    }

    fn validate(&self) -> Result<()> {
        const SEGMENT_BYTES_MIN: u64 = 1 << 20;
        if self.log.segment_bytes < SEGMENT_BYTES_MIN {
            bail!("log.segment_bytes is {}, but must be at least {SEGMENT_BYTES_MIN}", self.log.segment_bytes);
        }
        if self.log.disk_budget_bytes < 4 * self.log.segment_bytes {
            bail!("log.disk_budget_bytes must hold at least four segments of log.segment_bytes");
        }
        const FILE_ROWS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
        if !FILE_ROWS.contains(&self.history.file_rows) {
            bail!("history.file_rows is {}, but must be {} to {}", self.history.file_rows, FILE_ROWS.start(), FILE_ROWS.end());
        }
        if self.history.flush_interval_s == 0 {
            bail!("history.flush_interval_s must be at least 1");
        }
        self.validate_doors()?;
        if let Some(workers) = crate::worker::known(self)? {
            workers.check().context("sql.workers")?;
        }
        if self.sql.concurrent == 0 || self.sql.time_s == 0 || self.sql.rows == 0 {
            bail!("sql.concurrent, sql.time_s and sql.rows must be at least 1");
        }
        const LIVE_INTERVAL_MS_MIN: u64 = 100;
        if self.sql.live_interval_ms < LIVE_INTERVAL_MS_MIN {
            bail!("sql.live_interval_ms is {}, but must be at least {LIVE_INTERVAL_MS_MIN}", self.sql.live_interval_ms);
        }
        if !self.tls.mqtt.is_empty() {
            self.tls.mqtt.parse::<SocketAddr>().with_context(|| format!("tls.mqtt: {:?} is not an address", self.tls.mqtt))?;
            for (name, path) in [("tls.certificate", &self.tls.certificate), ("tls.key", &self.tls.key)] {
                if path.as_os_str().is_empty() {
                    bail!("{name} is needed when tls.mqtt is set");
                }
            }
        }
        let key = self.vault_key.reveal();
        if !key.is_empty() && (key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            bail!("vault_key must be 64 hexadecimal digits");
        }
        Ok(())
    }
}

/// Root keeps its data where the database's user can reach it; anybody else in their own data folder.
fn default_data_dir() -> Result<PathBuf> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        return Ok(PathBuf::from("/var/lib/rollcall"));
    }
    if let Some(data) = std::env::var_os("XDG_DATA_HOME").filter(|value| !value.is_empty()) {
        return Ok(Path::new(&data).join("rollcall"));
    }
    let home = std::env::var_os("HOME").context("neither HOME nor data_dir is set; name a folder with --data-dir")?;
    Ok(Path::new(&home).join(".local/share/rollcall"))
}

/// Lays `over` on `base`; a key that `base` has not is an error with its full name.
fn merge(base: &mut toml::Table, over: toml::Table, prefix: &str) -> Result<()> {
    for (key, value) in over {
        let name = format!("{prefix}{key}");
        match (base.get_mut(&key), value) {
            (None, _) => bail!("unknown key {name:?}"),
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value, &format!("{name}."))?,
            (Some(toml::Value::Table(_)), _) => bail!("{name:?} is a section, not a value"),
            (Some(slot), value) => *slot = value,
        }
    }
    Ok(())
}

/// `ROLLCALL_HTTP` sets `http`; `ROLLCALL_LOG_SEGMENT_BYTES` sets `segment_bytes` of `[log]`.
fn apply_environment(table: &mut toml::Table, name: &str, value: &str) -> Result<()> {
    let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) else { return Ok(()) };
    if NOT_SETTINGS.iter().any(|other| name.starts_with(other)) {
        return Ok(());
    }
    let key = key.to_ascii_lowercase();
    let slot = if table.get(&key).is_some_and(|value| !value.is_table()) {
        table.get_mut(&key)
    } else {
        key.split_once('_').and_then(|(section, key)| table.get_mut(section)?.as_table_mut()?.get_mut(key))
    };
    let Some(slot) = slot else { bail!("the environment variable {name} names no setting") };
    *slot = match slot {
        toml::Value::Integer(_) => toml::Value::Integer(value.parse().with_context(|| format!("{name}: {value:?} is not a whole number"))?),
        toml::Value::Array(_) => {
            toml::Value::Array(value.split(',').map(str::trim).filter(|one| !one.is_empty()).map(|one| one.into()).collect())
        }
        toml::Value::Boolean(_) => toml::Value::Boolean(value.parse().with_context(|| format!("{name}: {value:?} is not true or false"))?),
        _ => toml::Value::String(value.to_owned()),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: Option<&str>, environment: &[(&str, &str)], flags: Flags) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.toml");
        let mut flags = flags;
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
            flags.config = Some(path);
        }
        flags.data_dir.get_or_insert_with(|| PathBuf::from("/data"));
        Config::load(&flags, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn later_sources_win() {
        let file = "http = \"127.0.0.1:1\"\nmqtt = \"127.0.0.1:1\"\n[log]\nsegment_bytes = 1048576";
        let environment = [("ROLLCALL_MQTT", "127.0.0.1:2"), ("ROLLCALL_LOG_SEGMENT_BYTES", "2097152"), ("HOME", "/x")];
        let flags = Flags { http: Some("127.0.0.1:3".into()), ..Flags::default() };
        let config = load(Some(file), &environment, flags).unwrap();
        assert_eq!((config.http.port(), config.mqtt.port(), config.log.segment_bytes), (3, 2, 2_097_152));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(Option<&str>, &[(&str, &str)], &str); 10] = [
            (Some("htp = 1"), &[], "unknown key \"htp\""),
            (Some("[log]\nsegments = 1"), &[], "unknown key \"log.segments\""),
            (None, &[("ROLLCALL_HTPP", "x")], "ROLLCALL_HTPP"),
            (None, &[("ROLLCALL_LOG_SEGMENT_BYTES", "1")], "log.segment_bytes is 1"),
            (None, &[("ROLLCALL_HISTORY_FILE_ROWS", "2000000")], "history.file_rows is 2000000"),
            (Some("[history]\nflush_interval_s = 0"), &[], "history.flush_interval_s"),
            (None, &[("ROLLCALL_VAULT_KEY", "abc")], "vault_key must be 64"),
            (None, &[("ROLLCALL_SQL_WORKERS", "http://127.0.0.1:1")], "token of workers"),
            (Some("[sql]\nworkers_token = \"0123456789abcdef0123456789abcdef\"\nworkers = [\"http://10.0.0.1:1\"]"), &[], "by https only"),
            (Some("[sql]\nworkers_token = \"0123456789abcdef0123456789abcdef\"\nworkers = [\"https://far:1\"]"), &[], "authority"),
        ];
        for (file, environment, expected) in cases {
            let error = format!("{:#}", load(file, environment, Flags::default()).unwrap_err());
            assert!(error.contains(expected), "{error} should say {expected}");
        }
    }

    #[test]
    fn a_list_in_the_environment_is_divided_by_commas() {
        let token = ("ROLLCALL_SQL_WORKERS_TOKEN", "0123456789abcdef0123456789abcdef");
        let config = load(None, &[token, ("ROLLCALL_SQL_WORKERS", "http://127.0.0.1:1, http://[::1]:2")], Flags::default()).unwrap();
        assert_eq!(config.sql.workers, ["http://127.0.0.1:1", "http://[::1]:2"]);
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn secrets_are_redacted() {
        let config = load(None, &[("ROLLCALL_DATABASE_URL", "postgres://u:hunter2@h/d")], Flags::default()).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
