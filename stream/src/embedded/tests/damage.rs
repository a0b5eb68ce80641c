//! What a file may look like at open, and what each look means.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rollcall_model::ids::Offset;

use super::{append, assert_scans, config, open, scans, segment_files};
use crate::embedded::LogConfig;
use crate::{Log, LogError};

/// A log with `groups` of ten rows, each written by itself, in one segment or in several. Returns where each begins.
fn written(dir: &Path, groups: u64, config: LogConfig) -> Vec<u64> {
    let log = open(dir, config).unwrap();
    let mut positions = Vec::new();
    for group in 0..groups {
        positions.push(log.shared.segments.last().durable_bytes());
        append(&log, scans(group * 10..group * 10 + 10));
    }
    log.close();
    positions
}

fn edit(path: &Path, position: u64, change: impl Fn(u8) -> u8) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[change(byte[0])], position).unwrap();
}

fn cut(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes_max: 2_048, ..config() }
}

fn corrupt_at(result: Result<impl Sized, LogError>, file: &Path) -> u64 {
    match result {
        Err(LogError::Corrupt { path, position, .. }) => {
            assert_eq!(path, file.display().to_string());
            position
        }
        Err(other) => panic!("not corrupt but: {other}"),
        Ok(_) => panic!("damage was not noticed"),
    }
}

#[test]
fn reopening_keeps_every_row_and_goes_on_numbering() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, config());
    let log = open(dir.path(), config()).unwrap();
    assert_eq!((log.end(), *log.durable().borrow(), log.torn_bytes()), (Offset(30), Offset(30), 0));
    append(&log, scans(30..40));
    assert_scans(&log, 0, 40);
}

#[test]
fn a_torn_tail_is_cut_off_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let positions = written(dir.path(), 3, config());
    let file = &segment_files(dir.path())[0];
    cut(file, positions[2] + 500);
    let log = open(dir.path(), config()).unwrap();
    assert_eq!((log.end(), log.torn_bytes() > 300 && log.torn_bytes() <= 500), (Offset(20), true));
    append(&log, scans(20..30));
    assert_scans(&log, 0, 30);
    drop(log);
    let log = open(dir.path(), config()).unwrap();
    assert_eq!(log.torn_bytes(), 0);
    assert_scans(&log, 0, 30);
}

#[test]
fn a_flipped_bit_in_rows_that_were_durable_stops_the_start() {
    // The last group of all is proved by the seal that closing wrote.
    for group in 0..3 {
        for inside in [0, 13, 60, 64, 200] {
            let dir = tempfile::tempdir().unwrap();
            let positions = written(dir.path(), 3, config());
            let file = &segment_files(dir.path())[0];
            edit(file, positions[group] + inside, |byte| byte ^ 4);
            assert_eq!(corrupt_at(open(dir.path(), config()), file), positions[group]);
        }
    }
}

#[test]
fn frames_of_one_write_do_not_prove_each_other() {
    // Both frames went to the disk in one unconfirmed write, and the disk took only the second.
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), config()).unwrap();
    append(&log, scans(0..10));
    let position = log.shared.segments.last().durable_bytes();
    let end = log.append(vec![scans(10..20), super::heartbeats(20..30)]).unwrap();
    assert!(super::wait_durable(&log, end));
    let after = log.shared.segments.last().durable_bytes();
    log.close();
    let file = &segment_files(dir.path())[0];
    cut(file, after);
    edit(file, position + 100, |byte| !byte);
    let log = open(dir.path(), config()).unwrap();
    // The zeros that pad the last body are not counted.
    assert_eq!((log.end(), log.torn_bytes().div_ceil(256)), (Offset(10), (after - position).div_ceil(256)));
}

#[test]
fn bytes_in_a_payload_are_never_taken_for_a_frame() {
    // A frame copied from another log stands where a torn tail would be; its salt is another one.
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let positions = written(dir.path(), 2, config());
    written(other.path(), 5, config());
    let (file, foreign) = (&segment_files(dir.path())[0], &segment_files(other.path())[0]);
    let bytes = std::fs::read(foreign).unwrap();
    let target = File::options().write(true).open(file).unwrap();
    target.write_all_at(&bytes[positions[1] as usize..60_000], positions[1]).unwrap();
    let log = open(dir.path(), config()).unwrap();
    assert_eq!(log.end(), Offset(10));
    assert!(log.torn_bytes() > 0);
}

#[test]
fn damage_in_an_earlier_segment_is_found() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 8, small_segments());
    let files = segment_files(dir.path());
    assert!(files.len() > 2);
    // In a header: at open.
    edit(&files[1], 64 + 16, |byte| byte ^ 1);
    assert_eq!(corrupt_at(open(dir.path(), small_segments()), &files[1]), 64);
    edit(&files[1], 64 + 16, |byte| byte ^ 1);
    // In the rows: when they are read.
    edit(&files[1], 64 + 64 + 200, |byte| byte ^ 1);
    let log = open(dir.path(), small_segments()).unwrap();
    let second = log.shared.segments.oldest().0;
    assert_eq!(second, 0);
    assert_eq!(corrupt_at(super::rows(&log, Offset(0), crate::KindSet::ALL), &files[1]), 64);
}

#[test]
fn a_missing_or_shortened_segment_in_the_middle_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 8, small_segments());
    let files = segment_files(dir.path());
    let bytes = std::fs::read(&files[1]).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    corrupt_at(open(dir.path(), small_segments()), &files[0]);
    std::fs::write(&files[1], &bytes[..bytes.len() - 64]).unwrap();
    corrupt_at(open(dir.path(), small_segments()), &files[1]);
    std::fs::write(&files[1], &bytes).unwrap();
    assert_scans(&open(dir.path(), small_segments()).unwrap(), 0, 80);
}

#[test]
fn a_segment_whose_creation_was_cut_short_is_made_anew() {
    for bytes in [0, 40, 64, 4_096] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 2, config());
        let file = dir.path().join(super::super::segment::file_name(Offset(20)));
        std::fs::write(&file, vec![0; bytes]).unwrap();
        let log = open(dir.path(), config()).unwrap();
        append(&log, scans(20..30));
        assert_scans(&log, 0, 30);
    }
}

#[test]
fn a_segment_with_rows_and_without_a_header_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2, config());
    let file = &segment_files(dir.path())[0];
    edit(file, 20, |byte| byte ^ 1);
    assert_eq!(corrupt_at(open(dir.path(), config()), file), 0);
}

#[test]
fn a_newer_format_is_refused() {
    use super::super::frame::{ALIGN, SegmentHeader};
    let dir = tempfile::tempdir().unwrap();
    let mut header = SegmentHeader { first: Offset(0), salt: 7 }.encode();
    header[8] = 9;
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    let file = dir.path().join(super::super::segment::file_name(Offset(0)));
    std::fs::write(&file, header).unwrap();
    assert_eq!(header.len(), ALIGN);
    assert!(matches!(open(dir.path(), config()), Err(LogError::Version { found: 9, supported: 2, .. })));
}

#[test]
fn a_directory_has_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), config()).unwrap();
    assert!(matches!(open(dir.path(), config()), Err(LogError::Locked { .. })));
    log.close();
    open(dir.path(), config()).unwrap();
}
