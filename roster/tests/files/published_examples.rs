//! The example rows that OneRoster's publications and many importers' test data share: a physics class in "Room 2-B",
//! its teacher John Doe, the student Mary Jones and her father.
//!
//! Provenance: no OneRoster sample set that may be redistributed under this repository's licence was found, and the
//! specification's own text was not at hand. The rows are transcribed as facts, with their odd values (`TRUE`,
//! `Scheduled`, a teacher as a student's agent, references to rows that the examples do not print), and shortened to
//! the columns that are read. What the examples leave out is added below by us and marked so.

use rollcall_roster::roster::{EnrolmentRole, PersonKind};
use rollcall_roster::{LoadError, LoadOptions, load};
use crate::sets::Set;

const MANIFEST: &str = "propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.academicSessions,bulk\nfile.categories,absent\n\
    file.classes,bulk\nfile.classResources,absent\nfile.courses,bulk\nfile.courseResources,absent\nfile.demographics,absent\n\
    file.enrollments,bulk\nfile.lineItems,absent\nfile.orgs,bulk\nfile.resources,absent\nfile.results,absent\nfile.users,bulk\n";

fn examples() -> Set {
    Set::new("1.1", &[
        ("manifest.csv", MANIFEST),
        ("orgs.csv", "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId\n\
            org-sch-222-456,active,2023-05-01T18:25:43.511Z,History Department,department,History,org-sch-222-3456\n"),
        ("academicSessions.csv", "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear\n\
            as-trm-222-1234,active,2023-05-01T18:25:43.511Z,Session Title,term,2022-09-01,2022-12-24,as-syr-222-2023,2023\n"),
        ("courses.csv", "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,subjectCodes\n"),
        ("classes.csv", "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods\n\
            cls-222-123456,active,2023-05-01T18:25:43.511Z,Introduction to Physics,\"09,10,11\",crs-222-2023-456-12345,Phys 100 - 1,Scheduled,Room 2-B,org-sch-222-456,as-trm-222-1234,\"Science, Physics, Biology\",\"PHY123, ASV120\",1\n\
            cls-222-123478,tobedeleted,2023-05-01T18:25:43.511Z,History - 2,10,crs-222-2023-456-23456,2,homeroom,Room 18-C,org-sch-222-456,\"as-trm-222-1234,as-trm-222-1235\",History,HIS123,\"1,2,3\"\n"),
        ("users.csv", "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,agentSourcedIds,grades\n\
            usr-222-123456,active,2023-05-01,TRUE,org-sch-222-456,teacher,john.doe,,John,Doe,,12\n\
            usr-222-66778899,,,TRUE,org-sch-222-456,student,mary.jones,{LDAP:12},Mary,Jones,usr-222-123456,12\n\
            usr-222-1234561,active,2023-05-01,TRUE,org-sch-222-456,parent,thomas.joness,\"{LDAP:12},{LTI:15},{Fed:23}\",Thomas,Jones,usr-222-66778899,10\n"),
        ("enrollments.csv", "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate\n\
            enr-t-222-12345-123456,active,2023-05-01T18:25:43.511Z,cls-222-123456,org-sch-222-456,usr-222-123456,teacher,false,2022-03-15,2022-06-15\n\
            enr-s-222-12345-987654,active,2023-05-01T18:25:43.511Z,cls-222-123456,org-sch-222-456,usr-222-987654,student,false,2022-03-15,2022-06-15\n"),
    ])
}

fn options() -> LoadOptions {
    LoadOptions { default_zone: Some(chrono_tz::America::New_York) }
}

#[test]
fn as_printed_the_examples_refer_to_rows_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    examples().write(dir.path());
    let Err(LoadError::Refused(found)) = load(dir.path(), None, &options()) else { panic!("dangling references are errors") };
    let told: Vec<String> = found.kept().iter().map(|p| format!("{}:{}:{} {}", p.file, p.line, p.column, p.code)).collect();
    for expected in [
        "orgs.csv:2:parentSourcedId unknown_reference",
        "academicSessions.csv:2:parentSourcedId unknown_reference",
        "classes.csv:2:classType wrong_case",
        "classes.csv:2:schoolSourcedId not_a_school",
        "classes.csv:2:courseSourcedId unknown_reference",
        "enrollments.csv:3:userSourcedId unknown_reference",
    ] {
        assert!(told.iter().any(|t| t == expected), "{expected} in {told:?}");
    }
}

#[test]
fn with_the_missing_rows_added_the_examples_are_a_roster() {
    let dir = tempfile::tempdir().unwrap();
    // Ours: the school above the department, the school year, the course, and the enrolled student.
    examples()
        .change("orgs.csv", "org-sch-222-3456\n", "org-sch-222-3456\norg-sch-222-3456,,,Example High School,school,,\n")
        .change("academicSessions.csv", "as-syr-222-2023,2023\n", "as-syr-222-2023,2023\nas-syr-222-2023,,,2022-2023,schoolYear,2022-09-01,2023-06-30,,2023\n")
        .change("courses.csv", "subjectCodes\n", "subjectCodes\ncrs-222-2023-456-12345,,,,Physics 100,,,org-sch-222-456,,\n")
        .change("enrollments.csv", "usr-222-987654", "usr-222-66778899")
        .write(dir.path());
    let roster = load(dir.path(), None, &options()).unwrap().roster;

    assert_eq!(roster.version, "1.1");
    assert_eq!(roster.schools.len(), 1, "a department is not a school");
    let [section] = roster.sections.as_slice() else { panic!("the class to be deleted is left out") };
    assert_eq!((section.title.as_str(), section.room.as_deref(), section.course.as_deref()), ("Introduction to Physics", Some("Room 2-B"), Some("Physics 100")));
    assert_eq!((section.school, section.starts, section.ends), (0, "2022-09-01".parse().ok(), "2022-12-24".parse().ok()));
    let kinds: Vec<_> = roster.people.iter().map(|p| (p.given.as_str(), p.kind, p.grade.as_deref())).collect();
    assert_eq!(kinds, [("John", PersonKind::Staff, None), ("Mary", PersonKind::Student, Some("12")), ("Thomas", PersonKind::Guardian, None)]);
    // The teacher who stands as Mary's agent is no guardian; her father is.
    let guardians: Vec<_> = roster.guardians.iter().map(|g| (g.guardian, g.student, g.relation)).collect();
    assert_eq!(guardians, [(2, 1, "parent")]);
    let roles: Vec<_> = roster.enrolments.iter().map(|e| (e.person, e.role)).collect();
    assert_eq!(roles, [(1, EnrolmentRole::Student), (0, EnrolmentRole::Teacher)]);
}
