//! What the media threads report, as events and facts on the bus.
use crate::engine::Engine;
use offhook_bus::{Bus, Outbox};
use offhook_contract::event::LegStats;
use offhook_contract::{Context, Event, Fact, LegId};
use offhook_sfu_core::{LegFigures, News, Output};
use tokio::sync::mpsc;

/// Facts on their way into the outbox; when the disk is slow, news waits, media does not.
const FACTS: usize = 1_024;

/// Hands facts to the outbox in order, apart from the events, which need not wait for the disk.
pub struct FactWriter {
    queue: mpsc::Sender<(Context, Fact)>,
    task: tokio::task::JoinHandle<()>,
}

impl FactWriter {
    pub fn start(outbox: Outbox) -> Self {
        let (queue, mut facts) = mpsc::channel::<(Context, Fact)>(FACTS);
        let task = tokio::spawn(async move {
            while let Some((context, fact)) = facts.recv().await {
                let call = context.call.clone();
                if let Err(error) = outbox.append(&context, fact).await {
                    tracing::error!(?call, %error, "a fact was lost");
                }
            }
        });
        Self { queue, task }
    }

    async fn keep(&self, context: Context, fact: Fact) {
        // The task ends only with us.
        let _ = self.queue.send((context, fact)).await;
    }

    /// Waits until everything is on disk.
    pub async fn finish(self) {
        drop(self.queue);
        let _ = self.task.await;
    }
}

/// Tells one piece of news.
pub async fn tell(engine: &Engine, bus: &Bus, facts: &FactWriter, output: Output) {
    let Output { context, news, .. } = output;
    let call = context.call.clone();
    let context =
        Context { tenant: Some(context.tenant.clone()), call: Some(context.call.clone()), epoch: context.epoch };
    match news {
        News::PeerConnected(connected) => {
            tracing::info!(%call, leg = %connected.leg, profile = connected.srtp_profile, "browser connected");
            publish(bus, &context, &Event::PeerConnected(connected));
        }
        News::SlotChanged(changed) => publish(bus, &context, &Event::SlotChanged(changed)),
        News::LegStats(figures) => publish(bus, &context, &Event::LegStats(stats(&figures))),
        News::LegEnded { leg, cause, reason, .. } => {
            tracing::info!(%call, %leg, cause = cause.as_str(), reason, "leg ended");
            facts.keep(context, Fact::LegEnded { leg, cause, sip_status: None }).await;
        }
        News::TapClosed { recording, reason, leg } => {
            let unheard_by = leg.map(tracing::field::display);
            tracing::warn!(%call, %recording, ?reason, unheard_by, "recording tap closed");
            engine.tap_closed(&recording);
            facts.keep(context, Fact::TapClosed { recording, reason }).await;
        }
        News::Announcement { recording, leg, kind, played_ms, received: true } => {
            facts.keep(context, Fact::AnnouncementReceived { recording, leg, kind, played_ms }).await;
        }
        News::Announcement { recording, leg, kind, played_ms, received: false } => {
            tracing::warn!(%call, %leg, ?kind, "no receiver report covers the announcement");
            facts.keep(context, Fact::AnnouncementUnconfirmed { recording, leg, kind, played_ms }).await;
        }
    }
}

fn stats(figures: &LegFigures) -> LegStats {
    LegStats {
        leg: LegId::clone(&figures.leg),
        received_packets: figures.received_packets,
        lost_packets: figures.lost_packets,
        jitter_ms: figures.jitter_ms,
        round_trip_ms: figures.round_trip_ms,
        sent_packets: figures.sent_packets,
    }
}

pub fn publish(bus: &Bus, context: &Context, event: &Event) {
    if let Err(error) = bus.publish(context, event) {
        tracing::debug!(kind = event.kind(), %error, "event not published");
    }
}
