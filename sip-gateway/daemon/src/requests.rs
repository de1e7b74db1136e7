//! What call-control asks of the gateway.

use offhook_bus::{Incoming, wall_now};
use offhook_contract::dial::Destination;
use offhook_contract::gateway::{
    AnswerTelephone, DialTelephone, GatewayInventory, GatewayInventoryRequest, HangUpTelephone, HoldTelephone,
    RingTelephone, SendDigits, TelephoneAnswered, TelephoneDialled,
};
use offhook_contract::sfu::Done;
use offhook_contract::{Context, ErrorCode, LegId, LinkAnswer, LinkOffer, Request, RequestError};
use offhook_sip_core::api::{Command, CommandError, Dial};
use offhook_sip_core::media::{LegMedia, LegMediaConfig, LegNumbers};
use offhook_wire_sdp::telephony::AudioSession;
use std::net::IpAddr;
use std::time::Duration;

use crate::gate::GateRefusal;
use crate::gateway::Gateway;
use crate::legs::{Identity, Leg, Stage};
use crate::media::{LegKey, LinkError, LinkPort, MediaOrder, PoolError, PortsError};
use crate::trunks::{Resolved, sdp_codec};

const MAX_DIGITS: usize = 32;

fn refuse(code: ErrorCode, message: impl Into<String>) -> RequestError {
    RequestError::new(code, message)
}

impl Gateway {
    /// Whether a request is about a leg that is not known here (yet).
    pub(crate) fn names_unknown_leg(&self, incoming: &Incoming) -> bool {
        let about_a_leg = [RingTelephone::NAME, AnswerTelephone::NAME, HangUpTelephone::NAME];
        // The three have more fields or fewer; the leg stands in each under the same name.
        let named = incoming.body::<RingTelephone>().ok().filter(|_| about_a_leg.contains(&incoming.name.as_str()));
        named.is_some_and(|named| !self.legs.contains(&named.leg))
    }

    pub(crate) fn answer(&mut self, incoming: Incoming) {
        match incoming.name.as_str() {
            DialTelephone::NAME => self.serve(incoming, Self::dial),
            RingTelephone::NAME => self.serve(incoming, Self::ring),
            AnswerTelephone::NAME => self.serve(incoming, Self::answer_telephone),
            HangUpTelephone::NAME => self.serve(incoming, Self::hang_up),
            SendDigits::NAME => self.serve(incoming, Self::send_digits),
            HoldTelephone::NAME => self.serve(incoming, Self::hold),
            GatewayInventoryRequest::NAME => self.serve(incoming, Self::inventory),
            _ => incoming.unsupported(),
        }
    }

    fn serve<R: Request>(
        &mut self,
        incoming: Incoming,
        work: fn(&mut Self, &Context, R) -> Result<R::Reply, RequestError>,
    ) {
        let outcome = incoming.body::<R>().and_then(|body| work(self, &incoming.context, body));
        if let Err(refusal) = &outcome {
            tracing::warn!(request = R::NAME, call = ?incoming.context.call, %refusal, "request refused");
        }
        incoming.reply::<R>(outcome);
    }

