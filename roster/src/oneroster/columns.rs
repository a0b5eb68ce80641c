//! The columns of the OneRoster CSV binding that exist, which of them must be filled, and the words they may hold.
//!
//! `status` and `dateLastModified` are blank in bulk files by the standard, and often are not; their content does not
//! change what a bulk import means, except that a row with a status other than active is not imported.

use crate::table::Kind::{Bool, Date, Enum, OpenEnum, Text};
use crate::table::{Column, filled, optional};

/// `inactive` is OneRoster 1.0's word, which exports still write.
const STATUS: Column = optional("status", Enum(&["active", "tobedeleted", "inactive"]));
const MODIFIED: Column = optional("dateLastModified", Text);
const ID: Column = filled("sourcedId", Text);

/// Every table starts with these.
pub const SOURCED_ID: usize = 0;
pub const STATUS_AT: usize = 1;

pub mod manifest {
    use super::*;
    pub const PROPERTY: usize = 0;
    pub const VALUE: usize = 1;
    pub const COLUMNS: &[Column] = &[filled("propertyName", Text), Column { name: "value", need: crate::table::Need::Column, kind: Text }];
}

pub mod orgs {
    use super::*;
    pub const NAME: usize = 3;
    pub const TYPE: usize = 4;
    pub const PARENT: usize = 6;
    pub const COLUMNS: &[Column] = &[
        ID,
        STATUS,
        MODIFIED,
        filled("name", Text),
        filled("type", OpenEnum(&["department", "school", "district", "local", "state", "national"])),
        optional("identifier", Text),
        optional("parentSourcedId", Text),
    ];
}

pub mod sessions {
    use super::*;
    pub const STARTS: usize = 5;
    pub const ENDS: usize = 6;
    pub const PARENT: usize = 7;
    pub const COLUMNS: &[Column] = &[
        ID,
        STATUS,
        MODIFIED,
        filled("title", Text),
        filled("type", OpenEnum(&["gradingPeriod", "semester", "schoolYear", "term"])),
        filled("startDate", Date),
        filled("endDate", Date),
        optional("parentSourcedId", Text),
        optional("schoolYear", Text),
    ];
}

pub mod courses {
    use super::*;
    pub const TITLE: usize = 3;
    pub const COLUMNS: &[Column] = &[
        ID,
        STATUS,
        MODIFIED,
        filled("title", Text),
        optional("schoolYearSourcedId", Text),
        optional("courseCode", Text),
        optional("grades", Text),
        optional("orgSourcedId", Text),
        optional("subjects", Text),
        optional("subjectCodes", Text),
        optional("resources", Text),
    ];
}

pub mod classes {
    use super::*;
    pub const TITLE: usize = 3;
    pub const COURSE: usize = 4;
    pub const LOCATION: usize = 5;
    pub const SCHOOL: usize = 6;
    pub const TERMS: usize = 7;
    pub const PERIODS: usize = 8;
    pub const COLUMNS: &[Column] = &[
        ID,
        STATUS,
        MODIFIED,
        filled("title", Text),
        filled("courseSourcedId", Text),
        optional("location", Text),
        filled("schoolSourcedId", Text),
        filled("termSourcedIds", Text),
        optional("periods", Text),
        filled("classType", OpenEnum(&["homeroom", "scheduled"])),
        optional("classCode", Text),
        optional("grades", Text),
        optional("subjects", Text),
        optional("subjectCodes", Text),
        optional("resources", Text),
    ];
}

/// The roles of both versions. OneRoster 1.1 knows fewer, but exports that call themselves 1.1 use the newer ones.
const USER_ROLES: &[&str] = &[
    "administrator",
    "aide",
    "counselor",
    "districtAdministrator",
    "guardian",
    "parent",
    "principal",
    "proctor",
    "relative",
    "siteAdministrator",
    "student",
    "systemAdministrator",
    "teacher",
];

pub mod users {
    use super::*;
    pub const GIVEN: usize = 3;
    pub const FAMILY: usize = 4;
    pub const EMAIL: usize = 5;
    pub const SMS: usize = 6;
    pub const PHONE: usize = 7;
    pub const AGENTS: usize = 8;
    pub const GRADES: usize = 9;
    pub const PREFERRED_GIVEN: usize = 10;
    pub const PREFERRED_FAMILY: usize = 11;
    /// OneRoster 1.1 only.
    pub const ORGS: usize = 18;
    pub const ROLE: usize = 19;

    /// The password column is known so that it gives no warning; it is never read.
    macro_rules! columns {
        ($($more:expr),*) => {
            &[
                ID, STATUS, MODIFIED, filled("givenName", Text), filled("familyName", Text), optional("email", Text), optional("sms", Text),
                optional("phone", Text), optional("agentSourcedIds", Text), optional("grades", Text), optional("preferredGivenName", Text),
                optional("preferredFamilyName", Text), filled("enabledUser", Bool), filled("username", Text), optional("userIds", Text),
                optional("middleName", Text), optional("identifier", Text), optional("password", Text), $($more),*
            ]
        };
    }
    pub const COLUMNS_1_1: &[Column] = columns![
        filled("orgSourcedIds", Text),
        filled("role", OpenEnum(USER_ROLES)),
        optional("userMasterIdentifier", Text),
        optional("resourceSourcedIds", Text)
    ];
    pub const COLUMNS_1_2: &[Column] = columns![
        optional("userMasterIdentifier", Text),
        optional("resourceSourcedIds", Text),
        optional("preferredMiddleName", Text),
        optional("primaryOrgSourcedId", Text),
        optional("pronouns", Text)
    ];
}

pub mod roles {
    use super::*;
    pub const USER: usize = 3;
    pub const ROLE: usize = 4;
    pub const STARTS: usize = 5;
    pub const ENDS: usize = 6;
    pub const ORG: usize = 7;
    pub const COLUMNS: &[Column] = &[
        ID,
        STATUS,
        MODIFIED,
        filled("userSourcedId", Text),
        filled("role", OpenEnum(USER_ROLES)),
        optional("beginDate", Date),
        optional("endDate", Date),
        filled("orgSourcedId", Text),
        filled("roleType", Enum(&["primary", "secondary"])),
        optional("userProfileSourcedId", Text),
    ];
}

pub mod enrollments {
    use super::*;
    pub const CLASS: usize = 3;
    pub const USER: usize = 4;
    pub const ROLE: usize = 5;
    pub const STARTS: usize = 6;
    pub const ENDS: usize = 7;
    pub const SCHOOL: usize = 8;
    pub const COLUMNS: &[Column] = &[
        ID,
        STATUS,
        MODIFIED,
        filled("classSourcedId", Text),
        filled("userSourcedId", Text),
        filled("role", OpenEnum(&["administrator", "aide", "proctor", "student", "teacher"])),
        optional("beginDate", Date),
        optional("endDate", Date),
        filled("schoolSourcedId", Text),
        optional("primary", Bool),
    ];
}
