//! A synthetic district: invented schools, people and classes, written as a OneRoster 1.2 package with its timetable.
//!
//! It is made as files and not as a [`crate::Roster`], so that demos, tests and benchmarks take the path that a real
//! export takes. The same plan gives the same bytes on every machine. Every day of its calendar is in session, weekends
//! too, so that a demo has a school day whenever it is run; a real calendar would not.

mod bells;
mod names;
mod school;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use chrono::{Days, NaiveDate};
use chrono_tz::Tz;
use rand::SeedableRng;
use rand::rngs::StdRng;
use zip::write::SimpleFileOptions;

pub use bells::DayShape;
use bells::{Ring, clock};
use names::SUBJECTS;

/// Days of the calendar before and after the day of the plan.
const DAYS_BEFORE: u64 = 30;
const DAYS_AFTER: u64 = 150;
/// Days from the day of the plan to its half days: none while a demo runs.
const HALF_DAYS: [i64; 3] = [-10, -3, 11];

/// What district to invent.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    pub seed: u64,
    pub district: String,
    pub schools: usize,
    pub students_per_school: usize,
    /// Students of one section; the last of a grade has fewer.
    pub section_students: usize,
    pub zone: Tz,
    /// A local date around which the calendar is laid.
    pub day: NaiveDate,
    pub shape: DayShape,
}

impl Plan {
    /// A district of one school with three sections' worth of students, on an ordinary day.
    pub fn new(district: impl Into<String>, day: NaiveDate) -> Self {
        Self {
            seed: 1,
            district: district.into(),
            schools: 1,
            students_per_school: 84,
            section_students: 28,
            zone: chrono_tz::America::Chicago,
            day,
            shape: DayShape::Ordinary,
        }
    }
}

/// How many of each a district has; what an import of it must find.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub schools: usize,
    pub students: usize,
    pub staff: usize,
    pub guardians: usize,
    pub guardianships: usize,
    pub sections: usize,
    pub enrolments: usize,
}

