//! A package of CSV files: a zip, or a folder. Nothing is ever unpacked to disk.
//!
//! Limits: [`FILES_MAX`] entries and [`UNCOMPRESSED_BYTES_MAX`] bytes read in all, counted while reading because the
//! sizes that a zip states about itself are the attacker's. Names that climb out of the package are refused even
//! though nothing is unpacked: whoever makes them is not exporting a roster. One folder around all files is common
//! and is looked through.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

/// Most entries of a package.
pub const FILES_MAX: usize = 1_000;

/// Most bytes that are read from one package. The largest districts' packages have some hundred megabytes.
pub const UNCOMPRESSED_BYTES_MAX: u64 = 4 << 30;

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a readable zip file: {reason}", path.display())]
    NotAZip { path: PathBuf, reason: String },
    #[error("the zip holds {count} files; a roster has at most {FILES_MAX}")]
    TooManyFiles { count: usize },
    #[error("the zip holds a file named {name:?}, which points outside of it; it was not made by a roster export")]
    UnsafeName { name: String },
    #[error("{name} is encrypted; export the roster without a password")]
    Encrypted { name: String },
    #[error("the package holds more than {UNCOMPRESSED_BYTES_MAX} bytes once unpacked; refusing to read on (in {name})")]
    TooLarge { name: String },
    #[error("cannot read {name}: {source}")]
    Read { name: String, source: io::Error },
}

enum Place {
    Zip { archive: Box<ZipArchive<BufReader<File>>>, entries: HashMap<String, usize> },
    Folder { path: PathBuf, names: Vec<String> },
    Memory { files: HashMap<String, Vec<u8>> },
}

/// An opened package and what may still be read from it.
pub struct Package {
    place: Place,
    bytes_left: u64,
}

impl Package {
    /// Opens a zip file or a folder.
    pub fn open(path: &Path) -> Result<Self, PackageError> {
        Self::open_bounded(path, UNCOMPRESSED_BYTES_MAX)
    }

