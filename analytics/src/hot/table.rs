//! What a table of events looks like to SQL, hot or in a file: the log's columns in types that people can write, and the
//! row's offset.
//!
//! Ids stay sixteen bytes. Instants become timestamps in UTC, the school's date a date, codes their words. All of this
//! renames bytes that are there already: a column of the log and the column of the table share one buffer. The offset
//! is the only column that is made.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, DictionaryArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, UInt8Type};
use arrow::error::ArrowError;
use rollcall_model::event::{ActivityKind, Direction, Kind, Method};
use rollcall_model::ids::Offset;
use rollcall_model::status::{Authority, MarkStatus};
use rollcall_stream::schema::{COMMON, schema as log_schema};

/// The kinds that are tables, in the order of [`index`].
pub const KINDS: [Kind; 4] = [Kind::Scan, Kind::Telemetry, Kind::Activity, Kind::Mark];

/// The name of the last column: the row's place in the log, `UInt64`.
pub const OFFSET: &str = "offset";

const INSTANTS: [&str; 3] = ["ts", "received", "at"];

/// Place of a kind in [`KINDS`]; `None`: it is not a table.
pub fn index(kind: Kind) -> Option<usize> {
    KINDS.iter().position(|known| *known == kind)
}

/// The table's name in SQL.
pub const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Scan => "scans",
        Kind::Telemetry => "telemetry",
        Kind::Activity => "activity",
        Kind::Mark => "marks",
        Kind::Status => "heartbeats",
        Kind::DeadLetter => "dead_letters",
    }
}

/// The column that names the person a row is about.
pub const fn person_column(kind: Kind) -> usize {
    match kind {
        Kind::Mark => COMMON + 1,
        _ => COMMON,
    }
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn word() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8))
}

/// Words by code; the codes between and below them have no word and stand in no column.
fn words_of(column: &str, kind: Kind) -> Option<&'static ArrayRef> {
    macro_rules! words {
        ($vocabulary:ty) => {{
            static WORDS: LazyLock<ArrayRef> = LazyLock::new(|| {
                let most = <$vocabulary>::ALL.iter().map(|word| word.code()).max().unwrap_or(0);
                let text = |code| <$vocabulary>::from_code(code).map(<$vocabulary>::as_str).unwrap_or("");
                Arc::new(StringArray::from_iter_values((0..=most).map(text)))
            });
            Some(&*WORDS)
        }};
    }
    match (kind, column) {
        (Kind::Scan, "dir") => words!(Direction),
        (Kind::Scan, "method") => words!(Method),
        (Kind::Activity, "kind") => words!(ActivityKind),
        (Kind::Mark, "status") => words!(MarkStatus),
        (Kind::Mark, "authority") => words!(Authority),
        _ => None,
    }
}

fn make(kind: Kind) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let name = field.name().as_str();
        let data_type = match field.data_type() {
            DataType::Int64 if INSTANTS.contains(&name) => instant(),
            DataType::Int32 if name == "date" => DataType::Date32,
            DataType::UInt8 if words_of(name, kind).is_some() => word(),
            other => other.clone(),
        };
        Field::new(name, data_type, field.is_nullable())
    };
    let mut fields: Vec<Field> = log_schema(kind).fields().iter().map(field).collect();
    fields.push(Field::new(OFFSET, DataType::UInt64, false));
    Arc::new(Schema::new(fields))
}

/// The schema of a table: the log's columns and [`OFFSET`].
pub fn schema(kind: Kind) -> &'static SchemaRef {
    static SCHEMAS: LazyLock<Vec<SchemaRef>> = LazyLock::new(|| KINDS.iter().map(|kind| make(*kind)).collect());
    let index = index(kind).expect("only the kinds that are tables have a table's schema");
    &SCHEMAS[index]
}

/// Rows of the log as rows of the table, sharing every buffer; row `i` has the offset `first + i`.
///
/// # Panics
/// When `kind` is not a table, or the rows are not in the log's schema of the kind.
pub fn present(kind: Kind, first: Offset, rows: &RecordBatch) -> RecordBatch {
    let target = schema(kind);
    let named = rows.columns().iter().zip(target.fields());
    let mut columns: Vec<ArrayRef> = named.map(|(column, field)| retyped(kind, column, field)).collect();
    columns.push(Arc::new(UInt64Array::from_iter_values(first.0..first.0 + rows.num_rows() as u64)));
    RecordBatch::try_new(Arc::clone(target), columns).expect("a retyped column has the type and length of its field")
}

fn retyped(kind: Kind, column: &ArrayRef, field: &Field) -> ArrayRef {
    match field.data_type() {
        DataType::Timestamp(..) => {
            let values = column.as_primitive::<Int64Type>();
            let instants = TimestampMillisecondArray::new(values.values().clone(), values.nulls().cloned());
            Arc::new(instants.with_timezone("UTC"))
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Int32Type>();
            Arc::new(Date32Array::new(values.values().clone(), values.nulls().cloned()))
        }
        DataType::Dictionary(..) => {
            let codes: &UInt8Array = column.as_primitive::<UInt8Type>();
            let words = words_of(field.name(), kind).expect("the schema has a dictionary only where there are words");
            // A code without a word comes from a newer program; the column then shows no word for any row of this batch
            // that has it.
            let known = words.len() as u8;
            let codes = if codes.values().iter().all(|code| *code < known) {
                codes.clone()
            } else {
                codes.iter().map(|code| code.filter(|code| *code < known).or(Some(0))).collect()
            };
            Arc::new(DictionaryArray::new(codes, Arc::clone(words)))
        }
        _ => Arc::clone(column),
    }
}

