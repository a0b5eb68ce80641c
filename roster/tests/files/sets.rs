//! Two small sound sets, one of each version, that tests change.

use std::fs;
use std::path::Path;

pub struct Set {
    pub version: &'static str,
    files: Vec<(&'static str, String)>,
}

impl Set {
    pub fn new(version: &'static str, files: &[(&'static str, &str)]) -> Self {
        Self { version, files: files.iter().map(|(name, text)| (*name, (*text).to_owned())).collect() }
    }

    /// Replaces the first `from` of a file, which must be there.
    pub fn change(mut self, file: &str, from: &str, to: &str) -> Self {
        let (_, text) = self.files.iter_mut().find(|(name, _)| *name == file).expect("a file of the set");
        assert!(text.contains(from), "{file} has no {from:?}");
        *text = text.replacen(from, to, 1);
        self
    }

    pub fn without(mut self, file: &str) -> Self {
        self.files.retain(|(name, _)| *name != file);
        self
    }

    /// Writes the files; U+0001 stands for a byte that is not UTF-8.
    pub fn write(&self, folder: &Path) {
        for (name, text) in &self.files {
            let bytes: Vec<u8> = text.bytes().map(|byte| if byte == 1 { 0xe9 } else { byte }).collect();
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

const ORGS: &str = "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId\n\
    dst,,,Test District,district,,\nsch,,,North School,school,,dst\n";
const SESSIONS: &str = "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear\n\
    term,,,Year,schoolYear,2026-09-01,2027-06-10,,2027\n";
const COURSES: &str = "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,subjectCodes\n\
    crs,,,term,Mathematics,MAT,09,dst,,\n";
const CLASSES: &str = "sourcedId,status,dateLastModified,title,courseSourcedId,location,schoolSourcedId,termSourcedIds,periods,classType\n\
    c-1,,,Algebra,crs,R 1,sch,\"term\",1,scheduled\nc-2,,,Geometry,crs,R 2,sch,term,2,scheduled\n";
const ENROLLMENTS: &str = "sourcedId,status,dateLastModified,classSourcedId,userSourcedId,role,beginDate,endDate,schoolSourcedId\n\
    e-1,,,c-1,u-1,student,2026-09-01,,sch\ne-2,,,c-1,u-2,teacher,,,sch\ne-3,,,c-2,u-1,student,,,sch\n";
const SCHOOLS: &str = "school,zone\nNorth School,America/Denver\n";
const BELLS: &str = "school,schedule,period,starts,ends,valid_from,instructional\n*,Regular,1,08:00,08:50,,\n*,Regular,2,09:00,09:50,,\n";
const CALENDAR: &str = "school,date,from,to,weekdays,schedule,cycle\n*,,2026-09-01,2027-06-09,Mon-Fri,Regular,\n*,2026-11-26,,,,,\n";
const MEETINGS: &str = "class,period,weekdays,cycle,from,to\nc-1,1,Mon-Fri,,,\n";

pub fn v1_1() -> Set {
    Set::new(
        "1.1",
        &[
            (
                "manifest.csv",
                "propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.academicSessions,bulk\nfile.classes,bulk\n\
            file.courses,bulk\nfile.enrollments,bulk\nfile.orgs,bulk\nfile.users,bulk\nfile.demographics,absent\n",
            ),
            ("orgs.csv", ORGS),
            ("academicSessions.csv", SESSIONS),
            ("courses.csv", COURSES),
            ("classes.csv", CLASSES),
            (
                "users.csv",
                "sourcedId,status,dateLastModified,enabledUser,username,givenName,familyName,email,agentSourcedIds,grades,orgSourcedIds,role\n\
            u-1,,,true,ada,Ada,Park,ada@example.org,\"u-3\",09,sch,student\nu-2,,,true,ben,Ben,Sato,,,,sch,teacher\n\
            u-3,,,true,eva,Eva,Park,,u-1,,sch,parent\n",
            ),
            ("enrollments.csv", ENROLLMENTS),
            ("schools.csv", SCHOOLS),
            ("bells.csv", BELLS),
            ("calendar.csv", CALENDAR),
            ("meetings.csv", MEETINGS),
        ],
    )
}

pub fn v1_2() -> Set {
    Set::new(
        "1.2",
        &[
            (
                "manifest.csv",
                "propertyName,value\nmanifest.version,1.0\noneroster.version,1.2\nfile.academicSessions,bulk\nfile.classes,bulk\n\
            file.courses,bulk\nfile.enrollments,bulk\nfile.orgs,bulk\nfile.roles,bulk\nfile.users,bulk\n",
            ),
            ("orgs.csv", ORGS),
            ("academicSessions.csv", SESSIONS),
            ("courses.csv", COURSES),
            ("classes.csv", CLASSES),
            (
                "users.csv",
                "sourcedId,status,dateLastModified,enabledUser,username,givenName,familyName,email,agentSourcedIds,grades\n\
            u-1,,,true,ada,Ada,Park,ada@example.org,\"u-3\",09\nu-2,,,true,ben,Ben,Sato,,,\nu-3,,,true,eva,Eva,Park,,,\n\
            u-4,,,true,gpa,Grace,Park,,,\n",
            ),
            (
                "roles.csv",
                "sourcedId,status,dateLastModified,userSourcedId,roleType,role,beginDate,endDate,orgSourcedId\n\
            r-1,,,u-1,primary,student,,,sch\nr-2,,,u-2,primary,teacher,,,sch\nr-3,,,u-3,primary,parent,,,sch\nr-4,,,u-4,primary,teacher,,,sch\n\
            r-5,,,u-4,secondary,relative,,,sch\n",
            ),
            ("enrollments.csv", ENROLLMENTS),
            ("schools.csv", SCHOOLS),
            ("bells.csv", BELLS),
            ("calendar.csv", CALENDAR),
            ("meetings.csv", MEETINGS),
        ],
    )
}
