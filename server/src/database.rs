//! Which database a command works with: the one that is named, else the private one of the data folder, which is used
//! where it runs already and started where it does not.

use std::path::Path;

use anyhow::{Context, Result};
use rollcall_store::embedded::{EmbeddedPostgres, running_url};
use rollcall_store::vault::Vault;
use rollcall_store::{DatabaseConfig, Retention, Store, StoreError};

use crate::config::Config;

/// A connected, migrated store, and the private server behind it where there is one.
pub struct Database {
    pub store: Store,
    pub vault: Vault,
    pub embedded: Option<EmbeddedPostgres>,
}

/// How the private server is to be treated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The server of `rollcall serve`: starts it or adopts it, and supervises it.
    Serve,
    /// A short command beside a server that may be running: never takes it over, migrates only what never was.
    Command,
    /// `rollcall migrate`.
    Migrate,
}

impl Database {
    pub async fn open(config: &Config, how: Use) -> Result<Self> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot create the data folder {}", config.data_dir.display()))?;
        let embedded = start_private(config, how).await?;
        let named = config.database_url.reveal();
        let owner_url = match &embedded {
            Some(private) => private.url(),
            None if !named.is_empty() => named.to_owned(),
            None => running_url(&config.data_dir, "rollcall").context("the private database ended meanwhile")?,
        };
        let of = |url: String| DatabaseConfig { retention: retention(config), ..DatabaseConfig::new(url) };
        if let Some(private) = &embedded {
            Store::migrate(&of(owner_url)).await.context("cannot migrate the database")?;
            private.admit_app().await.context("cannot prepare the program's role")?;
            let store = Store::connect(&of(private.app_url())).await.context("cannot connect to the database")?;
            return Ok(Self { store, vault: vault(config)?, embedded });
        }
        let store = match how {
            // The server that runs has migrated; to do it again beside it would only be in its way.
            Use::Command => Store::connect(&of(owner_url.clone())).await,
            Use::Serve | Use::Migrate => Err(StoreError::NotMigrated),
        };
        let store = match store {
            Err(StoreError::NotMigrated) => {
                Store::migrate(&of(owner_url.clone())).await.context("cannot migrate the database")?;
                Store::connect(&of(owner_url)).await.context("cannot connect to the database")?
            }
            other => other.context("cannot connect to the database")?,
        };
        Ok(Self { store, vault: vault(config)?, embedded })
    }

    /// Ends the private server in order, if this command started it.
    pub async fn close(self) {
        self.store.close().await;
        if let Some(private) = self.embedded {
            private.stop().await;
        }
    }
}

async fn start_private(config: &Config, how: Use) -> Result<Option<EmbeddedPostgres>> {
    if !config.database_url.is_empty() || how != Use::Serve && running_url(&config.data_dir, "rollcall").is_some() {
        return Ok(None);
    }
    Ok(Some(EmbeddedPostgres::start(&config.data_dir).await?))
}

fn retention(config: &Config) -> Retention {
    let days = &config.retention;
    Retention {
        scan_days: days.scan_days,
        telemetry_days: days.telemetry_days,
        activity_days: days.activity_days,
        device_status_days: days.device_status_days,
        rollup_days: days.rollup_days,
    }
}

fn vault(config: &Config) -> Result<Vault> {
    let key = config.vault_key.reveal();
    if !key.is_empty() {
        return Vault::from_hex(key).context("vault_key");
    }
    let path: &Path = &config.data_dir.join("keys/vault.key");
    Vault::open_or_create(path).with_context(|| format!("the vault key {}", path.display()))
}
