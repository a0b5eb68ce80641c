//! The statements of a text without parameters, one after the other: each begins when the rows of the one before it were sent, as an
//! account has a few turns only.

use std::fmt::Debug;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::query::{SimpleQueryHandler, send_execution_response, send_query_response, send_ready_for_query};
use datafusion_postgres::pgwire::api::results::Response;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::EmptyQueryResponse;
use datafusion_postgres::pgwire::messages::simplequery::Query;
use futures_util::{Sink, SinkExt};

use super::connection::Connection;
use super::late::Telling;
use super::{answer, cursor, word};

#[async_trait]
impl SimpleQueryHandler for Connection {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        let client = &mut Telling { client, late: &self.late };
        client.set_state(PgWireConnectionState::QueryInProgress);
        self.admit(&query.query)?;
        if query.query.chars().all(|character| character == ';' || character.is_whitespace()) {
            client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        } else {
            for sql in word::split(&query.query) {
                for response in self.do_query(client, &sql).await? {
                    match response {
                        Response::Query(rows) => send_query_response(client, rows, true).await?,
                        done => tell(client, done).await?,
                    }
                }
            }
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let status = client.transaction_status();
        send_ready_for_query(client, status).await
    }

    /// Begins one statement.
    async fn do_query<C>(&self, client: &mut C, sql: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let response = match (cursor::read(sql), word::of(sql)) {
            (Some(order), _) => self.order(client, order, &Format::UnifiedText).await?,
            (None, Some(word)) => self.respond(client.portal_store(), word)?,
            (None, None) => self.ask(client, sql, &[], None, &Format::UnifiedText).await?,
        };
        Ok(vec![response])
    }
}

/// Says that a statement without rows is done, and in which transaction the connection is after it.
pub async fn tell<C>(client: &mut C, done: Response) -> PgWireResult<()>
where
    C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::PortalStore: PortalStore,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let status = client.transaction_status();
    let (tag, status) = match done {
        Response::Execution(tag) => (tag, status),
        Response::TransactionStart(tag) => (tag, status.to_in_transaction_state()),
        Response::TransactionEnd(tag) => {
            // The portal without a name ends with the transaction.
            client.portal_store().rm_portal(DEFAULT_NAME);
            (tag, status.to_idle_state())
        }
        _ => return Err(answer::refused("a statement of this kind is not answered here".to_owned())),
    };
    send_execution_response(client, tag).await?;
    client.set_transaction_status(status);
    Ok(())
}
