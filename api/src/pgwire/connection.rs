//! One connection: who it is, and what it asks.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::pgwire::api::auth::{self as startup, DefaultServerParameterProvider, StartupHandler};
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{FieldInfo, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{
    ClientInfo, METADATA_USER, PgWireConnectionState, PgWireServerHandlers, PidSecretKeyGenerator, RandomPidSecretKeyGenerator, Type,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::startup::Authentication;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures_util::{Sink, SinkExt};
use parking_lot::Mutex;
use rollcall_analytics::query::{Description, Question, Surroundings};
use tokio_util::sync::CancellationToken;

use super::cursor::{self, Cursors, Order};
use super::kept::Kept;
use super::late::Late;
use super::word::{self, DISCARD_ALL, Word};
use super::{answer, catalog, parameters, rows};
use crate::caller::Caller;
use crate::drivers;
use crate::problem::ApiError;
use crate::query::{self, Answer};
use crate::state::ApiState;

/// Named in the audit.
const DOOR: &str = "postgres";

/// What a client presents to cancel a query: number and secret of the connection. The secret as bytes, because the library reads one of
/// four bytes as a number on one connection and as bytes on another.
type Key = (i32, Vec<u8>);

/// The queries that run, by what a client presents to cancel one.
#[derive(Default)]
pub struct Running {
    known: Mutex<HashMap<Key, Arc<Mutex<CancellationToken>>>>,
    keys: RandomPidSecretKeyGenerator,
}

pub struct Connection {
    state: ApiState,
    running: Arc<Running>,
    has_tls: bool,
    gone: CancellationToken,
    /// Presented with every question, so that a disabled account or a changed role holds at once.
    token: Mutex<Option<String>>,
    key: Mutex<Option<Key>>,
    /// Of the query that runs.
    current: Arc<Mutex<CancellationToken>>,
    /// The catalog, and the tables that it was made for. It is kept because clients remember its numbers.
    around: Mutex<Option<(Vec<String>, Surroundings)>>,
    /// What is to be said after the rows that run.
    pub late: Late,
    cursors: Cursors,
    pub kept: Mutex<Kept>,
}

/// A statement as it is kept between its parsing and its execution.
#[derive(Clone)]
pub enum Said {
    Word(Word),
    Order(Order),
    Question { sql: String, described: Description },
}

impl Said {
    /// Columns and parameters that are described.
    pub fn columns(&self) -> usize {
        match self {
            Self::Question { described, .. } => described.columns.fields().len() + described.parameters.fields().len(),
            Self::Word(_) | Self::Order(_) => 0,
        }
    }
}

impl Connection {
    pub fn new(state: ApiState, running: Arc<Running>, has_tls: bool, gone: CancellationToken) -> Self {
        let current = Arc::new(Mutex::new(gone.child_token()));
        Self {
            state,
            running,
            has_tls,
            gone,
            token: Mutex::default(),
            key: Mutex::default(),
            current,
            around: Mutex::default(),
            late: Late::default(),
            cursors: Cursors::default(),
            kept: Mutex::default(),
        }
    }

    pub async fn caller(&self) -> Result<Caller, ApiError> {
        let token = self.token.lock().clone().ok_or(ApiError::Unauthenticated)?;
        drivers::identify(&self.state, &token).await
    }

    /// Keeps the session while the connection is open, however seldom something is asked. Never returns.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(self.state.config.driver_idle / 2).await;
            let token = self.token.lock().clone();
            if let Some(token) = token
                && let Err(error) = drivers::identify(&self.state, &token).await
            {
                // The next question is told.
                tracing::debug!(%error, "a driver's session could not be kept");
            }
        }
    }

    /// Ends the session that began with the connection. An API token as the password outlives it.
    pub async fn end(&self) {
        let Some(token) = self.token.lock().take() else { return };
        if let Err(error) = drivers::sign_out(&self.state, DOOR, &token).await {
            // It ends by itself when it is not used.
            tracing::warn!(%error, "a driver's session could not be ended with its connection");
        }
    }

    /// The catalog for whoever asks, when the text asks for it.
    fn around(&self, caller: &Caller, sql: &str) -> Result<Option<Surroundings>, ApiError> {
        if !catalog::is_meant(sql) {
            return Ok(None);
        }
        let asks = query::query_caller(&self.state, caller);
        let names: Vec<String> = self.state.queries.tables(&asks).into_iter().map(|(name, _)| name).collect();
        let mut kept = self.around.lock();
        match &*kept {
            Some((of, around)) if *of == names => Ok(Some(around.clone())),
            _ => {
                let around = self.state.queries.surroundings(&asks, |context| catalog::add(context, &caller.email))?;
                *kept = Some((names, around.clone()));
                Ok(Some(around))
            }
        }
    }

    /// What ends the query that begins now, whoever wishes it to.
    fn begin(&self) -> CancellationToken {
        let ended = self.gone.child_token();
        *self.current.lock() = ended.clone();
        self.late.lock().clear();
        ended
    }

    /// Refuses a text that is too long or too deep for whoever reads it before the engine does: the stack of this thread is small.
    pub fn admit(&self, sql: &str) -> PgWireResult<()> {
        self.state.queries.admit(sql).map_err(|error| answer::said(&error.into(), sql))
    }

    /// The rows of a question, with the columns that the client was `told` of when it was described.
    pub async fn ask<C>(
        &self,
        client: &mut C,
        sql: &str,
        values: &[ScalarValue],
        told: Option<&SchemaRef>,
        format: &Format,
    ) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let ended = self.begin();
        let answer = self.answer(client, sql, values, &ended).await?;
        answer::rows(answer, told, format, sql, ended, &self.late)
    }

    /// What comes of a statement about a cursor.
    pub async fn order<C>(&self, client: &mut C, order: Order, format: &Format) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let ended = self.begin();
        match order {
            Order::Declare { name, holds, sql } => {
                self.cursors.admit(&name)?;
                let answer = self.answer(client, &sql, &[], &ended).await?;
                self.cursors.open(name, holds, answer);
                Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
            }
            Order::Fetch { name, rows } => {
                // Who may no longer ask may not go on either.
                self.caller().await.map_err(|error| answer::said(&error, ""))?;
                self.cursors.fetch(&name, rows, format, ended, &self.late)
            }
            Order::Close(name) => {
                self.cursors.close(name.as_deref())?;
                Ok(Response::Execution(Tag::new("CLOSE CURSOR")))
            }
        }
    }

    /// Begins a question. What must be said with its rows goes to the client first.
    async fn answer<C>(&self, client: &mut C, sql: &str, values: &[ScalarValue], ended: &CancellationToken) -> PgWireResult<Answer>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let asked = async {
            let caller = self.caller().await?;
            let around = self.around(&caller, sql)?;
            let text = if around.is_some() { catalog::readable(sql) } else { sql.to_owned() };
            query::ask_with(&self.state, &caller, DOOR, &Question { sql: &text, values, around: around.as_ref(), ..Question::default() })
                .await
        };
        let answer = tokio::select! {
            biased;
            () = ended.cancelled() => return Err(PgWireError::QueryCanceled),
            asked = asked => asked.map_err(|error| answer::said(&error, sql))?,
        };
        for warning in &answer.warnings {
            client.send(PgWireBackendMessage::NoticeResponse(answer::warning(warning).into())).await?;
        }
        Ok(answer)
    }

    pub fn respond(&self, store: &impl PortalStore, word: Word) -> PgWireResult<Response> {
        match &word {
            Word::Begin => self.cursors.begin(),
            Word::Done(DISCARD_ALL) => {
                self.cursors.close(None)?;
                self.kept.lock().deallocate(store, None)?;
            }
            Word::Deallocate(name) => self.kept.lock().deallocate(store, name.as_deref())?,
            _ => {}
        }
        respond(word)
    }

    async fn describe(&self, sql: &str, types: &[Option<DataType>]) -> Result<Description, ApiError> {
        let caller = self.caller().await?;
        let around = self.around(&caller, sql)?;
        let text = if around.is_some() { catalog::readable(sql) } else { sql.to_owned() };
        query::describe(&self.state, &caller, DOOR, &Question { sql: &text, types, around: around.as_ref(), ..Question::default() }).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(key) = self.key.lock().take() {
            self.running.known.lock().remove(&key);
        }
    }
}

