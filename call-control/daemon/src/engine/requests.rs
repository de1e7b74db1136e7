//! The switchboard's requests on the bus.
use offhook_bus::{Bus, BusError, Target};
use offhook_contract::{Context, ErrorCode, MessageId, NodeId, Request, RequestError};
use offhook_control_core::{NodeReply, NodeRequest, RequestFailure};
use std::time::Duration;

/// Media changes are a matter of milliseconds.
const QUICK: Duration = Duration::from_secs(5);
/// Joining may have to gather addresses; dialling resolves names.
const SLOW: Duration = Duration::from_secs(10);

/// Sends one request and waits for its reply. `id` is the same for every attempt, so that none is carried out twice.
pub async fn send(
    bus: &Bus,
    id: MessageId,
    node: NodeId,
    context: Context,
    body: NodeRequest,
) -> Result<NodeReply, RequestFailure> {
    let ask = Ask { bus, id, node, context };
    match body {
        NodeRequest::OpenRoom(body) => ask.done(body).await,
        NodeRequest::JoinPeer(body) => ask.with(body, SLOW).await.map(NodeReply::PeerJoined),
        NodeRequest::OpenLink(body) => ask.with(body, QUICK).await.map(NodeReply::LinkOffer),
        NodeRequest::ConnectLink(body) => ask.done(body).await,
        NodeRequest::RemoveLeg(body) => ask.done(body).await,
        NodeRequest::CloseRoom(body) => ask.done(body).await,
        NodeRequest::MuteLeg(body) => ask.done(body).await,
        NodeRequest::HoldLeg(body) => ask.done(body).await,
        NodeRequest::OpenTap(body) => ask.with(body, QUICK).await.map(NodeReply::Tap),
        NodeRequest::CloseTap(body) => ask.done(body).await,
        NodeRequest::SfuInventory(body) => ask.with(body, QUICK).await.map(NodeReply::Sfu),
        NodeRequest::DialTelephone(body) => ask.with(body, SLOW).await.map(NodeReply::Dialled),
        NodeRequest::RingTelephone(body) => ask.done(body).await,
        NodeRequest::AnswerTelephone(body) => ask.with(body, SLOW).await.map(NodeReply::Answered),
        NodeRequest::HangUpTelephone(body) => ask.done(body).await,
        NodeRequest::SendDigits(body) => ask.done(body).await,
        NodeRequest::HoldTelephone(body) => ask.done(body).await,
        NodeRequest::GatewayInventory(body) => ask.with(body, QUICK).await.map(NodeReply::Gateway),
        NodeRequest::StartRecording(body) => ask.done(body).await,
        NodeRequest::StopRecording(body) => ask.done(body).await,
        NodeRequest::RecorderInventory(body) => ask.with(body, QUICK).await.map(NodeReply::Recorder),
    }
}

struct Ask<'a> {
    bus: &'a Bus,
    id: MessageId,
    node: NodeId,
    context: Context,
}

impl Ask<'_> {
    async fn done<R: Request<Reply = offhook_contract::sfu::Done>>(self, body: R) -> Result<NodeReply, RequestFailure> {
        self.with(body, QUICK).await.map(|_| NodeReply::Done)
    }

    async fn with<R: Request>(self, body: R, timeout: Duration) -> Result<R::Reply, RequestFailure> {
        let Self { bus, id, node, context } = self;
        let outcome = bus.request_as(id, Target::Node(node.clone()), &context, &body, timeout).await;
        outcome.map_err(|error| {
            tracing::info!(call = ?context.call, %node, request = R::NAME, %error, "request failed");
            failure(error)
        })
    }
}

fn failure(error: BusError) -> RequestFailure {
    match error {
        BusError::Refused(refusal) => RequestFailure::Refused(refusal),
        BusError::NoResponders { .. }
        | BusError::Timeout { .. }
        | BusError::Disconnected
        | BusError::Full
        | BusError::Server(_) => RequestFailure::Unreachable,
        error => RequestFailure::Refused(RequestError::new(ErrorCode::Internal, error.to_string())),
    }
}
