//! manifest.csv: the version, and which files come in which mode.

use std::collections::HashMap;

use super::columns::manifest::{COLUMNS, PROPERTY, VALUE};
use crate::package::{Package, PackageError};
use crate::problem::{Code, Place, Problems, quoted};
use crate::table::scan;

const FILE: &str = "manifest.csv";

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Version {
    V1_1,
    V1_2,
}

impl Version {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

pub(super) struct Manifest {
    pub version: Version,
    bulk: Vec<&'static str>,
}

/// The files that are read, and whether an import makes sense without them.
const READ: [(&str, bool); 7] = [
    ("orgs", true),
    ("users", true),
    ("classes", true),
    ("enrollments", true),
    ("roles", true),
    ("academicSessions", false),
    ("courses", false),
];

impl Manifest {
    /// `None` (reported) when there is no manifest or its version is none that is read.
    pub fn read(package: &mut Package, problems: &mut Problems) -> Result<Option<Self>, PackageError> {
        let mut values: HashMap<String, (String, u64)> = HashMap::new();
        let present = scan(package, FILE, COLUMNS, problems, |row, problems| {
            let property = row.text(PROPERTY).to_owned();
            if values.insert(property.clone(), (row.text(VALUE).to_owned(), row.line)).is_some() {
                problems.error(row.place(PROPERTY), Code::DuplicateRow, format!("{} stands twice", quoted(&property)));
            }
        })?;
        if !present {
            let hint = match package.names().into_iter().find(|name| name.eq_ignore_ascii_case(FILE)) {
                Some(other) => format!("; {} differs in case, which matters", quoted(other)),
                None => String::new(),
            };
            problems.error(
                Place::file(FILE),
                Code::MissingFile,
                format!("the package has no manifest.csv at its top{hint}; is it a OneRoster CSV export?"),
            );
            return Ok(None);
        }
        let Some(version) = version(&values, problems) else { return Ok(None) };
        let mut bulk = Vec::new();
        for (name, needed) in READ {
            let needed = needed && (name != "roles" || version == Version::V1_2);
            let known = name != "roles" || version == Version::V1_2;
            if known && mode(name, needed, &values, package, problems) {
                bulk.push(name);
            }
        }
        Ok(Some(Self { version, bulk }))
    }

    /// Whether the file is there to be read.
    pub fn has(&self, name: &str) -> bool {
        self.bulk.contains(&name)
    }
}

fn version(values: &HashMap<String, (String, u64)>, problems: &mut Problems) -> Option<Version> {
    match values.get("oneroster.version") {
        None => {
            problems.error(Place::file(FILE), Code::BadManifest, "the manifest does not say oneroster.version");
            None
        }
        Some((text, line)) => match text.as_str() {
            "1.1" => Some(Version::V1_1),
            "1.2" => Some(Version::V1_2),
            other => {
                let place = Place { file: FILE, line: *line, column: "value" };
                problems.error(
                    place,
                    Code::UnsupportedVersion,
                    format!("OneRoster version {} is not read; export 1.1 or 1.2", quoted(other)),
                );
                None
            }
        },
    }
}

/// Whether a file is announced and there; everything else about it is reported.
fn mode(name: &str, needed: bool, values: &HashMap<String, (String, u64)>, package: &Package, problems: &mut Problems) -> bool {
    let file = format!("{name}.csv");
    let there = package.contains(&file);
    let Some((text, line)) = values.get(&format!("file.{name}")) else {
        if there {
            problems.warn(Place::file(&file), Code::UnexpectedFile, format!("the manifest does not mention {file}; it was read as bulk"));
        } else {
            missing(&file, needed, problems);
        }
        return there;
    };
    let place = Place { file: FILE, line: *line, column: "value" };
    match text.to_ascii_lowercase().as_str() {
        "bulk" if there => true,
        "bulk" => {
            problems.error(
                Place::file(&file),
                Code::MissingFile,
                format!("the manifest announces {file}, but the package does not have it"),
            );
            false
        }
        "delta" => {
            problems.error(
                place,
                Code::DeltaMode,
                format!("{file} is a delta (changes only); Rollcall imports complete (bulk) exports: choose bulk in the exporting system"),
            );
            false
        }
        "absent" | "" => {
            if there {
                problems.warn(
                    Place::file(&file),
                    Code::UnexpectedFile,
                    format!("the manifest says that {file} is absent, so it was not read"),
                );
            }
            missing(&file, needed, problems);
            false
        }
        other => {
            problems.error(place, Code::BadManifest, format!("{} is not a mode; bulk, delta or absent is", quoted(other)));
            false
        }
    }
}

fn missing(file: &str, needed: bool, problems: &mut Problems) {
    if needed {
        problems.error(Place::file(file), Code::MissingFile, format!("{file} is missing; without it there is no roster"));
    } else {
        let lost = if file == "courses.csv" { "classes have no course titles" } else { "classes have no dates" };
        problems.warn(Place::file(file), Code::MissingFile, format!("{file} is not in the package; {lost}"));
    }
}
