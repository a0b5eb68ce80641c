//! The calls of a Flight SQL driver.

use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest, ActionBeginTransactionResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndSavepointRequest, ActionEndTransactionRequest, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas,
    CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use rollcall_analytics::query::Question;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::prepared::{Sealing, Statement};
use super::{DOOR, answer, auth, metadata, values};
use crate::caller::Caller;
use crate::query;
use crate::state::ApiState;

const NO_TRANSACTIONS: &str = "there are no transactions here: a question reads and nothing is written";
const NO_WRITES: &str = "nothing is written here: only questions are answered";

/// The action by which a driver ends its session, and its answer: `CloseSessionResult` of Flight SQL with the status `CLOSED`, for
/// which the library has no type.
const CLOSE_SESSION: &str = "CloseSession";
const CLOSED: [u8; 2] = [1 << 3, 1];

type Rows = Response<<Door as FlightService>::DoGetStream>;
type Shakes = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

#[derive(Clone)]
pub struct Door {
    state: ApiState,
}

impl Door {
    pub fn new(state: ApiState) -> Self {
        Self { state }
    }

    async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        auth::identify(&self.state, metadata).await
    }

    /// Where to fetch what was described: here, by one ticket. The schema comes with the rows, because only the plan for
    /// a caller knows it.
    async fn info(&self, request: Request<FlightDescriptor>, ticket: impl ProstMessageExt) -> Result<Response<FlightInfo>, Status> {
        self.caller(request.metadata()).await?;
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(Bytes::from(ticket.as_any().encode_to_vec())));
        Ok(Response::new(FlightInfo::new().with_descriptor(request.into_inner()).with_endpoint(endpoint)))
    }

    /// Runs a question and streams its rows as they come. A driver that goes away cancels it.
    async fn ask(&self, caller: &Caller, sql: &str, values: &[ScalarValue]) -> Result<Rows, Status> {
        let answer = query::ask_with(&self.state, caller, DOOR, &Question { sql, values, ..Question::default() })
            .await
            .map_err(|error| auth::status(&error))?;
        let warnings = answer.warnings.clone();
        let mut response: Rows = Response::new(Box::pin(answer::data(answer)));
        for warning in &warnings {
            response.metadata_mut().append_bin(answer::WARNING, MetadataValue::from_bytes(warning.as_bytes()));
        }
        Ok(response)
    }

    /// Refuses a text that a driver gives as an update: with the reason that it has as a question, so that the author learns
    /// what is wrong with it.
    async fn refuse(&self, caller: &Caller, sql: &str) -> Status {
        match query::describe(&self.state, caller, DOOR, &Question { sql, ..Question::default() }).await {
            Ok(_) => Status::invalid_argument("this is a question: execute it as a query, not as an update"),
            Err(error) => auth::status(&error),
        }
    }

    /// What is known of the server, worked out for whoever has signed in.
    async fn known(&self, request: &Request<Ticket>, batch: impl FnOnce() -> Result<RecordBatch, ArrowError>) -> Result<Rows, Status> {
        self.caller(request.metadata()).await?;
        single(batch())
    }
}

fn single(batch: Result<RecordBatch, ArrowError>) -> Result<Rows, Status> {
    let batch = batch.map_err(|error| Status::internal(error.to_string()))?;
    Ok(encoded(batch.schema(), stream::iter([Ok(batch)])))
}

fn encoded(schema: SchemaRef, rows: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static) -> Rows {
    let data = FlightDataEncoderBuilder::new().with_schema(schema).build(rows).map(|data| data.map_err(Status::from));
    Response::new(Box::pin(data))
}

/// A schema as the bytes of its IPC message, as drivers read it.
fn as_message(schema: &SchemaRef) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: Result<IpcMessage, ArrowError> = SchemaAsIpc::new(schema, &options).try_into();
    message.map(|message| message.0).map_err(|error| Status::internal(error.to_string()))
}

#[tonic::async_trait]
impl FlightSqlService for Door {
    type FlightService = Self;