fn respond(word: Word) -> PgWireResult<Response> {
    match word {
        Word::Done(tag) => Ok(Response::Execution(Tag::new(tag))),
        Word::Deallocate(_) => Ok(Response::Execution(Tag::new("DEALLOCATE"))),
        Word::Begin => Ok(Response::TransactionStart(Tag::new("BEGIN"))),
        Word::End(tag) => Ok(Response::TransactionEnd(Tag::new(tag))),
        Word::Back => Ok(Response::TransactionStart(Tag::new("ROLLBACK"))),
        Word::Show(name, value) => answer::text(&name, value),
        Word::Refused(message) => Err(answer::refused(message)),
    }
}

fn fatal(code: &str, message: &str) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.to_owned())))
}

#[async_trait]
impl StartupHandler for Connection {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(ref said) => {
                if self.has_tls && !client.is_secure() && !client.socket_addr().ip().is_loopback() {
                    return Err(fatal("28000", "passwords come over TLS only: set sslmode=require"));
                }
                startup::protocol_negotiation(client, said).await?;
                startup::save_startup_parameters_to_metadata(client, said);
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                client.send(PgWireBackendMessage::Authentication(Authentication::CleartextPassword)).await?;
            }
            PgWireFrontendMessage::PasswordMessageFamily(password) => {
                let password = password.into_password()?.password;
                let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
                // An API token is a password too; whatever else is wrong with it is not told.
                let token = match drivers::identify(&self.state, &password).await {
                    Ok(_) => password,
                    Err(_) => drivers::sign_in(&self.state, DOOR, &user, password, client.socket_addr().ip())
                        .await
                        .map_err(|error| fatal("28P01", &error.to_string()))?,
                };
                *self.token.lock() = Some(token);
                let (pid, key) = self.running.keys.generate(client);
                let presented = (pid, key.to_bytes().to_vec());
                self.running.known.lock().insert(presented.clone(), self.current.clone());
                *self.key.lock() = Some(presented);
                client.set_pid_and_secret_key(pid, key);
                let mut parameters = DefaultServerParameterProvider::default();
                parameters.server_version = word::SERVER_VERSION.to_owned();
                parameters.is_superuser = false;
                parameters.default_transaction_read_only = true;
                startup::finish_authentication(client, &parameters).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[async_trait]
impl CancelHandler for Running {
    async fn on_cancel_request(&self, request: CancelRequest) {
        if let Some(current) = self.known.lock().get(&(request.pid, request.secret_key.to_bytes().to_vec())) {
            current.lock().cancel();
        }
    }
}

/// The connection as a parser, which the library takes apart from the handler.
pub struct Parser(pub Arc<Connection>);

#[async_trait]
impl QueryParser for Parser {
    type Statement = Said;

    async fn parse_sql<C>(&self, _: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Said>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        self.0.admit(sql)?;
        if let Some(order) = cursor::read(sql) {
            return Ok(Some(Said::Order(order)));
        }
        if let Some(word) = word::of(sql) {
            return Ok(Some(Said::Word(word)));
        }
        let described = self.0.describe(sql, &parameters::stated(types)).await.map_err(|error| answer::said(&error, sql))?;
        Ok(Some(Said::Question { sql: sql.to_owned(), described }))
    }

    fn get_parameter_types(&self, said: &Said) -> PgWireResult<Vec<Type>> {
        match said {
            Said::Word(_) | Said::Order(_) => Ok(Vec::new()),
            Said::Question { described, .. } => described.parameters.fields().iter().map(|field| into_pg_type(field.data_type())).collect(),
        }
    }

    fn get_result_schema(&self, said: &Said, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        match said {
            Said::Word(Word::Show(name, _)) => rows::columns(
                &arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(name, DataType::Utf8, false)]),
                format.unwrap_or(&Format::UnifiedText),
            ),
            Said::Order(Order::Fetch { name, .. }) => self.0.cursors.columns(name, format.unwrap_or(&Format::UnifiedText)),
            Said::Word(_) | Said::Order(_) => Ok(Vec::new()),
            Said::Question { described, .. } => rows::columns(&described.columns, format.unwrap_or(&Format::UnifiedText)),
        }
    }
}

/// The connection as a handler of the extended protocol, which needs to hand itself out.
pub struct Extended(pub Arc<Connection>);

/// The handlers of one connection.
pub struct Handlers(pub Arc<Connection>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.0.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::new(Extended(self.0.clone()))
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.0.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.0.running.clone()
    }
}
