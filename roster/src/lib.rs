//! Rosters from files: OneRoster CSV packages with a timetable beside them, and synthetic districts made as such files.
//!
//! [`load`] reads a package and its timetable, collects every problem with file, line and column, and gives either a
//! complete [`Roster`] or none at all. Nothing here knows a database, and nothing is written but what
//! [`synthetic`] is asked to write.

pub mod oneroster;
pub mod package;
pub mod problem;
mod records;
pub mod roster;
mod span;
pub mod synthetic;
mod table;
pub mod timetable;

use std::path::Path;

use chrono_tz::Tz;

pub use package::{Package, PackageError};
pub use problem::{Code, Problem, Problems, Severity};
pub use roster::Roster;

/// What the caller knows and the files may not say.
#[derive(Clone, Copy, Default, Debug)]
pub struct LoadOptions {
    /// Zone of schools that the timetable gives none.
    pub default_zone: Option<Tz>,
}

/// A roster without errors, and what was read leniently or left out on the way.
#[derive(Debug)]
pub struct Loaded {
    pub roster: Roster,
    pub warnings: Problems,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The package cannot be read at all.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It was read, and has errors; nothing of it may be imported.
    #[error("the roster has {} errors; nothing was imported", .0.errors())]
    Refused(Problems),
}

/// Reads a OneRoster package (a zip or a folder) and the timetable: the folder `timetable` if given, else the
/// timetable files inside the package, if any. The timetable is checked once the package is without errors.
pub fn load(package: &Path, timetable: Option<&Path>, options: &LoadOptions) -> Result<Loaded, LoadError> {
    load_package(Package::open(package)?, timetable.map(Package::open).transpose()?, options)
}

/// The same of packages that are open already.
pub fn load_package(mut opened: Package, timetable: Option<Package>, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let mut problems = Problems::default();
    let provisional = options.default_zone.unwrap_or(Tz::UTC);
    let roster = oneroster::read(&mut opened, provisional, &mut problems)?;
    let Some(mut roster) = roster else { return Err(LoadError::Refused(problems)) };
    // The timetable refers to schools and classes; checked against half a roster it would only repeat its problems.
    if problems.errors() > 0 {
        return Err(LoadError::Refused(problems));
    }
    match timetable {
        Some(mut timetable) => timetable::read(&mut timetable, &mut roster, options.default_zone, &mut problems)?,
        None => timetable::read(&mut opened, &mut roster, options.default_zone, &mut problems)?,
    }
    if problems.errors() > 0 { Err(LoadError::Refused(problems)) } else { Ok(Loaded { roster, warnings: problems }) }
}
