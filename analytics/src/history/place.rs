//! Where history stands: a local folder or an object store, with what each needs to make a write durable.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures_util::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use url::Url;

use super::error::{HistoryError, blocking};
#[cfg(target_os = "linux")]
use super::page_cache::PageCached;

/// Environment variables that hold addresses and credentials of object stores.
const CREDENTIAL_PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// A store and the folder in it. Cheap to clone. Its `Debug` and [`Place::shown`] hold no credentials.
#[derive(Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    prefix: Path,
    /// The folder on this machine, whose files must be fsynced; `None` for stores that do so themselves.
    folder: Option<PathBuf>,
    shown: String,
}

/// One object below a place.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its path relative to the place.
    pub path: String,
    pub bytes: u64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.shown).finish()
    }
}

impl Place {
    /// A folder on this machine, which is made if it is missing.
    pub fn folder(folder: &FilePath) -> Result<Self, HistoryError> {
        let disk = |source| HistoryError::Disk { path: folder.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(disk)?;
        let folder = folder.canonicalize().map_err(disk)?;
        let prefix = Path::from_absolute_path(&folder).map_err(|error| HistoryError::Configuration(error.to_string()))?;
        let shown = folder.display().to_string();
        let store = local_store(&folder);
        Ok(Self { store, url: ObjectStoreUrl::local_filesystem(), prefix, folder: Some(folder), shown })
    }

    /// `s3://bucket/folder`, `gs://bucket/folder`, `az://container/folder` or `file:///folder`. Credentials and addresses come
    /// from the variables of the environment that the stores' own tools read (`AWS_ACCESS_KEY_ID` and so on).
    pub fn url(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self, HistoryError> {
        let url = Url::parse(text).map_err(|error| HistoryError::Configuration(format!("it is not a URL: {error}")))?;
        if url.scheme() == "file" {
            let folder = url.to_file_path().map_err(|()| HistoryError::Configuration("it names no folder".into()))?;
            return Self::folder(&folder);
        }
        let options = environment
            .filter(|(name, _)| CREDENTIAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(&url, options)
            .map_err(|error| HistoryError::Configuration(format!("it cannot be opened: {error}")))?;
        let authority = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        Self::on(Arc::from(store), &authority, prefix)
    }

    /// A folder of a store that is already open; `authority` is its URL without a path.
    pub fn on(store: Arc<dyn ObjectStore>, authority: &str, prefix: Path) -> Result<Self, HistoryError> {
        let url = ObjectStoreUrl::parse(authority).map_err(|error| HistoryError::Configuration(error.to_string()))?;
        let shown = format!("{authority}/{prefix}");
        Ok(Self { store, url, prefix, folder: None, shown })
    }

    /// The place without credentials, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// What the query engine finds the store by.
    pub fn store_url(&self) -> &ObjectStoreUrl {
        &self.url
    }

    /// The file on this machine, if the place is on it.
    pub fn local(&self, path: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(path))
    }

    pub fn is_local(&self) -> bool {
        self.folder.is_some()
    }

    /// The object's name in the store.
    pub fn location(&self, path: &str) -> Result<Path, HistoryError> {
        let full = if self.prefix.as_ref().is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) };
        Path::parse(full).map_err(|error| HistoryError::Step(error.to_string()))
    }

    /// The path of an object below the place: [`Place::location`] the other way round.
    pub fn path(&self, location: &Path) -> String {
        let cut = if self.prefix.as_ref().is_empty() { 0 } else { self.prefix.as_ref().len() + 1 };
        location.as_ref().get(cut..).unwrap_or_default().to_owned()
    }

    /// Whether an object of the store lies below the place.
    pub fn has(&self, location: &Path) -> bool {
        location.prefix_matches(&self.prefix)
    }

    pub async fn get(&self, path: &str) -> Result<Bytes, HistoryError> {
        Ok(self.store.get(&self.location(path)?).await?.bytes().await?)
    }

    /// A part of the object. A store gives what there is of it.
    pub async fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes, HistoryError> {
        Ok(self.store.get_range(&self.location(path)?, range).await?)
    }

