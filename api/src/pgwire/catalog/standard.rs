//! Tables of `information_schema` that the engine has not and tools ask before they show anything: constraints, of which there are none,
//! and the character set.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::datasource::empty::EmptyTable;

const CHARACTER_SETS: &str = "character_sets";

/// Columns of numbers; all others are text.
const NUMBERS: [&str; 2] = ["ordinal_position", "position_in_unique_constraint"];

const TABLES: [(&str, &[&str]); 6] = [
    (
        CHARACTER_SETS,
        &[
            "character_set_catalog",
            "character_set_schema",
            "character_set_name",
            "character_repertoire",
            "form_of_use",
            "default_collate_catalog",
            "default_collate_schema",
            "default_collate_name",
        ],
    ),
    (
        "table_constraints",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_type",
            "is_deferrable",
            "initially_deferred",
            "enforced",
        ],
    ),
    (
        "key_column_usage",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "ordinal_position",
            "position_in_unique_constraint",
        ],
    ),
    (
        "referential_constraints",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "unique_constraint_catalog",
            "unique_constraint_schema",
            "unique_constraint_name",
            "match_option",
            "update_rule",
            "delete_rule",
        ],
    ),
    (
        "constraint_column_usage",
        &["table_catalog", "table_schema", "table_name", "column_name", "constraint_catalog", "constraint_schema", "constraint_name"],
    ),
    (
        "constraint_table_usage",
        &["table_catalog", "table_schema", "table_name", "constraint_catalog", "constraint_schema", "constraint_name"],
    ),
];

pub fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, _)| *name)
}

/// The table of this name, if it is one of these.
pub fn table(name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
    let Some((name, columns)) = TABLES.iter().find(|(known, _)| *known == name) else { return Ok(None) };
    let kind = |column: &str| if NUMBERS.contains(&column) { DataType::Int32 } else { DataType::Utf8 };
    let schema = Arc::new(Schema::new(columns.iter().map(|column| Field::new(*column, kind(column), true)).collect::<Vec<_>>()));
    if *name != CHARACTER_SETS {
        return Ok(Some(Arc::new(EmptyTable::new(schema))));
    }
    let value = |column: &&str| -> ArrayRef {
        match *column {
            "character_set_name" | "form_of_use" => Arc::new(StringArray::from(vec!["UTF8"])),
            "character_repertoire" => Arc::new(StringArray::from(vec!["UCS"])),
            _ => new_null_array(&DataType::Utf8, 1),
        }
    };
    let row = RecordBatch::try_new(Arc::clone(&schema), columns.iter().map(value).collect())?;
    Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![row]])?)))
}
