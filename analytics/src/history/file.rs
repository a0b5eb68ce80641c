//! One data file: rows to Parquet and back.

use arrow::array::{AsArray, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{BloomFilterPosition, WriterProperties};
use parquet::schema::types::ColumnPath;
use rollcall_model::event::Kind;
use rollcall_model::ids::{Offset, PersonId, SchoolId};
use rollcall_model::time::UtcMillis;
use rollcall_stream::schema::{DEVICE, SCHOOL, TS};

use super::error::HistoryError;
use super::manifest::FileEntry;
use super::rows::{Portion, bounds};
use super::runs::{Extent, Runs};
use crate::hot::table::{self, KINDS, person_column};

const ZSTD_LEVEL: i32 = 3;
/// Small enough that one school's rows are found by the statistics of a few groups, large enough to be decoded in bulk.
const ROW_GROUP_ROWS: usize = 131_072;
/// As many as operators hand on at a time: whoever reads a few rows unpacks no more than these of each column.
const PAGE_ROWS: usize = 8_192;
/// One in a hundred looks finds a group that has nothing.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// What is said of a file whose bytes are not those that were written.
pub(super) const WRONG_CHECKSUM: &str = "its checksum is wrong";
/// Rows read from a file at a time.
const BATCH_ROWS: usize = 65_536;

/// Encodes rows; the entry is complete but for its path. Blocking, about a second a million rows.
pub(super) fn encode(kind: Kind, portion: &Portion, added: UtcMillis) -> Result<(FileEntry, Bytes), HistoryError> {
    let rows = &portion.rows;
    let bounds = bounds(rows);
    let (first, end) = (Offset(bounds.offset.0), Offset(bounds.offset.1 + 1));
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties(kind, portion, first, end)))?;
    writer.write(rows)?;
    let runs = Runs::of(rows.column(person_column(kind)).as_fixed_size_binary()).map(|runs| index(&mut writer, &runs)).transpose()?;
    let bytes = Bytes::from(writer.into_inner()?);
    let entry = FileEntry {
        path: String::new(),
        kind,
        district: portion.district,
        date: portion.date,
        rows: rows.num_rows() as u64,
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(&bytes),
        first,
        end,
        ts_min: UtcMillis(bounds.ts.0),
        ts_max: UtcMillis(bounds.ts.1),
        school_min: SchoolId::from_bytes(bounds.school.0),
        school_max: SchoolId::from_bytes(bounds.school.1),
        added,
        runs,
    };
    Ok((entry, bytes))
}

/// Writes the index of people behind the rows.
fn index(writer: &mut ArrowWriter<Vec<u8>>, runs: &Runs) -> Result<Extent, ParquetError> {
    writer.flush()?;
    let bytes = runs.encode();
    let extent = Extent { start: writer.bytes_written() as u64, length: bytes.len() as u64 };
    writer.write_all(&bytes)?;
    let Extent { start, length } = extent;
    writer.append_key_value_metadata(KeyValue::new("rollcall.runs".to_owned(), format!("{start}+{length}")));
    Ok(extent)
}

fn properties(kind: Kind, portion: &Portion, first: Offset, end: Offset) -> WriterProperties {
    let metadata = [
        ("rollcall.kind", kind.as_str().to_owned()),
        ("rollcall.district", portion.district.to_string()),
        ("rollcall.date", portion.date.to_string()),
        ("rollcall.first", first.to_string()),
        ("rollcall.end", end.to_string()),
        ("rollcall.rows", portion.rows.num_rows().to_string()),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
    let sorted = [SCHOOL, DEVICE, TS].map(|column| SortingColumn { column_idx: column as i32, descending: false, nulls_first: false });
    let mut properties = WriterProperties::builder()
        // Side by side, so that a reader fetches all of a file at once.
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).expect("the level is one of zstd's")))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_key_value_metadata(Some(metadata))
        .set_sorting_columns(Some(sorted.to_vec()))
        .set_created_by("rollcall history".to_owned());
    // Values that hardly ever repeat: a dictionary of them is thrown away halfway through each group.
    for column in ["seq", "ts", "received", "offset"] {
        let path = ColumnPath::from(column);
        properties = properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    // Schools are found by the order of the rows. A device or a person stands anywhere in it.
    // The writer folds each filter to the size that its values need.
    for column in [DEVICE, person_column(kind)] {
        let path = ColumnPath::from(portion.rows.schema_ref().field(column).name().as_str());
        properties = properties
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(path, ROW_GROUP_ROWS as u64);
    }
    properties.build()
}

/// The name of a file; `epoch` and `number` make it one that was never used.
pub(super) fn path_of(entry: &FileEntry, epoch: u64, number: u64) -> String {
    let FileEntry { kind, district, date, first, end, .. } = entry;
    format!("{}/district={district}/date={date}/{first}-{end}.{epoch}-{number}.parquet", table::name(*kind))
}

/// Whether a path is one that [`path_of`] makes.
pub(super) fn is_ours(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let [folder, district, date, name] = parts[..] else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pair = |text: &str| text.split_once('-').is_some_and(|(a, b)| digits(a) && digits(b));
    KINDS.iter().any(|kind| table::name(*kind) == folder)
        && district.strip_prefix("district=").is_some_and(|id| uuid::Uuid::parse_str(id).is_ok())
        && date.strip_prefix("date=").is_some_and(|date| date.parse::<chrono::NaiveDate>().is_ok())
        && name.strip_suffix(".parquet").and_then(|name| name.split_once('.')).is_some_and(|(rows, made)| pair(rows) && pair(made))
}

/// Fails unless the bytes are those that were written.
pub(super) fn check(entry: &FileEntry, bytes: &[u8]) -> Result<(), HistoryError> {
    let damaged = |reason: String| HistoryError::Damaged { path: entry.path.clone(), reason };
    if bytes.len() as u64 != entry.bytes {
        return Err(damaged(format!("it has {} bytes instead of {}", bytes.len(), entry.bytes)));
    }
    if crc32c::crc32c(bytes) != entry.crc32c {
        return Err(damaged(WRONG_CHECKSUM.into()));
    }
    Ok(())
}

/// All rows of a file, after [`check`], in the table's schema and words. Blocking.
pub(super) fn decode(kind: Kind, bytes: Bytes) -> Result<Vec<RecordBatch>, HistoryError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(BATCH_ROWS).build()?;
    reader.map(|rows| Ok(table::reworded(kind, &rows?)?)).collect()
}

/// Whether a file may hold rows of a person, by its bloom filters. Blocking.
pub(super) fn may_hold(kind: Kind, bytes: Bytes, person: PersonId) -> Result<bool, HistoryError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    for group in 0..builder.metadata().num_row_groups() {
        match builder.get_row_group_column_bloom_filter(group, person_column(kind))? {
            Some(filter) if !filter.check(&person.as_bytes()[..]) => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_recognised() {
        let district = "district=00000000-0000-0000-0000-000000000001";
        assert!(is_ours(&format!("scans/{district}/date=2026-03-01/0-17.3-1.parquet")));
        for foreign in ["date=2026-03-01/0-17.parquet", "date=2026-03-01/x.3-1.parquet", "date=soon/0-17.3-1.parquet", "0-17.3-1.parquet"] {
            assert!(!is_ours(&format!("scans/{district}/{foreign}")), "{foreign}");
        }
        assert!(!is_ours("manifest/00000000000000000001.json"));
    }
}