/// The files of a district, by name.
pub struct District {
    pub counts: Counts,
    /// The OneRoster package.
    pub package: Vec<(&'static str, Vec<u8>)>,
    /// schools.csv, bells.csv, calendar.csv and meetings.csv.
    pub timetable: Vec<(&'static str, Vec<u8>)>,
}

impl District {
    /// Writes the OneRoster package as a zip file, replacing what is there.
    pub fn write_package(&self, path: &Path) -> io::Result<()> {
        let mut zip = zip::ZipWriter::new(File::create(path)?);
        for (name, content) in &self.package {
            zip.start_file(*name, SimpleFileOptions::default()).map_err(io::Error::other)?;
            zip.write_all(content)?;
        }
        zip.finish().map_err(io::Error::other)?.sync_all()
    }

    /// Writes the timetable files into a folder, which is made if need be.
    pub fn write_timetable(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        self.timetable.iter().try_for_each(|(name, content)| fs::write(folder.join(name), content))
    }
}

/// One CSV file in the making.
struct Sheet(csv::Writer<Vec<u8>>);

impl Sheet {
    fn new(header: &[&str]) -> io::Result<Self> {
        let mut sheet = Self(csv::Writer::from_writer(Vec::new()));
        sheet.row(header)?;
        Ok(sheet)
    }

    fn row(&mut self, fields: &[&str]) -> io::Result<()> {
        self.0.write_record(fields).map_err(io::Error::other)
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        self.0.into_inner().map_err(|e| io::Error::other(e.to_string()))
    }
}

/// The files that schools add rows to.
struct Sheets {
    orgs: Sheet,
    courses: Sheet,
    classes: Sheet,
    users: Sheet,
    roles: Sheet,
    enrollments: Sheet,
    meetings: Sheet,
    counts: Counts,
}

/// Invents the district of a plan.
pub fn generate(plan: &Plan) -> io::Result<District> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let mut sheets = Sheets {
        orgs: Sheet::new(&["sourcedId", "status", "dateLastModified", "name", "type", "identifier", "parentSourcedId"])?,
        courses: Sheet::new(&[
            "sourcedId",
            "status",
            "dateLastModified",
            "schoolYearSourcedId",
            "title",
            "courseCode",
            "grades",
            "orgSourcedId",
            "subjects",
            "subjectCodes",
        ])?,
        classes: Sheet::new(&[
            "sourcedId",
            "status",
            "dateLastModified",
            "title",
            "grades",
            "courseSourcedId",
            "classCode",
            "classType",
            "location",
            "schoolSourcedId",
            "termSourcedIds",
            "subjects",
            "subjectCodes",
            "periods",
        ])?,
        users: Sheet::new(&[
            "sourcedId",
            "status",
            "dateLastModified",
            "enabledUser",
            "username",
            "userIds",
            "givenName",
            "familyName",
            "middleName",
            "identifier",
            "email",
            "sms",
            "phone",
            "agentSourcedIds",
            "grades",
            "password",
            "userMasterIdentifier",
            "preferredGivenName",
            "preferredMiddleName",
            "preferredFamilyName",
            "primaryOrgSourcedId",
            "pronouns",
        ])?,
        roles: Sheet::new(&[
            "sourcedId",
            "status",
            "dateLastModified",
            "userSourcedId",
            "roleType",
            "role",
            "beginDate",
            "endDate",
            "orgSourcedId",
            "userProfileSourcedId",
        ])?,
        enrollments: Sheet::new(&[
            "sourcedId",
            "status",
            "dateLastModified",
            "classSourcedId",
            "schoolSourcedId",
            "userSourcedId",
            "role",
            "primary",
            "beginDate",
            "endDate",
        ])?,
        meetings: Sheet::new(&["class", "period", "weekdays", "cycle", "from", "to"])?,
        counts: Counts::default(),
    };
    sheets.orgs.row(&["district", "", "", &plan.district, "district", "", ""])?;
    for (code, title) in SUBJECTS {
        sheets.courses.row(&[&format!("crs-{code}"), "", "", "year", title, code, "", "district", title, code])?;
    }
    let rings = bells::regular(plan.shape);
    for number in 0..plan.schools {
        school::add(plan, number, &rings, &mut rng, &mut sheets)?;
    }
    let counts = sheets.counts;
    let timetable = vec![
        ("schools.csv", schools(plan)?),
        ("bells.csv", bell_rows(plan, &rings)?),
        ("calendar.csv", calendar(plan)?),
        ("meetings.csv", sheets.meetings.finish()?),
    ];
    let package = vec![
        ("manifest.csv", manifest()?),
        ("orgs.csv", sheets.orgs.finish()?),
        ("academicSessions.csv", sessions(plan)?),
        ("courses.csv", sheets.courses.finish()?),
        ("classes.csv", sheets.classes.finish()?),
        ("users.csv", sheets.users.finish()?),
        ("roles.csv", sheets.roles.finish()?),
        ("enrollments.csv", sheets.enrollments.finish()?),
    ];
    Ok(District { counts, package, timetable })
}

fn manifest() -> io::Result<Vec<u8>> {
    let mut sheet = Sheet::new(&["propertyName", "value"])?;
    sheet.row(&["manifest.version", "1.0"])?;
    sheet.row(&["oneroster.version", "1.2"])?;
    for name in ["academicSessions", "classes", "courses", "enrollments", "orgs", "roles", "users"] {
        sheet.row(&[&format!("file.{name}"), "bulk"])?;
    }
    for name in [
        "categories",
        "classResources",
        "courseResources",
        "demographics",
        "lineItems",
        "resources",
        "results",
        "scoreScales",
        "userProfiles",
    ] {
        sheet.row(&[&format!("file.{name}"), "absent"])?;
    }
    sheet.row(&["source.systemName", "Rollcall synthetic district"])?;
    sheet.finish()
}

/// First and last day of the calendar.
fn year(plan: &Plan) -> (NaiveDate, NaiveDate) {
    let first = plan.day.checked_sub_days(Days::new(DAYS_BEFORE)).unwrap_or(plan.day);
    (first, plan.day.checked_add_days(Days::new(DAYS_AFTER)).unwrap_or(plan.day))
}

fn sessions(plan: &Plan) -> io::Result<Vec<u8>> {
    let (first, last) = year(plan);
    let end = last.succ_opt().unwrap_or(last);
    let mut sheet =
        Sheet::new(&["sourcedId", "status", "dateLastModified", "title", "type", "startDate", "endDate", "parentSourcedId", "schoolYear"])?;
    sheet.row(&["year", "", "", "School year", "schoolYear", &first.to_string(), &end.to_string(), "", &end.format("%Y").to_string()])?;
    sheet.finish()
}

fn schools(plan: &Plan) -> io::Result<Vec<u8>> {
    let mut sheet = Sheet::new(&["school", "zone"])?;
    sheet.row(&["*", plan.zone.name()])?;
    sheet.finish()
}

fn bell_rows(plan: &Plan, regular: &[Ring]) -> io::Result<Vec<u8>> {
    let mut sheet = Sheet::new(&["school", "schedule", "valid_from", "period", "starts", "ends", "instructional"])?;
    let from = year(plan).0.to_string();
    for (schedule, rings) in [("Regular", regular), ("Half day", &bells::half_day(regular))] {
        for r in rings {
            let instructional = if r.instructional { "true" } else { "false" };
            sheet.row(&["*", schedule, &from, &r.period, &clock(r.starts_min), &clock(r.ends_min), instructional])?;
        }
    }
    sheet.finish()
}

fn calendar(plan: &Plan) -> io::Result<Vec<u8>> {
    let (first, last) = year(plan);
    let mut sheet = Sheet::new(&["school", "date", "from", "to", "weekdays", "schedule", "cycle"])?;
    sheet.row(&["*", "", &first.to_string(), &last.to_string(), "Mon-Sun", "Regular", ""])?;
    for days in HALF_DAYS {
        let date = plan.day + chrono::TimeDelta::days(days);
        sheet.row(&["*", &date.to_string(), "", "", "", "Half day", ""])?;
    }
    sheet.finish()
}