    fn dial(&mut self, context: &Context, request: DialTelephone) -> Result<TelephoneDialled, RequestError> {
        if self.lifecycle.is_draining() {
            return Err(refuse(ErrorCode::Draining, "this gateway is shutting down"));
        }
        let (Some(tenant), Some(call)) = (context.tenant.clone(), context.call.clone()) else {
            return Err(refuse(ErrorCode::Invalid, "a call needs its tenant and its id in the envelope"));
        };
        if self.legs.contains(&request.leg) {
            return Err(refuse(ErrorCode::Conflict, "the leg exists already"));
        }
        let identity = Identity { leg: request.leg.clone(), call, tenant, epoch: context.epoch };
        let trunk = self.trunk_for(&identity, &request)?;
        let number = match &request.to {
            Destination::Number(number) => trunk.plan.write_number(number),
            Destination::Emergency(digits) => digits.clone(),
        };
        let emergency = matches!(request.to, Destination::Emergency(_));
        let caller = match &request.caller_id {
            // No call for help fails for its caller ID: it leaves under the trunk's own.
            Some(caller) if emergency && !trunk.plan.numbers.is_empty() && !trunk.plan.numbers.contains(caller) => None,
            Some(caller) if !trunk.plan.numbers.is_empty() && !trunk.plan.numbers.contains(caller) => {
                return Err(refuse(ErrorCode::Refused, "the caller ID is none of the trunk's numbers"));
            }
            caller => caller.as_ref().map(|c| trunk.plan.write_number(c)),
        };
        let (media, session, link) = self.open_media(&trunk, &request.link, emergency)?;
        let dial = Dial {
            trunk: request.trunk.clone(),
            number,
            caller,
            media: session,
            ring_timeout: Duration::from_millis(u64::from(request.ring_timeout_ms)),
            // Nobody cuts a call for help.
            max_duration: (!emergency).then(|| self.longest(request.max_duration_s)),
            emergency,
        };
        let sip = match self.command(Command::Dial(dial)) {
            Ok(Some(sip)) => sip,
            Ok(None) => return Err(self.close_again(media, refuse(ErrorCode::Internal, "the call has no leg"))),
            Err(error) => return Err(self.close_again(media, not_carried_out(&error))),
        };
        let sip_call_id = self.endpoint.sip_call_id(sip).unwrap_or_default().to_owned();
        tracing::info!(call = %identity.call, leg = %identity.leg, trunk = %request.trunk, to = ?request.to, "dialling");
        self.gate.dialled(&identity.tenant, self.now());
        self.legs.insert(Leg {
            identity,
            trunk: request.trunk,
            outbound: true,
            number: Some(request.to),
            stage: Stage::Dialling,
            since: wall_now(),
            sip,
            sip_call_id: sip_call_id.clone(),
            media: Some(media),
        });
        Ok(TelephoneDialled { link, sip_call_id })
    }

    /// The trunk, if it is the tenant's and the rules allow the call.
    fn trunk_for(&mut self, identity: &Identity, request: &DialTelephone) -> Result<Resolved, RequestError> {
        let named = |t: &&Resolved| t.plan.name == request.trunk && t.plan.tenant == identity.tenant;
        let trunk = self
            .trunks
            .iter()
            .find(named)
            .cloned()
            .ok_or_else(|| refuse(ErrorCode::NotFound, format!("this tenant has no trunk {}", request.trunk)))?;
        let now = self.now();
        self.gate
            .check(&identity.tenant, &request.to, trunk.plan.emergency, now, wall_now())
            .map_err(|refusal| gate_refused(&refusal))?;
        let emergency = matches!(request.to, Destination::Emergency(_));
        if !emergency && self.calls_on(&request.trunk) >= trunk.plan.max_calls as usize {
            let message = format!("trunk {} carries its {} calls", request.trunk, trunk.plan.max_calls);
            return Err(refuse(ErrorCode::Exhausted, message));
        }
        if let Err(trouble) = &trunk.place {
            return Err(refuse(ErrorCode::NotFound, format!("trunk {} cannot be used: {trouble}", request.trunk)));
        }
        Ok(trunk)
    }

