//! Functions of PostgreSQL that drivers call about things which are not here (indexes, functions, comments, triggers): with any
//! arguments they answer null, as PostgreSQL does for a number that nothing has.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion::prelude::SessionContext;

const TEXTS: [&str; 12] = [
    "col_description",
    "obj_description",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_triggerdef",
    "pg_get_viewdef",
    "shobj_description",
];

pub fn add(context: &SessionContext) {
    for name in TEXTS {
        context.register_udf(ScalarUDF::from(Nothing::new(name, DataType::Utf8)));
    }
    // The elements of an index's columns with their numbers.
    let number = |name| Arc::new(Field::new(name, DataType::Int32, true));
    context.register_udf(ScalarUDF::from(Nothing::new("_pg_expandarray", DataType::Struct(Fields::from(vec![number("x"), number("n")])))));
}

/// Null of a type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Nothing {
    name: &'static str,
    returns: DataType,
    signature: Signature,
}

impl Nothing {
    fn new(name: &'static str, returns: DataType) -> Self {
        let arguments = TypeSignature::OneOf((1..=3).map(TypeSignature::Any).collect());
        Self { name, returns, signature: Signature::new(arguments, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Nothing {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        Ok(ColumnarValue::Scalar(ScalarValue::try_from(&self.returns)?))
    }
}
