//! What SIP, the media threads and call-control's decisions bring about.

use offhook_bus::wall_now;
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::dial::Destination;
use offhook_contract::event::{DigitReceived, LegProgress, LegStats};
use offhook_contract::{Event, Fact, HangupCause};
use offhook_sip_core::api::{Command, Ended, Incoming, LegEvent, LegHandle};
use offhook_sip_core::media::{LegReport, MediaEvent, RemoteMedia};
use offhook_wire_sdp::telephony::Agreed;

use crate::gateway::Gateway;
use crate::incoming::{self, Decision};
use crate::legs::{Identity, Leg, Stage};
use crate::media::{MediaNews, MediaOrder, News};

impl Gateway {
    pub(crate) async fn leg_event(&mut self, sip: LegHandle, event: LegEvent) {
        match event {
            LegEvent::Incoming(call) => self.incoming(sip, call),
            LegEvent::Ringing => self.ringing(sip),
            LegEvent::EarlyMedia(agreed)
            | LegEvent::RemoteHeld(agreed)
            | LegEvent::RemoteResumed(agreed)
            | LegEvent::MediaChanged(agreed) => self.agreed(sip, &agreed),
            LegEvent::Answered(agreed) => self.answered(sip, &agreed).await,
            LegEvent::Digit { digit, duration_ms } => self.digit(sip, digit, u32::from(duration_ms)),
            LegEvent::Ended(ended) => self.ended(sip, ended).await,
        }
    }

    /// A telephone calls: call-control decides, the caller waits with its 100.
    fn incoming(&mut self, sip: LegHandle, call: Incoming) {
        let refuse = |gateway: &mut Self, cause, why: &str| {
            tracing::warn!(trunk = %call.trunk, why, "incoming call refused");
            gateway.command_quietly(Command::Reject { leg: sip, cause });
        };
        if self.lifecycle.is_draining() {
            return refuse(self, HangupCause::Drained, "this gateway is shutting down");
        }
        let Some(trunk) = self.trunks.iter().find(|t| t.plan.name == call.trunk) else {
            return refuse(self, HangupCause::NotFound, "its trunk is no longer configured");
        };
        let (plan, tenant) = (&trunk.plan, trunk.plan.tenant.clone());
        if self.calls_on(&call.trunk) >= plan.max_calls as usize {
            return refuse(self, HangupCause::LimitReached, "the trunk carries as many calls as max_calls allows");
        }
        let Some(to) = plan.read_number(&call.number) else {
            return refuse(self, HangupCause::NotFound, "the number called is no telephone number");
        };
        let question = RouteIncoming {
            gateway: self.node.clone(),
            trunk: call.trunk.clone(),
            tenant,
            to,
            from: call.caller.as_deref().and_then(|c| plan.read_number(c)),
            from_name: call.caller_name.clone(),
            sip_call_id: call.sip_call_id.clone(),
        };
        self.asked.insert(sip, call.trunk);
        incoming::ask(self.bus.clone(), sip, question, self.decisions.0.clone());
    }

    pub(crate) async fn decided(&mut self, decision: Decision) {
        let Decision { leg: sip, question, route } = decision;
        let still_there = self.asked.remove(&sip).is_some();
        let (call, leg) = match route {
            IncomingRoute::Accept { call, leg } => (call, leg),
            IncomingRoute::Reject { cause } => {
                if still_there {
                    self.command_quietly(Command::Reject { leg: sip, cause });
                }
                return;
            }
        };
        let identity = Identity { leg, call, tenant: question.tenant, epoch: None };
        if !still_there {
            // The caller gave up while we asked; call-control has made a call of it and must hear its end.
            let fact =
                Fact::LegEnded { leg: identity.leg.clone(), cause: HangupCause::Cancelled, sip_status: Some(487) };
            return self.facts.tell(&identity, fact).await;
        }
        tracing::info!(call = %identity.call, leg = %identity.leg, trunk = %question.trunk, "incoming call");
        self.legs.insert(Leg {
            identity,
            trunk: question.trunk,
            outbound: false,
            number: question.from.map(Destination::Number),
            stage: Stage::Dialling,
            since: wall_now(),
            sip,
            sip_call_id: question.sip_call_id,
            media: None,
        });
        self.unpark();
    }

    fn ringing(&mut self, sip: LegHandle) {
        let Some(leg) = self.legs.by_sip(sip) else { return };
        if leg.stage == Stage::Dialling {
            leg.stage = Stage::Ringing;
        }
        let (context, event) =
            (leg.identity.context(), Event::LegRinging(LegProgress { leg: leg.identity.leg.clone() }));
        self.publish(&context, &event);
    }

