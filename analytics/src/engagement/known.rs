//! One calculated window: its value, whether it has settled, and what of it is in history.

use rollcall_model::ids::Offset;

use super::calculate::WindowValue;
use super::seam::StudentRecord;

/// The offset of rows that are known to be in history, or before a window that holds the log already.
pub(super) const ALREADY_HELD: Offset = Offset(u64::MAX);

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub value: WindowValue,
    /// The watermark has passed; what changes it from now on is a correction.
    pub is_settled: bool,
    /// How often the value changed after it had been published as settled.
    pub corrections: u32,
    /// Present students with data; only of a settled window.
    pub students: Vec<StudentRecord>,
    /// Counts the calculations that brought something new.
    pub version: u64,
    /// The version that is in history.
    pub saved: Option<u64>,
    /// The first row of the log that is not in history with this window.
    pub unsaved_from: Option<Offset>,
    /// The value was calculated when the window had settled.
    is_final: bool,
}

impl Known {
    /// Takes the outcome of a calculation; `students` only for a settled window, `offset` the first row that asked for it.
    pub fn take(&mut self, value: &WindowValue, students: Option<Vec<StudentRecord>>, offset: Option<Offset>) {
        let changed = self.value != *value;
        let students_changed = students.as_ref().is_some_and(|students| *students != self.students);
        self.corrections += u32::from(self.is_final && changed);
        let first_final = self.is_settled && !self.is_final;
        self.is_final = self.is_settled;
        if self.saved == Some(self.version) && !changed && !students_changed && !first_final {
            // History has it as it is, with what touched it now.
            return;
        }
        self.value = value.clone();
        if let Some(students) = students {
            self.students = students;
        }
        self.version += 1;
        let offset = offset.filter(|offset| *offset != ALREADY_HELD);
        self.unsaved_from = [self.unsaved_from, offset].into_iter().flatten().min();
    }
}
