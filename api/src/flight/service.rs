//! The calls of a Flight SQL driver.

use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs,
    CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandPreparedStatementQuery, CommandStatementQuery,
    ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, Ticket};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::{auth, metadata};
use crate::caller::Caller;
use crate::query;
use crate::state::ApiState;

/// Named in the audit.
const DOOR: &str = "flight";

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

    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        auth::identify(&self.state, request.metadata()).await
    }

    /// Where to fetch what was described: here, by one ticket. The schema comes with the rows, because only the plan for
    /// a caller knows it.
    async fn info(&self, request: Request<FlightDescriptor>, ticket: impl ProstMessageExt) -> Result<Response<FlightInfo>, Status> {
        self.caller(&request).await?;
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(Bytes::from(ticket.as_any().encode_to_vec())));
        Ok(Response::new(FlightInfo::new().with_descriptor(request.into_inner()).with_endpoint(endpoint)))
    }

    /// Runs a question and streams its rows as they come. A driver that goes away cancels it.
    async fn ask(&self, request: &Request<Ticket>, text: &[u8]) -> Result<Rows, Status> {
        let caller = self.caller(request).await?;
        let sql = std::str::from_utf8(text).map_err(|_| Status::invalid_argument("the question is not UTF-8"))?;
        let answer = query::ask(&self.state, &caller, DOOR, sql).await.map_err(|error| auth::status(&error))?;
        let schema = answer.schema.clone();
        let rows = answer.map(|batch| batch.map_err(|error| FlightError::Tonic(Box::new(auth::status(&error.into())))));
        Ok(encoded(schema, rows))
    }

    async fn known(&self, request: &Request<Ticket>, batch: Result<RecordBatch, ArrowError>) -> Result<Rows, Status> {
        self.caller(request).await?;
        single(batch)
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

    async fn get_flight_info_statement(&self, query: CommandStatementQuery, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request, TicketStatementQuery { statement_handle: Bytes::from(query.query) }).await
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Result<Rows, Status> {
        self.ask(&request, &ticket.statement_handle).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        self.caller(&request).await?;
        let (dataset_schema, parameter_schema) = (Bytes::new(), Bytes::new());
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle: Bytes::from(query.query), dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(&self, _: ActionClosePreparedStatementRequest, request: Request<Action>) -> Result<(), Status> {
        self.caller(&request).await.map(drop)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_prepared_statement(&self, query: CommandPreparedStatementQuery, request: Request<Ticket>) -> Result<Rows, Status> {
        self.ask(&request, &query.prepared_statement_handle).await
    }

    async fn get_flight_info_catalogs(&self, query: CommandGetCatalogs, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, metadata::catalogs(query)).await
    }

    async fn get_flight_info_schemas(&self, query: CommandGetDbSchemas, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, metadata::schemas(query)).await
    }

    async fn get_flight_info_tables(&self, query: CommandGetTables, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Result<Rows, Status> {
        let caller = self.caller(&request).await?;
        single(metadata::tables(query, &self.state.queries, &query::query_caller(&self.state, &caller)))
    }

    async fn get_flight_info_table_types(&self, query: CommandGetTableTypes, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_table_types(&self, _: CommandGetTableTypes, request: Request<Ticket>) -> Result<Rows, Status> {
        self.known(&request, metadata::table_types()).await
    }

    async fn get_flight_info_sql_info(&self, query: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request, query).await
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, request: Request<Ticket>) -> Result<Rows, Status> {
        let known = metadata::server().and_then(|server| query.into_builder(&server).build().map_err(|error| ArrowError::ExternalError(Box::new(error))));
        self.known(&request, known).await
    }

    /// Everything that is known is in [`metadata::server`].
    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
