//! Generated histories against a plain vector.
//!
//! A crash kills the process and takes from the last segment what the disk had not confirmed: the file is cut at, or
//! overwritten from, an arbitrary place behind its last fsync. What was seen durable must be there afterwards, and
//! what is there must be a beginning of what was appended.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use prometheus::Registry;
use proptest::prelude::*;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;

use super::faults::FaultyDisk;
use super::{batch, config, rows, segment_files, wait_durable};
use crate::embedded::{EmbeddedLog, LogConfig};
use crate::{KindSet, Log, LogError};

#[derive(Clone, Debug)]
enum Step {
    Append { rows: Vec<(bool, u64)>, wait: bool },
    Read { from: u64, scans_only: bool },
    Commit { rows: u64 },
    Crash { keep: u64, garbage: bool },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let batches = || prop::collection::vec((any::<bool>(), 1..60_u64), 1..4);
    prop_oneof![
        6 => (batches(), any::<bool>()).prop_map(|(rows, wait)| Step::Append { rows, wait }),
        2 => (0..2_000_u64, any::<bool>()).prop_map(|(from, scans_only)| Step::Read { from, scans_only }),
        1 => (0..1_000_u64).prop_map(|rows| Step::Commit { rows }),
        1 => (0..20_000_u64, any::<bool>()).prop_map(|(keep, garbage)| Step::Crash { keep, garbage }),
        1 => Just(Step::Reopen),
    ]
}

struct Run {
    dir: tempfile::TempDir,
    disk: FaultyDisk,
    log: Option<Arc<EmbeddedLog>>,
    /// Every row appended: the naive log.
    expected: Vec<(Kind, u64)>,
    seq: u64,
    committed: u64,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Self { dir, disk: FaultyDisk::default(), log: None, expected: Vec::new(), seq: 0, committed: 0 };
        run.open();
        run
    }

    fn open(&mut self) {
        self.disk = FaultyDisk::default();
        let limits = LogConfig { segment_bytes_max: 16_000, cache_bytes_max: 10_000, ..config() };
        let disk = Arc::new(self.disk.clone());
        let log = EmbeddedLog::open_on(disk, self.dir.path(), limits, &Registry::new()).unwrap();
        log.register("sink", Offset(self.committed));
        self.log = Some(log);
    }

    fn log(&self) -> &EmbeddedLog {
        self.log.as_ref().unwrap()
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append { rows, wait } => self.append(rows, *wait),
            Step::Read { from, scans_only } => self.read(*from, *scans_only),
            Step::Commit { rows } => {
                let durable = self.log().durable().borrow().0;
                self.committed = (self.committed + rows).min(durable);
                self.log().commit("sink", Offset(self.committed));
            }
            Step::Crash { keep, garbage } => self.crash(*keep, *garbage),
            Step::Reopen => {
                self.log().close();
                assert_eq!(self.log().durable().borrow().0, self.expected.len() as u64);
                self.log = None;
                self.open();
                assert_eq!(self.log().torn_bytes(), 0);
            }
        }
        assert_eq!(self.log().end().0, self.expected.len() as u64);
    }

    fn append(&mut self, sizes: &[(bool, u64)], wait: bool) {
        let mut batches = Vec::new();
        for (scan, rows) in sizes {
            let kind = if *scan { Kind::Scan } else { Kind::Status };
            batches.push(batch(kind, self.seq..self.seq + rows));
            self.expected.extend((self.seq..self.seq + rows).map(|seq| (kind, seq)));
            self.seq += rows;
        }
        let end = self.log().append(batches).unwrap();
        if wait {
            assert!(wait_durable(self.log(), end));
        }
    }

    fn read(&self, from: u64, scans_only: bool) {
        let from = from.min(self.expected.len() as u64);
        let kinds = if scans_only { KindSet::of(&[Kind::Scan]) } else { KindSet::ALL };
        let oldest = self.log().oldest();
        if Offset(from) < oldest {
            assert!(matches!(self.log().read(Offset(from), 1), Err(LogError::Trimmed { .. })));
            return;
        }
        let got = rows(self.log(), Offset(from), kinds).unwrap();
        let naive = self.expected.iter().zip(0..).skip(from as usize).filter(|((kind, _), _)| kinds.contains(*kind));
        let naive: Vec<_> = naive.map(|((kind, seq), offset)| (offset, *kind, *seq)).take(got.len()).collect();
        assert_eq!(got, naive);
    }

    fn crash(&mut self, keep: u64, garbage: bool) {
        self.disk.0.lock().dead = true;
        self.log().close();
        let confirmed = self.log().durable().borrow().0;
        self.log = None;
        let path = segment_files(self.dir.path()).pop().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        let lost_from = (self.disk.synced_bytes(&path) + keep).clamp(64, length.max(64));
        // A segment's header is durable before anything is written behind it, so a file that the crash left without one
        // has nothing behind it either.
        let mut header = [0; 8];
        let begun = file.metadata().unwrap().len() >= 64 && {
            File::open(&path).unwrap().read_exact_at(&mut header, 0).unwrap();
            header != [0; 8]
        };
        if garbage && begun {
            let bytes: Vec<u8> = (lost_from..length).map(|at| (at * 31 % 251) as u8).collect();
            file.write_all_at(&bytes, lost_from).unwrap();
        } else {
            file.set_len(lost_from).unwrap();
        }
        self.open();
        let end = self.log().end().0;
        assert!(end >= confirmed, "durable rows are lost: {end} < {confirmed}");
        self.expected.truncate(end as usize);
        self.read(self.log().oldest().0, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_vector(steps in prop::collection::vec(step(), 1..25)) {
        let mut run = Run::new();
        for step in &steps {
            run.apply(step);
        }
        run.read(run.log().oldest().0, false);
    }
}
