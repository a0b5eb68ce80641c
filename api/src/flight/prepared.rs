//! Prepared statements without a place to keep them: the handle that a driver holds is the statement.
//!
//! # Format of a handle
//! Protobuf: `sql` (1), `values` (2), an Arrow IPC stream of one row, one column a parameter, and `seal` (3) of both for the account
//! that bound them; the last two are absent until values are bound. It grants nothing: whoever presents it runs its text with the own
//! rights. The reader of Arrow takes the lengths in a stream at their word and makes room for what they claim, so that it is given
//! only what was written here: values under another seal are refused unread.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use prost::Message;
use rollcall_model::ids::AccountId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::Status;

use crate::caller::Caller;
use crate::state::ApiState;

/// Most bytes of the values of one statement.
const VALUES_BYTES_MAX: usize = 256 * 1024;

/// What seals the values that an account binds.
pub struct Sealing {
    key: [u8; 32],
    account: AccountId,
}

impl Sealing {
    pub fn of(state: &ApiState, caller: &Caller) -> Self {
        Self { key: state.vault.derived_key(caller.district, "flight values"), account: caller.who.account }
    }

    /// A digest with the key before a digest of one length, which nobody without the key can make or make longer.
    fn seal(&self, sql: &str, values: &[u8]) -> [u8; 32] {
        let said = Sha256::new().chain_update(self.account.as_bytes()).chain_update((sql.len() as u64).to_le_bytes());
        let said = said.chain_update(sql).chain_update(values).finalize();
        Sha256::new().chain_update(self.key).chain_update(said).finalize().into()
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Statement {
    #[prost(string, tag = "1")]
    pub sql: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    values: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    seal: Option<Bytes>,
}

impl Statement {
    pub fn new(sql: String) -> Self {
        Self { sql, values: None, seal: None }
    }

    pub fn read(handle: &Bytes) -> Result<Self, Status> {
        Self::decode(handle.clone()).map_err(|_| Status::invalid_argument("this is no handle of a prepared statement"))
    }

    pub fn handle(&self) -> Bytes {
        Bytes::from(self.encode_to_vec())
    }

    /// The bound values in order.
    pub fn bound(&self, sealing: &Sealing) -> Result<Vec<ScalarValue>, Status> {
        let Some(bytes) = &self.values else { return Ok(Vec::new()) };
        let sealed = self.seal.as_deref().unwrap_or_default();
        if !bool::from(sealing.seal(&self.sql, bytes).as_slice().ct_eq(sealed)) {
            return Err(Status::invalid_argument("these values were not bound here by this account; bind them again"));
        }
        let read = || -> Result<Vec<ScalarValue>, ArrowError> {
            let mut values = Vec::new();
            for row in StreamReader::try_new(bytes.as_ref(), None)? {
                for column in row?.columns() {
                    values.push(ScalarValue::try_from_array(column, 0)?);
                }
            }
            Ok(values)
        };
        read().map_err(|_| Status::invalid_argument("the values of the prepared statement cannot be read"))
    }

    /// The same statement with these values.
    pub fn bind(self, row: &RecordBatch, sealing: &Sealing) -> Result<Self, Status> {
        if row.num_rows() != 1 {
            let message = format!("bind one row of values at a time; there are {}", row.num_rows());
            return Err(Status::invalid_argument(message));
        }
        let write = || -> Result<Vec<u8>, ArrowError> {
            let mut writer = StreamWriter::try_new(Vec::new(), &row.schema())?;
            writer.write(row)?;
            writer.into_inner()
        };
        let bytes = write().map_err(|error| Status::invalid_argument(error.to_string()))?;
        if bytes.len() > VALUES_BYTES_MAX {
            return Err(Status::invalid_argument(format!("the values of a statement have at most {VALUES_BYTES_MAX} bytes")));
        }
        let seal = Bytes::copy_from_slice(&sealing.seal(&self.sql, &bytes));
        Ok(Self { values: Some(Bytes::from(bytes)), seal: Some(seal), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn rows(count: usize) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; count]));
        RecordBatch::try_from_iter([("1", numbers), ("2", texts)]).unwrap()
    }

    fn sealing(key: u8, account: u8) -> Sealing {
        Sealing { key: [key; 32], account: AccountId::from_bytes([account; 16]) }
    }

    #[test]
    fn a_handle_holds_the_text_and_one_row_of_values() {
        let (statement, own) = (Statement::new("select ?, ?".to_owned()), sealing(1, 1));
        assert!(statement.bound(&own).unwrap().is_empty());
        let bound = Statement::read(&statement.clone().bind(&rows(1), &own).unwrap().handle()).unwrap();
        assert_eq!(bound.sql, "select ?, ?");
        assert_eq!(bound.bound(&own).unwrap(), [ScalarValue::Int64(Some(0)), ScalarValue::Utf8(None)]);
        for count in [0, 2] {
            assert!(statement.clone().bind(&rows(count), &own).is_err(), "{count}");
        }
    }

    #[test]
    fn a_foreign_handle_is_refused() {
        assert!(Statement::read(&Bytes::from_static(b"select 1")).is_err());
        let own = sealing(1, 1);
        let bound = Statement::new("select ?, ?".to_owned()).bind(&rows(1), &own).unwrap();
        for other in [sealing(2, 1), sealing(1, 2)] {
            assert!(bound.bound(&other).is_err(), "sealed by another key, or for another account");
        }
        let values = Some(Bytes::from_static(b"x"));
        for torn in [
            Statement { seal: None, ..bound.clone() },
            Statement { values, ..bound.clone() },
            Statement { sql: "select ?, ?, 1".to_owned(), ..bound.clone() },
        ] {
            assert!(torn.bound(&own).is_err(), "{torn:?}");
        }
    }
}