    /// Bytes of the object, without reading it.
    pub async fn size(&self, path: &str) -> Result<u64, HistoryError> {
        Ok(self.store.head(&self.location(path)?).await?.size)
    }

    /// Writes an object under a name that was never used. Durable after [`Place::settle`].
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), HistoryError> {
        self.store.put(&self.location(path)?, bytes.into()).await?;
        Ok(())
    }

    /// Writes an object only if there is none of this name; false if there is. Durable when it returns true.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<bool, HistoryError> {
        match self.store.put_opts(&self.location(path)?, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.settle(vec![path.to_owned()]).await?;
        Ok(true)
    }

    /// Writes an object piece by piece: it is there when `shutdown` has returned, and not at all after `abort`. Durable after
    /// [`Place::settle`].
    pub fn writer(&self, path: &str) -> Result<BufWriter, HistoryError> {
        Ok(BufWriter::new(Arc::clone(&self.store), self.location(path)?))
    }

    /// Makes written objects survive a loss of power: fsync of each file and of all folders up to the place. An object
    /// store has done so before it answered.
    pub async fn settle(&self, paths: Vec<String>) -> Result<(), HistoryError> {
        let Some(root) = self.folder.clone() else { return Ok(()) };
        blocking(move || {
            let mut folders = BTreeSet::from([root.clone()]);
            for path in paths {
                let file = root.join(path);
                sync(&file)?;
                folders.extend(file.ancestors().skip(1).take_while(|folder| **folder != root).map(FilePath::to_owned));
            }
            folders.iter().try_for_each(|folder| sync(folder))
        })
        .await
    }

    /// Removes an object; one that is gone already is no error.
    pub async fn remove(&self, path: &str) -> Result<(), HistoryError> {
        match self.store.delete(&self.location(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Every object below the place.
    pub async fn list(&self) -> Result<Vec<Listed>, HistoryError> {
        let found = self.store.list(Some(&self.prefix)).map_ok(|meta| Listed { path: self.path(&meta.location), bytes: meta.size });
        Ok(found.try_collect().await?)
    }
}

#[cfg(target_os = "linux")]
fn local_store(folder: &FilePath) -> Arc<dyn ObjectStore> {
    match PageCached::of(folder) {
        Some(store) => Arc::new(store),
        None => Arc::new(LocalFileSystem::new()),
    }
}

#[cfg(not(target_os = "linux"))]
fn local_store(_folder: &FilePath) -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new())
}

fn sync(path: &FilePath) -> Result<(), HistoryError> {
    let disk = |source| HistoryError::Disk { path: path.display().to_string(), source };
    File::open(path).map_err(disk)?.sync_all().map_err(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let secret = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name.to_owned(), "hunter2".to_owned()));
        let place = Place::url("s3://key:hunter2@bucket/folder", secret.into_iter()).unwrap();
        assert!(!format!("{place:?} {}", place.store_url()).contains("hunter2"));
        assert_eq!(place.shown(), "s3://bucket/folder");
    }

    /// Nothing is asked of a store before it is used, so that a place is made without a network.
    #[test]
    fn a_url_of_each_kind_of_store_is_a_place() {
        let key = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let stores = [
            ("s3://bucket/folder", key("AWS_REGION", "eu-central-1"), "s3://bucket/folder"),
            ("gs://bucket/folder", Vec::new(), "gs://bucket/folder"),
            ("az://container/folder", key("AZURE_STORAGE_ACCOUNT_NAME", "account"), "az://container/folder"),
        ];
        for (url, environment, shown) in stores {
            let place = Place::url(url, environment.into_iter()).unwrap_or_else(|error| panic!("{url}: {}", error.describe()));
            assert_eq!(place.shown(), shown);
            assert_eq!(place.location("scans/x.parquet").unwrap().as_ref(), "folder/scans/x.parquet", "{url}");
        }
    }

    #[test]
    fn a_url_that_names_no_store_is_refused() {
        for text in ["bucket/folder", "ftp://host/folder"] {
            assert!(matches!(Place::url(text, std::iter::empty()), Err(HistoryError::Configuration(_))), "{text}");
        }
    }
}