    async fn do_handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Shakes>, Status> {
        let token = auth::begin(&self.state, request.metadata(), request.extensions()).await?;
        let bearer = format!("Bearer {token}").parse().map_err(|_| Status::internal("a token is no header"))?;
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::from(token) };
        let mut response: Response<Shakes> = Response::new(Box::pin(stream::iter([Ok(answer)])));
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, TicketStatementQuery { statement_handle: Bytes::from(query.query) }).await
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Result<Rows, Status> {
        let caller = self.caller(request.metadata()).await?;
        let sql = std::str::from_utf8(&ticket.statement_handle).map_err(|_| Status::invalid_argument("the question is not UTF-8"))?;
        self.ask(&caller, sql, &[]).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let caller = self.caller(request.metadata()).await?;
        let described = query::describe(&self.state, &caller, DOOR, &Question { sql: &query.query, ..Question::default() })
            .await
            .map_err(|error| auth::status(&error))?;
        let handle = Statement::new(query.query).handle();
        let (dataset_schema, parameter_schema) = (as_message(&described.columns)?, as_message(&described.parameters)?);
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle: handle, dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        self.caller(request.metadata()).await.map(drop)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_prepared_statement(&self, query: CommandPreparedStatementQuery, request: Request<Ticket>) -> Result<Rows, Status> {
        let caller = self.caller(request.metadata()).await?;
        let statement = Statement::read(&query.prepared_statement_handle)?;
        self.ask(&caller, &statement.sql, &statement.bound(&Sealing::of(&self.state, &caller))?).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let caller = self.caller(request.metadata()).await?;
        let statement = Statement::read(&query.prepared_statement_handle)?;
        let bound = statement.bind(&values::row(request.into_inner()).await?, &Sealing::of(&self.state, &caller))?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(bound.handle()) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = self.caller(request.metadata()).await?;
        let statement = Statement::read(&query.prepared_statement_handle)?;
        Err(self.refuse(&caller, &statement.sql).await)
    }

    async fn do_put_statement_update(
        &self,
        update: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = self.caller(request.metadata()).await?;
        Err(self.refuse(&caller, &update.query).await)
    }

    async fn do_put_statement_ingest(&self, _: CommandStatementIngest, _: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        Err(Status::invalid_argument(NO_WRITES))
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(Status::unimplemented(NO_TRANSACTIONS))
    }

    async fn do_action_end_transaction(&self, _: ActionEndTransactionRequest, _: Request<Action>) -> Result<(), Status> {
        Err(Status::unimplemented(NO_TRANSACTIONS))
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(Status::unimplemented(NO_TRANSACTIONS))
    }

    async fn do_action_end_savepoint(&self, _: ActionEndSavepointRequest, _: Request<Action>) -> Result<(), Status> {
        Err(Status::unimplemented(NO_TRANSACTIONS))
    }

    /// The end of a driver's session. Of sessions' options and the like a driver that hears the refusal goes on without.
    async fn do_action_fallback(&self, request: Request<Action>) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        if request.get_ref().r#type == CLOSE_SESSION {
            auth::end(&self.state, request.metadata()).await?;
            let closed = arrow_flight::Result { body: Bytes::from_static(&CLOSED) };
            return Ok(Response::new(Box::pin(stream::iter([Ok(closed)]))));
        }
        Err(Status::unimplemented(format!("{} is not offered here", request.get_ref().r#type.escape_debug())))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, || metadata::catalogs(query)).await
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, || metadata::schemas(query)).await
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Result<Rows, Status> {
        let caller = self.caller(request.metadata()).await?;
        single(metadata::tables(query, &self.state.queries, &query::query_caller(&self.state, &caller)))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_table_types(&self, _: CommandGetTableTypes, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, metadata::table_types).await
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_primary_keys(&self, _: CommandGetPrimaryKeys, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, || Ok(metadata::primary_keys())).await
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, || Ok(metadata::foreign_keys())).await
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, || Ok(metadata::foreign_keys())).await
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, || Ok(metadata::foreign_keys())).await
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, || metadata::types(query)).await
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, request: Request<Ticket>) -> Result<Rows, Status> {
        let known = || {
            let server = metadata::server()?;
            query.into_builder(&server).build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
        };
        self.known(&request, known).await
    }

    /// Everything that is known is in [`metadata::server`].
    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
