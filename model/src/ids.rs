//! Newtypes for every identifier, so that a person can never be passed where a device is asked for.
//!
//! All are UUIDs: random (v4) for what must not be guessable or sortable, derived (v5) for what an import names
//! by its `sourcedId`, so that the same roster imported twice yields the same ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The sixteen bytes as they stand in Arrow columns and on the wire to the database.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(/** The tenant. */ DistrictId);
id!(/** A school of a district. */ SchoolId);
id!(/** A class that meets. */ SectionId);
id!(/** A student, staff member or guardian; a pseudonym. */ PersonId);
id!(/** One period of a school's bell schedule ("Period 1"), the same id on every day and in every schedule. */ PeriodId);
id!(/** A registered gate, room scanner, tablet, wearable or gateway. */ DeviceId);
id!(/** The record of a badge; never the badge's secret token. */ BadgeId);
id!(/** A sign-in. */ AccountId);
id!(/** One human statement about one student. */ MarkId);
id!(/** A saved question of the analyst's desk. */ SavedQueryId);
id!(/** A schedule by which a saved question is exported. */ ExportId);

/// Position of one row in the log: counts rows of all kinds from 0, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