/// Rows that were read back from a file, where words come in the file's own order, with the words of [`present`]: rows of
/// many files then share one dictionary, whose codes are one byte. A column with a word that this program does not know stays as it is.
pub fn reworded(kind: Kind, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().zip(rows.schema_ref().fields()).map(|(column, field)| {
        let Some(words) = words_of(field.name(), kind) else { return Arc::clone(column) };
        let (own, known) = (column.as_dictionary::<UInt8Type>(), words.as_string::<i32>());
        let code = |word: Option<&str>| known.iter().position(|other| other == word).and_then(|code| u8::try_from(code).ok());
        let Some(codes) = own.values().as_string::<i32>().iter().map(code).collect::<Option<Vec<u8>>>() else { return Arc::clone(column) };
        let keys: UInt8Array = own.keys().iter().map(|key| key.map(|key| codes[usize::from(key)])).collect();
        Arc::new(DictionaryArray::new(keys, Arc::clone(words)))
    });
    RecordBatch::try_new(rows.schema(), columns.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, FixedSizeBinaryArray, Int64Array};

    fn scans() -> RecordBatch {
        let id = |byte: u8| -> ArrayRef { Arc::new(FixedSizeBinaryArray::try_from_iter([[byte; 16], [byte; 16]].into_iter()).unwrap()) };
        let number = |values: [i64; 2]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
        let columns: Vec<ArrayRef> = vec![
            id(1),
            id(2),
            id(3),
            Arc::new(UInt64Array::from(vec![7, 8])),
            number([10, 20]),
            number([11, 21]),
            Arc::new(BooleanArray::from(vec![false, true])),
            id(4),
            id(5),
            Arc::new(UInt8Array::from(vec![1, 3])),
            Arc::new(UInt8Array::from(vec![4, 200])),
        ];
        RecordBatch::try_new(Arc::clone(log_schema(Kind::Scan)), columns).unwrap()
    }

    #[test]
    fn presented_columns_are_the_logs_buffers() {
        let log = scans();
        let table = present(Kind::Scan, Offset(40), &log);
        for place in [0, 3, 4, 5, 7] {
            let (one, other) = (log.column(place).to_data(), table.column(place).to_data());
            assert_eq!(one.buffers()[0].as_ptr(), other.buffers()[0].as_ptr(), "column {place}");
        }
        let codes = log.column(9).as_primitive::<UInt8Type>().values().as_ptr();
        assert_eq!(codes, table.column(9).as_dictionary::<UInt8Type>().keys().values().as_ptr());
        assert_eq!(table.column(11).as_primitive::<arrow::datatypes::UInt64Type>().values(), &[40, 41]);
    }

    #[test]
    fn codes_show_as_words_and_an_unknown_code_as_none() {
        let table = present(Kind::Scan, Offset(0), &scans());
        let text = |name: &str, row: usize| {
            let column = arrow::compute::cast(table.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
            column.as_string::<i32>().value(row).to_owned()
        };
        assert_eq!((text("dir", 0), text("dir", 1)), ("in".to_owned(), "auto".to_owned()));
        assert_eq!((text("method", 0), text("method", 1)), ("manual".to_owned(), String::new()));
    }

    /// One byte numbers the words of a column, also of one that is put together from many files with dictionaries of their own.
    #[test]
    fn words_of_many_files_fit_one_column() {
        for (kind, name) in [(Kind::Scan, "dir"), (Kind::Scan, "method"), (Kind::Activity, "kind"), (Kind::Mark, "status")] {
            let words = words_of(name, kind).unwrap().as_string::<i32>();
            for files in [60, 300, 1_000, 3_000] {
                let own = |_| -> ArrayRef {
                    let values = StringArray::from_iter_values(words.iter().flatten());
                    let keys = UInt8Array::from_iter_values(0..words.len() as u8);
                    Arc::new(DictionaryArray::new(keys, Arc::new(values)))
                };
                let files: Vec<ArrayRef> = (0..files).map(own).collect();
                let refs: Vec<&dyn Array> = files.iter().map(AsRef::as_ref).collect();
                let all = arrow::compute::concat(&refs).unwrap();
                let text = arrow::compute::cast(&all, &DataType::Utf8).unwrap();
                assert!(text.as_string::<i32>().iter().enumerate().all(|(row, word)| word == Some(words.value(row % words.len()))));
            }
        }
    }

    #[test]
    fn words_read_back_take_the_tables_own_dictionary() {
        let table = present(Kind::Scan, Offset(0), &scans());
        let place = table.schema().index_of("dir").unwrap();
        let values: ArrayRef = Arc::new(StringArray::from(vec!["auto", "in"]));
        let mut columns = table.columns().to_vec();
        columns[place] = Arc::new(DictionaryArray::new(UInt8Array::from(vec![1, 0]), values));
        let read = RecordBatch::try_new(table.schema(), columns.clone()).unwrap();
        assert_eq!(reworded(Kind::Scan, &read).unwrap(), table);
        let newer: ArrayRef = Arc::new(StringArray::from(vec!["sideways", "in"]));
        columns[place] = Arc::new(DictionaryArray::new(UInt8Array::from(vec![1, 0]), newer));
        let read = RecordBatch::try_new(table.schema(), columns).unwrap();
        assert_eq!(reworded(Kind::Scan, &read).unwrap(), read, "a word of a newer program is kept");
    }
}
