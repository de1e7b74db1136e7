//! Asking call-control what to do with a call from a telephone. The caller has its 100 and waits.

use std::time::Duration;

use offhook_bus::{Bus, BusError, Target, new_message_id};
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::{Context, HangupCause};
use offhook_sip_core::api::LegHandle;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// For one attempt.
const TIMEOUT: Duration = Duration::from_secs(3);
/// For all attempts: a caller waits some seconds before it hears nothing and gives up.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// The answer, or the cause with which the call is refused.
#[derive(Debug)]
pub struct Decision {
    pub leg: LegHandle,
    pub question: RouteIncoming,
    pub route: IncomingRoute,
}

/// Asks in the background; the decision arrives at `decisions`.
pub fn ask(bus: Bus, leg: LegHandle, question: RouteIncoming, decisions: mpsc::Sender<Decision>) {
    tokio::spawn(async move {
        let route = decide(&bus, &question).await;
        // Closed means that the gateway has ended, and with it the call.
        let _ = decisions.send(Decision { leg, question, route }).await;
    });
}

async fn decide(bus: &Bus, question: &RouteIncoming) -> IncomingRoute {
    let context = Context { tenant: Some(question.tenant.clone()), call: None, epoch: None };
    let (id, give_up) = (new_message_id(), Instant::now() + PATIENCE);
    loop {
        match bus.request_as(id.clone(), Target::Any, &context, question, TIMEOUT).await {
            Ok(route) => return route,
            Err(BusError::Refused(refusal)) => {
                tracing::warn!(trunk = %question.trunk, %refusal, "call-control refused an incoming call");
                return IncomingRoute::Reject { cause: HangupCause::InternalError };
            }
            Err(error) if Instant::now() + PAUSE >= give_up => {
                tracing::warn!(trunk = %question.trunk, %error, "nobody decides about an incoming call; it is refused");
                return IncomingRoute::Reject { cause: HangupCause::Congestion };
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
