//! Every kind of problem, told at its file, line and column; and that nothing is imported with an error.

use crate::sets::{Set, v1_1, v1_2};
use rollcall_roster::{LoadError, LoadOptions, Severity, load};

/// Problems as `file:line:column code`, errors first, each list in the order found.
fn problems(set: &Set) -> (Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    set.write(dir.path());
    let options = LoadOptions { default_zone: Some(chrono_tz::America::Chicago) };
    let (found, refused) = match load(dir.path(), None, &options) {
        Ok(loaded) => (loaded.warnings, false),
        Err(LoadError::Refused(problems)) => (problems, true),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(refused, found.errors() > 0);
    let of = |severity| {
        let fits = found.kept().iter().filter(|p| p.severity == severity);
        fits.map(|p| format!("{}:{}:{} {}", p.file, p.line, p.column, p.code)).collect::<Vec<_>>()
    };
    (of(Severity::Error), of(Severity::Warning))
}

#[test]
fn sound_sets_have_no_problem() {
    for set in [v1_1(), v1_2()] {
        assert_eq!(problems(&set), (vec![], vec![]), "{}", set.version);
    }
}

/// The own sets, and published ones that may not be kept here: `ROLLCALL_TEST_ONEROSTER` names their files or folders,
/// separated as in PATH.
#[test]
fn sample_sets_load() {
    let own = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for set in [v1_1(), v1_2()] {
        let folder = own.path().join(set.version);
        std::fs::create_dir(&folder).unwrap();
        set.write(&folder);
        paths.push(folder);
    }
    paths.extend(std::env::var_os("ROLLCALL_TEST_ONEROSTER").iter().flat_map(std::env::split_paths));
    for path in paths {
        let options = LoadOptions { default_zone: Some(chrono_tz::America::Chicago) };
        let loaded = load(&path, None, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!loaded.roster.schools.is_empty() && !loaded.roster.sections.is_empty(), "{}", path.display());
        assert!(!loaded.roster.enrolments.is_empty(), "{}", path.display());
    }
}

/// What is done to the sound 1.2 set: file, text in it, what stands there instead; and the problem it must give.
type Case = (&'static str, &'static str, &'static str, &'static str);

const ERRORS: &[Case] = &[
    ("manifest.csv", "oneroster.version,1.2", "oneroster.version,2.0", "manifest.csv:3:value unsupported_version"),
    ("manifest.csv", "oneroster.version,1.2\n", "", "manifest.csv:0: bad_manifest"),
    ("manifest.csv", "file.users,bulk", "file.users,delta", "manifest.csv:10:value delta_mode"),
    ("manifest.csv", "file.users,bulk", "file.users,some", "manifest.csv:10:value bad_manifest"),
    ("manifest.csv", "file.orgs,bulk", "file.roles,bulk\nfile.orgs,bulk", "manifest.csv:10:propertyName duplicate_row"),
    ("users.csv", "sourcedId,", "sourcedid,", "users.csv:1:sourcedId missing_column"),
    ("users.csv", ",familyName", "", "users.csv:1:familyName missing_column"),
    ("users.csv", "email", "givenName", "users.csv:1:givenName duplicate_column"),
    ("users.csv", "Ada", "", "users.csv:2:givenName missing_value"),
    ("users.csv", "u-2,", "u-1,", "users.csv:3:sourcedId duplicate_id"),
    ("users.csv", "u-1,,,true", "u-1,,,maybe", "users.csv:2:enabledUser bad_value"),
    ("users.csv", "u-1,,", "u-1,gone,", "users.csv:2:status bad_value"),
    ("users.csv", "u-2,,,true", "u-2,,true", "users.csv:3: wrong_field_count"),
    ("users.csv", "Ada", "A\"da", "users.csv:2:givenName bad_quoting"),
    ("users.csv", "Ada", "\"A\"da", "users.csv:2:givenName bad_quoting"),
    ("users.csv", "Grace,Park", "\"Grace,Park", "users.csv:5:givenName bad_quoting"),
    ("users.csv", "Ada", "A\u{1}da", "users.csv:2:givenName invalid_utf8"),
    ("orgs.csv", "sch,,,North School,school", "sch,,,North School,shool", "orgs.csv:3:type bad_value"),
    ("roles.csv", "r-1,,,u-1", "r-1,,,u-9", "roles.csv:2:userSourcedId unknown_reference"),
    ("roles.csv", "primary,student,,,sch", "primary,student,2026-13-01,,sch", "roles.csv:2:beginDate bad_date"),
    ("academicSessions.csv", "2027-06-10", "10/06/2027", "academicSessions.csv:2:endDate bad_date"),
    ("academicSessions.csv", "2027-06-10", "2026-08-01", "academicSessions.csv:2:endDate empty_interval"),
    ("classes.csv", "c-1,,,Algebra,crs,R 1,sch", "c-1,,,Algebra,crs,R 1,elsewhere", "classes.csv:2:schoolSourcedId unknown_reference"),
    ("classes.csv", "c-1,,,Algebra,crs,R 1,sch", "c-1,,,Algebra,crs,R 1,dst", "classes.csv:2:schoolSourcedId not_a_school"),
    ("classes.csv", "c-1,,,Algebra,crs", "c-1,,,Algebra,crs-9", "classes.csv:2:courseSourcedId unknown_reference"),
    ("classes.csv", "\"term\"", "\"term,term-9\"", "classes.csv:2:termSourcedIds unknown_reference"),
    ("enrollments.csv", "e-1,,,c-1", "e-1,,,c-9", "enrollments.csv:2:classSourcedId unknown_reference"),
    ("enrollments.csv", "u-1,student", "u-1,pupil", "enrollments.csv:2:role bad_value"),
    ("enrollments.csv", "u-1,student,2026-09-01,", "u-1,student,2026-09-01,2026-08-31", "enrollments.csv:2:endDate empty_interval"),
    ("schools.csv", "America/Denver", "America/Nowhere", "schools.csv:2:zone bad_value"),
    ("bells.csv", "08:00,08:50", "08:00,07:50", "bells.csv:2:ends bad_bells"),
    ("bells.csv", "08:00,08:50", "8 am,08:50", "bells.csv:2:starts bad_time"),
    ("bells.csv", "*,Regular,2", "South School,Regular,2", "bells.csv:3:school unknown_reference"),
    ("bells.csv", "*,Regular,2", "*,Regular,1", "bells.csv:3:period duplicate_row"),
    ("calendar.csv", "Mon-Fri,Regular", "Mon-Fri,Regulr", "calendar.csv:2:schedule unknown_schedule"),
    ("calendar.csv", "Mon-Fri,Regular", "Workdays,Regular", "calendar.csv:2:weekdays bad_value"),
    ("calendar.csv", "*,2026-11-26,,", "*,,2026-11-26,", "calendar.csv:3: missing_value"),
    ("calendar.csv", "2026-09-01,2027-06-09", "2026-09-01,2036-06-09", "calendar.csv:2:to empty_interval"),
    ("meetings.csv", "c-1,1", "c-9,1", "meetings.csv:2:class unknown_reference"),
    ("meetings.csv", "c-1,1", "c-1,7", "meetings.csv:2:period unknown_period"),
];

#[test]
fn every_error_is_told_at_its_place() {
    for (file, from, to, expected) in ERRORS {
        let (errors, _) = problems(&v1_2().change(file, from, to));
        assert_eq!(errors.first().map(String::as_str), Some(*expected), "{file}: {from:?} -> {to:?}: {errors:?}");
    }
}

const WARNINGS: &[Case] = &[
    ("users.csv", "email", "shoeSize", "users.csv:1:shoeSize unknown_column"),
    ("users.csv", "u-1,,,true,ada", "u-1,,,TRUE,ada", ""),
    ("users.csv", "\"u-3\"", "\"u-3,u-9\"", "users.csv:2:agentSourcedIds unknown_reference"),
    ("users.csv", "\"u-3\"", "\"u-3,u-2\"", "users.csv:2:agentSourcedIds not_a_guardian"),
    ("orgs.csv", "sch,,,North School,school", "sch,,,North School,School", "orgs.csv:3:type wrong_case"),
    ("orgs.csv", "sch,,,North School,school,,dst", "sch,,,North School,school,,dst-9", "orgs.csv:3:parentSourcedId unknown_reference"),
    ("orgs.csv", ",parentSourcedId\n", ",parentSourcedId,,\n", ""),
    ("classes.csv", "c-2,,", "c-2,tobedeleted,", "enrollments.csv:4:classSourcedId inactive_reference"),
    ("bells.csv", "2,09:00,09:50", "2,08:45,09:35", "bells.csv:3:starts bad_bells"),
    ("classes.csv", ",2,scheduled", ",9,scheduled", "classes.csv:3:periods unknown_period"),
    ("enrollments.csv", "u-1,student,2026-09-01,", "u-1,student,2026-09-01,2026-09-01", "enrollments.csv:2:endDate empty_interval"),
    ("manifest.csv", "file.courses,bulk", "file.courses,absent", "courses.csv:0: unexpected_file"),
];

#[test]
fn what_is_read_leniently_is_warned_of() {
    for (file, from, to, expected) in WARNINGS {
        let (errors, warnings) = problems(&v1_2().change(file, from, to));
        assert_eq!(errors, Vec::<String>::new(), "{file}: {from:?} -> {to:?}");
        assert_eq!(warnings.first().map_or("", String::as_str), *expected, "{file}: {from:?} -> {to:?}: {warnings:?}");
    }
}

/// Published sample sets have classes of a department whose school is not in the package.
#[test]
fn a_department_with_classes_and_no_school_is_taken_as_one() {
    let set = v1_1().change("orgs.csv", "sch,,,North School,school,,dst", "sch,,,North School,school,,dst\ndep,,,Physics,department,,gone");
    let (errors, warnings) = problems(&set.change("classes.csv", "R 2,sch", "R 2,dep"));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(warnings, ["orgs.csv:4:parentSourcedId unknown_reference", "classes.csv:3:schoolSourcedId not_a_school"]);
}

#[test]
fn missing_files_are_named() {
    let errors = |file| problems(&v1_2().without(file)).0;
    assert_eq!(errors("manifest.csv"), ["manifest.csv:0: missing_file"]);
    assert_eq!(errors("enrollments.csv"), ["enrollments.csv:0: missing_file"]);
    assert_eq!(errors("roles.csv")[0], "roles.csv:0: missing_file");
    let warnings = problems(&v1_2().without("bells.csv").without("calendar.csv").without("meetings.csv")).1;
    assert_eq!(warnings, ["bells.csv:0: missing_timetable", "calendar.csv:0: missing_timetable"]);
}

#[test]
fn a_zone_must_come_from_somewhere() {
    let dir = tempfile::tempdir().unwrap();
    v1_1().without("schools.csv").write(dir.path());
    let Err(LoadError::Refused(found)) = load(dir.path(), None, &LoadOptions::default()) else { panic!("no zone, no roster") };
    assert_eq!(
        found.kept()[0].to_string(),
        "schools.csv:zone: school \"North School\" has no time zone; say it in schools.csv, or give a default zone [missing_zone]"
    );
}

#[test]
fn lines_are_physical_and_problems_are_bounded() {
    // A quoted line break before the bad row moves it one line down.
    let set = v1_2().change("users.csv", "Ada", "\"A\nda\"").change("users.csv", "u-2,,,true", "u-2,,,maybe");
    assert_eq!(problems(&set).0, ["users.csv:4:enabledUser bad_value"]);

    let mut rows = String::new();
    (0..1_000).for_each(|n| rows.push_str(&format!("x-{n},,,c-1,u-none,student,,,sch\n")));
    let set = v1_2().change("enrollments.csv", "e-1,", &format!("{rows}e-1,"));
    let dir = tempfile::tempdir().unwrap();
    set.write(dir.path());
    let Err(LoadError::Refused(found)) = load(dir.path(), None, &LoadOptions::default()) else { panic!("refused") };
    assert_eq!((found.kept().len(), found.errors(), found.not_kept()), (200, 1_000, 800));
    assert_eq!(found.kept()[199].line, 201);
}