    /// Both sides agreed on media (again).
    fn agreed(&mut self, sip: LegHandle, agreed: &Agreed) {
        if let Some(leg) = self.legs.by_sip(sip).and_then(|l| l.media) {
            self.order(leg, MediaOrder::Remote { leg, media: RemoteMedia::from_agreed(agreed) });
        }
    }

    async fn answered(&mut self, sip: LegHandle, agreed: &Agreed) {
        self.agreed(sip, agreed);
        let since = self.now();
        let Some(leg) = self.legs.by_sip(sip) else { return };
        leg.stage = Stage::Talking { since };
        let (identity, outbound, media) = (leg.identity.clone(), leg.outbound, leg.media);
        tracing::info!(call = %identity.call, leg = %identity.leg, "answered");
        if let Some(leg) = media {
            self.order(leg, MediaOrder::Answered { leg });
        }
        if outbound {
            self.facts.tell(&identity, Fact::LegAnswered { leg: identity.leg.clone() }).await;
        }
    }

    fn digit(&mut self, sip: LegHandle, digit: char, duration_ms: u32) {
        if let Some(leg) = self.legs.by_sip(sip) {
            let (context, leg) = (leg.identity.context(), leg.identity.leg.clone());
            self.publish(&context, &Event::DigitReceived(DigitReceived { leg, digit, duration_ms }));
        }
    }

    async fn ended(&mut self, sip: LegHandle, ended: Ended) {
        self.asked.remove(&sip);
        let Some(leg) = self.legs.remove(sip) else { return };
        if let Some(media) = leg.media {
            self.order(media, MediaOrder::Close { leg: media });
        }
        let identity = leg.identity;
        tracing::info!(
            call = %identity.call, leg = %identity.leg, trunk = %leg.trunk,
            cause = ended.cause.as_str(), by = ?ended.by, status = ?ended.sip_code, "leg ended"
        );
        if leg.outbound {
            let spoken = leg.stage.answered_at().map(|at| self.now().saturating_sub(at)).unwrap_or_default();
            self.gate.ended(&identity.tenant, spoken, wall_now());
        }
        let fact = Fact::LegEnded { leg: identity.leg.clone(), cause: ended.cause, sip_status: ended.sip_code };
        self.facts.tell(&identity, fact).await;
    }

    pub(crate) async fn hear(&mut self, news: MediaNews) {
        match news.news {
            News::Closed { rtp_port } => {
                self.ports.release(rtp_port);
                self.media.closed(news.leg);
            }
            News::Report(report) => self.tell_report(&news, &report),
            News::Event(MediaEvent::FirstPacket) => self.first_packet(&news),
            News::Event(MediaEvent::Digit(digit)) => {
                if let Some(sip) = self.legs.by_media(news.leg).map(|l| l.sip) {
                    self.digit(sip, digit.key, digit.duration_ms);
                }
            }
            News::Event(MediaEvent::MediaLost) => {
                if let Some(leg) = self.legs.by_media(news.leg) {
                    tracing::warn!(leg = %leg.identity.leg, call = %leg.identity.call, "nothing heard from the telephone any more");
                    let sip = leg.sip;
                    self.command_quietly(Command::HangUp { leg: sip, cause: HangupCause::MediaLost });
                }
            }
        }
    }

    /// Something is heard before the answer: not the SDP but the first packet says so (RFC 3960 §3.2).
    fn first_packet(&mut self, news: &MediaNews) {
        let Some(leg) = self.legs.by_media(news.leg) else { return };
        if !leg.outbound || leg.stage.answered_at().is_some() {
            return;
        }
        leg.stage = Stage::Early;
        let (context, leg) = (leg.identity.context(), leg.identity.leg.clone());
        self.publish(&context, &Event::LegEarlyMedia(LegProgress { leg }));
    }

    fn tell_report(&mut self, news: &MediaNews, report: &LegReport) {
        let Some(leg) = self.legs.by_media(news.leg) else { return };
        let (context, leg) = (leg.identity.context(), leg.identity.leg.clone());
        let stats = LegStats {
            leg,
            received_packets: report.received_packets,
            lost_packets: report.lost_packets,
            jitter_ms: report.jitter_ms,
            round_trip_ms: report.round_trip_ms,
            sent_packets: report.sent_packets,
        };
        self.publish(&context, &Event::LegStats(stats));
    }
}