    /// Ports, Link and media state for one leg; what SIP says of it, and the answer to the SFU.
    fn open_media(
        &mut self,
        trunk: &Resolved,
        offer: &LinkOffer,
        emergency: bool,
    ) -> Result<(LegKey, AudioSession, LinkAnswer), RequestError> {
        let (local, announced): (IpAddr, IpAddr) = trunk
            .media_addresses(&self.config.net)
            .ok_or_else(|| refuse(ErrorCode::NotFound, format!("trunk {} has no address", trunk.plan.name)))?;
        let (link, streams, answer) =
            LinkPort::answer(offer, trunk.plan.codecs.clone()).map_err(|error| link_refused(&error))?;
        let pair = if emergency { self.ports.open(local) } else { self.ports.open_sparing(local) };
        let pair = pair.map_err(|error| ports_refused(&error))?;
        let port = pair.rtp.local_address().port();
        let leg = self.media.new_key();
        let opened = self.leg_media_config().and_then(|config| {
            let media = Box::new(LegMedia::new(self.media.now(), config));
            self.media.add(leg, MediaOrder::Add { leg, media, ports: Box::new(pair) }).map_err(|e| unreachable(&e))
        });
        if let Err(error) = opened {
            self.ports.release(port);
            return Err(error);
        }
        self.order(leg, MediaOrder::Link { leg, port: Box::new(link), streams });
        let codecs: Vec<_> = trunk.plan.codecs.iter().filter_map(|c| sdp_codec(*c)).collect();
        Ok((leg, AudioSession::new(announced, port, &codecs), answer))
    }

    fn leg_media_config(&self) -> Result<LegMediaConfig, RequestError> {
        let random = || getrandom::u64().map_err(|_| refuse(ErrorCode::Internal, "the system gives no randomness"));
        let (first, second, name) = (random()?, random()?, random()?);
        Ok(LegMediaConfig {
            numbers: LegNumbers { ssrc: first as u32, sequence: (first >> 32) as u16, timestamp: second as u32 },
            cname: format!("{name:016x}"),
            unix_ns_at_zero: self.unix_ns_at_zero,
            hold_prompt: self.hold_prompt.clone(),
            media_timeout: self.config.media_timeout,
        })
    }

    /// Sends an order to a leg's media thread. A thread that cannot be reached hangs; its legs end by their own means.
    pub(crate) fn order(&mut self, leg: LegKey, order: MediaOrder) {
        if let Err(error) = self.media.order(leg, order) {
            tracing::error!(%error, "order to a media thread lost");
        }
    }

    fn close_again(&mut self, leg: LegKey, error: RequestError) -> RequestError {
        self.order(leg, MediaOrder::Close { leg });
        error
    }

    fn longest(&self, asked_s: u32) -> Duration {
        Duration::from_secs(u64::from(asked_s.min(self.config.rules.max_call_s).max(1)))
    }

    /// A leg, if it is the asking tenant's. The newest epoch seen is the leg's.
    fn leg(&mut self, context: &Context, leg: &LegId) -> Result<&mut Leg, RequestError> {
        let found = self.legs.get_mut(leg).filter(|l| context.tenant.as_ref() == Some(&l.identity.tenant));
        let found = found.ok_or_else(|| refuse(ErrorCode::NotFound, "no such telephone leg here"))?;
        found.identity.epoch = context.epoch.max(found.identity.epoch);
        Ok(found)
    }

    fn ring(&mut self, context: &Context, request: RingTelephone) -> Result<Done, RequestError> {
        let leg = self.leg(context, &request.leg)?;
        let sip = leg.sip;
        if leg.stage == Stage::Dialling {
            leg.stage = Stage::Ringing;
        }
        self.command(Command::Ring { leg: sip }).map_err(|error| not_carried_out(&error))?;
        Ok(Done {})
    }

    fn answer_telephone(
        &mut self,
        context: &Context,
        request: AnswerTelephone,
    ) -> Result<TelephoneAnswered, RequestError> {
        let leg = self.leg(context, &request.leg)?;
        if leg.outbound || leg.media.is_some() {
            return Err(refuse(ErrorCode::Conflict, "the leg is not waiting for an answer"));
        }
        let (sip, name) = (leg.sip, leg.trunk.clone());
        let trunk = self
            .trunks
            .iter()
            .find(|t| t.plan.name == name)
            .cloned()
            .ok_or_else(|| refuse(ErrorCode::NotFound, format!("trunk {name} is no longer configured")))?;
        let (media, session, link) = self.open_media(&trunk, &request.link, false)?;
        self.legs.set_media(&request.leg, media);
        let max_duration = Some(self.longest(request.max_duration_s));
        match self.command(Command::Answer { leg: sip, media: session, max_duration }) {
            Ok(_) => Ok(TelephoneAnswered { link }),
            Err(error) => {
                self.legs.take_media(&request.leg);
                Err(self.close_again(media, not_carried_out(&error)))
            }
        }
    }

