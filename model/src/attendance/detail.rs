//! The explanation that travels with a status: what is stored with it, published live and answered by the API.

use serde::{Deserialize, Serialize};

use super::conclude::Seen;
use super::day::{Scan, StudentDay};
use super::presence::Steps;
use super::{Behind, Conclusion, Coverage, Flags, Window};
use crate::event::Direction;
use crate::ids::{AccountId, DeviceId, MarkId, Offset};
use crate::policy::AttendancePolicy;
use crate::status::{Authority, Mark, MarkStatus, Rule};
use crate::time::UtcMillis;

/// Most scans that one explanation lists: the arrival and the newest others.
pub const DECIDING_EVIDENCE_MAX: usize = 8;

/// The JSON in `attendance_status.detail`, in live topics and in the API. Instants are RFC 3339. Fields are only ever
/// added: old rows are read for ever.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusDetail {
    /// The scans that decided, in order of event time; at most [`DECIDING_EVIDENCE_MAX`].
    pub evidence: Vec<EvidenceDetail>,
    /// The mark that decided.
    pub mark: Option<MarkDetail>,
    /// The devices whose missing evidence matters, when the status is unknown because of them.
    pub behind: Vec<Behind>,
    pub flags: Flags,
    pub present_min: u32,
    pub scheduled_min: u32,
    /// Of a day that was over: the half-days that are lacking by the thresholds of its policy, in exact milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent_half_days: Option<u32>,
    /// The window, so that a sentence can be made of a stored row.
    #[serde(with = "crate::time::rfc3339::option")]
    pub starts: Option<UtcMillis>,
    #[serde(with = "crate::time::rfc3339::option")]
    pub ends: Option<UtcMillis>,
    /// By evidence, also where a mark decided otherwise.
    #[serde(with = "crate::time::rfc3339::option")]
    pub arrival: Option<UtcMillis>,
    #[serde(with = "crate::time::rfc3339::option")]
    pub departure: Option<UtcMillis>,
    /// The thresholds that were applied.
    pub grace_min: u32,
    pub tardy_cutoff_min: u32,
}

/// One scan of the explanation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EvidenceDetail {
    pub device: DeviceId,
    pub seq: u64,
    #[serde(with = "crate::time::rfc3339")]
    pub ts: UtcMillis,
    #[serde(with = "crate::time::rfc3339")]
    pub received: UtcMillis,
    /// As the device said it; `auto` toggled.
    pub dir: Direction,
    pub offline: bool,
    pub offset: Offset,
}

/// The mark of the explanation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MarkDetail {
    pub id: MarkId,
    pub status: MarkStatus,
    pub authority: Authority,
    pub author: AccountId,
    pub reason: Option<String>,
    #[serde(with = "crate::time::rfc3339")]
    pub recorded: UtcMillis,
    #[serde(with = "crate::time::rfc3339::option")]
    pub at: Option<UtcMillis>,
}

impl StudentDay {
    /// Explains a conclusion that this day has just drawn for this window, policy and coverage.
    pub fn detail(&self, conclusion: &Conclusion, window: &Window<'_>, policy: &AttendancePolicy, coverage: &Coverage) -> StatusDetail {
        let deciding = self.marks().find(|mark| Some(mark.id) == conclusion.mark);
        let behind = if conclusion.rule == Rule::GateBehind { coverage.behind.clone() } else { Vec::new() };
        StatusDetail {
            evidence: self.deciding_evidence(window, policy),
            mark: deciding.map(MarkDetail::from),
            behind,
            flags: conclusion.flags,
            present_min: conclusion.present_min(),
            scheduled_min: conclusion.scheduled_min(),
            absent_half_days: conclusion.day_over.then(|| crate::reports::absent_half_days(conclusion, policy)),
            starts: Some(window.span().starts),
            ends: Some(window.span().ends),
            arrival: conclusion.arrival,
            departure: conclusion.departure,
            grace_min: policy.grace_min,
            tardy_cutoff_min: policy.tardy_cutoff_min,
        }
    }

    /// The scans from the arrival to the last exit of the window, or the exit before it; repetitions left out.
    fn deciding_evidence(&self, window: &Window<'_>, policy: &AttendancePolicy) -> Vec<EvidenceDetail> {
        let seen = Seen::of(self, window, policy);
        let (Some(first), Some(last)) = (seen.arrival.or(seen.before), seen.last.or(seen.before)) else {
            return Vec::new();
        };
        let places = first.opened_by..=last.closed_by.unwrap_or(usize::MAX);
        let mut evidence: Vec<EvidenceDetail> = Steps::new(&self.scans, policy)
            .filter(|step| places.contains(&step.scan))
            .map(|step| EvidenceDetail::from(&self.scans[step.scan]))
            .collect();
        if evidence.len() > DECIDING_EVIDENCE_MAX {
            evidence.drain(1..=evidence.len() - DECIDING_EVIDENCE_MAX);
        }
        evidence
    }
}

impl From<&Scan> for EvidenceDetail {
    fn from(scan: &Scan) -> Self {
        Self {
            device: scan.device,
            seq: scan.seq,
            ts: scan.ts,
            received: scan.received,
            dir: scan.direction,
            offline: scan.offline,
            offset: scan.offset,
        }
    }
}

impl From<&Mark> for MarkDetail {
    fn from(mark: &Mark) -> Self {
        Self {
            id: mark.id,
            status: mark.status,
            authority: mark.authority,
            author: mark.author,
            reason: mark.reason.clone(),
            recorded: mark.recorded,
            at: mark.at,
        }
    }
}
