//! `Execute`: the rows of a portal, sent as they come.
//!
//! The library's own way makes room for as many rows as the client says it will take, and holds all of them before it sends the first
//! when the client says nothing. Here a client that does not read holds up the query, and a portal keeps no rows but those of one batch.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::portal::{Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, send_partial_query_response};
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::Execute;
use datafusion_postgres::pgwire::messages::response::EmptyQueryResponse;
use futures_util::{Sink, SinkExt};

use super::connection::{Extended, Parser, Said};
use super::late::Telling;
use super::{answer, parameters, statements};

#[async_trait]
impl ExtendedQueryHandler for Extended {
    type Statement = Said;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser(self.0.clone()))
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Said>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => {
                let sent = self.send(&mut Telling { client: &mut *client, late: &self.0.late }, &portal, message.max_rows).await;
                if sent.is_err() {
                    // What is left of its rows is not what was asked for.
                    client.portal_store().rm_portal(name);
                }
                sent?;
            }
            Some(Entry::Empty) => client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?,
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Said>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Said>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match &portal.statement.statement {
            Said::Word(word) => self.0.respond(client.portal_store(), word.clone()),
            Said::Order(order) => self.0.order(client, order.clone(), &portal.result_column_format).await,
            Said::Question { sql, described } => {
                let values = parameters::values(portal, described)?;
                self.0.ask(client, sql, &values, Some(&described.columns), &portal.result_column_format).await
            }
        }
    }
}

impl Extended {
    /// Sends the next rows of a portal: `rows_max` of them, all when that is none or less.
    async fn send<C>(&self, client: &mut C, portal: &Portal<Said>, rows_max: i32) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Said>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            match self.do_query(client, portal, 0).await? {
                Response::Query(rows) => *state = PortalExecutionState::Suspended(rows),
                done => return statements::tell(client, done).await,
            }
        } else {
            // Who may no longer ask may not go on either.
            self.0.caller().await.map_err(|error| answer::said(&error, ""))?;
        }
        match &mut *state {
            PortalExecutionState::Suspended(rows) => {
                let is_suspended = send_partial_query_response(client, rows, usize::try_from(rows_max).unwrap_or_default()).await?;
                if !is_suspended {
                    *state = PortalExecutionState::Finished;
                }
            }
            _ => client.send(PgWireBackendMessage::CommandComplete(Tag::new("SELECT").with_rows(0).into())).await?,
        }
        Ok(())
    }
}