    fn hang_up(&mut self, context: &Context, request: HangUpTelephone) -> Result<Done, RequestError> {
        if let Ok(leg) = self.leg(context, &request.leg) {
            let sip = leg.sip;
            self.command_quietly(Command::HangUp { leg: sip, cause: request.cause });
        }
        Ok(Done {})
    }

    fn send_digits(&mut self, context: &Context, request: SendDigits) -> Result<Done, RequestError> {
        let leg = self.leg(context, &request.leg)?;
        let Some(media) = leg.media.filter(|_| !matches!(leg.stage, Stage::Dialling | Stage::Ringing)) else {
            return Err(refuse(ErrorCode::Conflict, "digits can be sent once the telephone is heard"));
        };
        let fine = |c: char| matches!(c.to_ascii_uppercase(), '0'..='9' | 'A'..='D' | '*' | '#');
        let count = request.digits.chars().count();
        if !(1..=MAX_DIGITS).contains(&count) || !request.digits.chars().all(fine) {
            return Err(refuse(ErrorCode::Invalid, "digits are 1 to 32 of 0-9, *, #, A-D"));
        }
        let order = MediaOrder::Digits { leg: media, digits: request.digits, duration_ms: request.duration_ms };
        self.order(media, order);
        Ok(Done {})
    }

    fn hold(&mut self, context: &Context, request: HoldTelephone) -> Result<Done, RequestError> {
        let leg = self.leg(context, &request.leg)?;
        let since = leg
            .stage
            .answered_at()
            .ok_or_else(|| refuse(ErrorCode::Conflict, "a leg can be held once it is answered"))?;
        leg.stage = if request.held { Stage::Held { since } } else { Stage::Talking { since } };
        if let Some(media) = leg.media {
            self.order(media, MediaOrder::Hold { leg: media, held: request.held });
        }
        Ok(Done {})
    }

    fn inventory(&mut self, _: &Context, _: GatewayInventoryRequest) -> Result<GatewayInventory, RequestError> {
        Ok(GatewayInventory { legs: self.legs.rows(), trunks: self.health.states() })
    }
}

fn gate_refused(refusal: &GateRefusal) -> RequestError {
    let code = if refusal.is_limit() { ErrorCode::Exhausted } else { ErrorCode::Refused };
    refuse(code, refusal.to_string())
}

fn link_refused(error: &LinkError) -> RequestError {
    let code = match error {
        LinkError::Offer(_) | LinkError::NoAddress(_) => ErrorCode::Invalid,
        LinkError::Key(_) | LinkError::Bind(_) | LinkError::Decoder(_) | LinkError::Random(_) => ErrorCode::Internal,
    };
    refuse(code, error.to_string())
}

fn ports_refused(error: &PortsError) -> RequestError {
    refuse(ErrorCode::Exhausted, error.to_string())
}

fn unreachable(error: &PoolError) -> RequestError {
    refuse(ErrorCode::Internal, error.to_string())
}

fn not_carried_out(error: &CommandError) -> RequestError {
    let code = match error {
        CommandError::UnknownTrunk(_) | CommandError::UnknownLeg => ErrorCode::NotFound,
        CommandError::Number(_) => ErrorCode::Invalid,
        CommandError::TooManyLegs(_) => ErrorCode::Exhausted,
        CommandError::Draining => ErrorCode::Draining,
        CommandError::NotRinging | CommandError::NoOffer | CommandError::Media(_) => ErrorCode::Conflict,
        CommandError::Trunk(_) | CommandError::UnknownSocket(_) | CommandError::Build(_) => ErrorCode::Internal,
    };
    refuse(code, error.to_string())
}