    /// A package of files that are in memory already. The first of two with one name is left out.
    pub fn of_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self { place: Place::Memory { files: files.into_iter().collect() }, bytes_left: UNCOMPRESSED_BYTES_MAX }
    }

    fn open_bounded(path: &Path, bytes_left: u64) -> Result<Self, PackageError> {
        let open_error = |source| PackageError::Open { path: path.to_owned(), source };
        if path.is_dir() {
            let mut names = Vec::new();
            for entry in path.read_dir().map_err(open_error)?.take(FILES_MAX + 1) {
                names.push(entry.map_err(open_error)?.file_name().to_string_lossy().into_owned());
            }
            if names.len() > FILES_MAX {
                return Err(PackageError::TooManyFiles { count: names.len() });
            }
            return Ok(Self { place: Place::Folder { path: path.to_owned(), names }, bytes_left });
        }
        let file = File::open(path).map_err(open_error)?;
        let archive =
            ZipArchive::new(BufReader::new(file)).map_err(|e| PackageError::NotAZip { path: path.to_owned(), reason: e.to_string() })?;
        let entries = entries(&archive)?;
        Ok(Self { place: Place::Zip { archive: Box::new(archive), entries }, bytes_left })
    }

    /// Names of the files at the top, in no order.
    pub fn names(&self) -> Vec<&str> {
        match &self.place {
            Place::Zip { entries, .. } => entries.keys().map(String::as_str).collect(),
            Place::Folder { names, .. } => names.iter().map(String::as_str).collect(),
            Place::Memory { files } => files.keys().map(String::as_str).collect(),
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        match &self.place {
            Place::Zip { entries, .. } => entries.contains_key(name),
            Place::Folder { names, .. } => names.iter().any(|n| n == name),
            Place::Memory { files } => files.contains_key(name),
        }
    }

    /// Reads one file with `read`; `None` when it is not there.
    pub(crate) fn read<T>(&mut self, name: &str, read: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> Result<Option<T>, PackageError> {
        if !self.contains(name) {
            return Ok(None);
        }
        let read_error = |source: io::Error| PackageError::Read { name: name.to_owned(), source };
        let mut over = false;
        let result = match &mut self.place {
            Place::Folder { path, .. } => {
                let file = File::open(path.join(name)).map_err(read_error)?;
                read(&mut Bounded { inner: file, left: &mut self.bytes_left, over: &mut over })
            }
            Place::Memory { files } => {
                let Some(file) = files.get(name) else { return Ok(None) };
                read(&mut Bounded { inner: file.as_slice(), left: &mut self.bytes_left, over: &mut over })
            }
            Place::Zip { archive, entries } => {
                let Some(&index) = entries.get(name) else { return Ok(None) };
                let entry = archive.by_index(index).map_err(|e| match e {
                    zip::result::ZipError::UnsupportedArchive(_) => PackageError::Encrypted { name: name.to_owned() },
                    other => read_error(io::Error::other(other.to_string())),
                })?;
                read(&mut Bounded { inner: entry, left: &mut self.bytes_left, over: &mut over })
            }
        };
        if over {
            return Err(PackageError::TooLarge { name: name.to_owned() });
        }
        result.map(Some).map_err(read_error)
    }
}

/// The files of a zip by name, looked for in its one top folder when there is one.
fn entries(archive: &ZipArchive<BufReader<File>>) -> Result<HashMap<String, usize>, PackageError> {
    if archive.len() > FILES_MAX {
        return Err(PackageError::TooManyFiles { count: archive.len() });
    }
    let mut files: Vec<(Vec<String>, usize)> = Vec::new();
    for index in 0..archive.len() {
        let Some(name) = archive.name_for_index(index) else { continue };
        let name = name.map_err(|e| PackageError::Read { name: format!("entry {index}"), source: io::Error::other(e.to_string()) })?;
        let name = name.as_ref();
        if name.ends_with('/') {
            check_name(name.trim_end_matches('/'))?;
            continue;
        }
        check_name(name)?;
        let parts: Vec<String> = name.split('/').map(str::to_owned).collect();
        // What the Mac's archiver adds beside the files.
        let hidden = parts.iter().any(|p| p == "__MACOSX" || p.starts_with('.'));
        if !hidden {
            files.push((parts, index));
        }
    }
    let depth = match files.first() {
        Some((first, _)) if first.len() == 2 && files.iter().all(|(parts, _)| parts.len() >= 2 && parts[0] == first[0]) => 1,
        _ => 0,
    };
    Ok(files
        .into_iter()
        .filter(|(parts, _)| parts.len() == depth + 1)
        .map(|(mut parts, index)| (parts.swap_remove(depth), index))
        .collect())
}

fn check_name(name: &str) -> Result<(), PackageError> {
    let outside =
        name.starts_with('/') || name.contains('\\') || name.contains(':') || name.contains('\0') || name.split('/').any(|p| p == "..");
    if outside { Err(PackageError::UnsafeName { name: name.to_owned() }) } else { Ok(()) }
}

/// Stops with an error when the package's budget is used up.
struct Bounded<'a, R> {
    inner: R,
    left: &'a mut u64,
    over: &'a mut bool,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count as u64 > *self.left {
            *self.over = true;
            return Err(io::Error::other("the package is too large"));
        }
        *self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    fn zip_of(files: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap();
        file
    }

    fn text(package: &mut Package, name: &str) -> Option<String> {
        package
            .read(name, |r| {
                let mut s = String::new();
                r.read_to_string(&mut s).map(|_| s)
            })
            .unwrap()
    }

    #[test]
    fn one_folder_around_the_files_is_looked_through() {
        let file = zip_of(&[
            ("__MACOSX/x/._orgs.csv", b"?"),
            ("export 2026/orgs.csv", b"a"),
            ("export 2026/users.csv", b"b"),
            ("export 2026/old/users.csv", b"c"),
        ]);
        let mut package = Package::open(file.path()).unwrap();
        assert_eq!(text(&mut package, "users.csv").as_deref(), Some("b"));
        assert_eq!(text(&mut package, "classes.csv"), None);
        assert_eq!(package.names().len(), 2);
    }

    #[test]
    fn names_that_climb_out_are_refused() {
        for name in ["../orgs.csv", "a/../../orgs.csv", "/etc/orgs.csv", "a\\..\\orgs.csv", "C:orgs.csv"] {
            let file = zip_of(&[("orgs.csv", b"a"), (name, b"b")]);
            assert!(matches!(Package::open(file.path()), Err(PackageError::UnsafeName { .. })), "{name}");
        }
    }

    #[test]
    fn a_zip_bomb_stops_at_the_budget() {
        let file = zip_of(&[("users.csv", &vec![b'x'; 3 << 20])]);
        assert!(file.as_file().metadata().unwrap().len() < 100_000);
        let mut package = Package::open_bounded(file.path(), 1 << 20).unwrap();
        let read = package.read("users.csv", |r| io::copy(r, &mut io::sink()));
        assert!(matches!(read, Err(PackageError::TooLarge { .. })));
    }

    #[test]
    fn what_is_not_a_zip_is_said_to_be_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"sourcedId,name").unwrap();
        assert!(matches!(Package::open(file.path()), Err(PackageError::NotAZip { .. })));
        assert!(matches!(Package::open(Path::new("no/such.zip")), Err(PackageError::Open { .. })));
    }
}
