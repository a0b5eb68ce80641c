//! Who asks: what the doors know of a signed-in person or program, and what follows from it for every scan.

use std::collections::BTreeSet;
use std::fmt;

use rollcall_model::ids::{AccountId, DistrictId, PersonId, SchoolId, SectionId};
use rollcall_store::account::Role;

/// The key of a district's pseudonyms and of the noise on its figures. Never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrivacyKey(pub [u8; 32]);

impl fmt::Debug for PrivacyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// On whose behalf a query runs. Doors fill it from the session and the directory at the moment of the query; the
/// engine believes it and nothing that the SQL text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub district: DistrictId,
    pub account: AccountId,
    pub role: Role,
    /// `None`: all schools of the district.
    pub schools: Option<BTreeSet<SchoolId>>,
    /// `None`: all sections of those schools.
    pub sections: Option<BTreeSet<SectionId>>,
    /// `None`: all students of those schools. A teacher's are those of the own sections.
    pub students: Option<BTreeSet<PersonId>>,
    pub privacy: PrivacyKey,
    /// Groups of fewer students than this are not shown to roles without student-level rights.
    pub group_min: u32,
}

/// Fewest students of a group that an analyst sees, unless policy says more.
pub const GROUP_MIN: u32 = 10;

impl Caller {
    /// Whether the role may see figures of single students at all.
    pub fn has_student_rights(&self) -> bool {
        matches!(self.role, Role::Teacher | Role::Office)
    }

    /// Whether the role may ask at all.
    pub fn may_query(&self) -> bool {
        !matches!(self.role, Role::Guardian)
    }
}
