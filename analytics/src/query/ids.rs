//! Ids in SQL: written and shown as text, compared as sixteen bytes.
//!
//! A text constant that is spelled like a UUID is read as an id wherever it stands in a query; an id in a result is
//! shown as text. Between the two ids stay bytes, so that a filter on one costs no conversion of the column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use uuid::Uuid;

pub const ID: DataType = DataType::FixedSizeBinary(16);

/// An id as a constant of a plan.
pub fn literal(id: &[u8; 16]) -> ScalarValue {
    ScalarValue::FixedSizeBinary(16, Some(id.to_vec()))
}

/// The functions between ids and text: `id(text)` and `id_text(id)`.
pub fn functions() -> [ScalarUDF; 2] {
    [ScalarUDF::new_from_impl(FromText::new()), ScalarUDF::new_from_impl(ToText::new())]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FromText {
    signature: Signature,
}

impl FromText {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromText {
    fn name(&self) -> &str {
        "id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(ID)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let texts = args.args[0].to_array(if is_scalar { 1 } else { args.number_rows })?;
        let mut ids = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
        for text in texts.as_string::<i32>() {
            match text.map(|text| (text, Uuid::parse_str(text))) {
                Some((_, Ok(id))) => ids.append_value(id.as_bytes())?,
                Some((text, Err(_))) => return exec_err!("{text:?} is not an id"),
                None => ids.append_null(),
            }
        }
        let ids: ArrayRef = Arc::new(ids.finish());
        if is_scalar { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&ids, 0)?)) } else { Ok(ColumnarValue::Array(ids)) }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToText {
    signature: Signature,
}

impl ToText {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![ID], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToText {
    fn name(&self) -> &str {
        "id_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(text_of(&args.args[0].to_array(args.number_rows)?)))
    }
}

/// Ids as text.
pub fn text_of(column: &ArrayRef) -> ArrayRef {
    let ids = column.as_fixed_size_binary();
    let mut texts = StringBuilder::with_capacity(ids.len(), ids.len() * uuid::fmt::Hyphenated::LENGTH);
    let mut buffer = Uuid::encode_buffer();
    for row in 0..ids.len() {
        if ids.is_null(row) {
            texts.append_null();
        } else {
            let id = Uuid::from_slice(ids.value(row)).expect("an id is sixteen bytes wide");
            texts.append_value(id.hyphenated().encode_lower(&mut buffer));
        }
    }
    Arc::new(texts.finish())
}
