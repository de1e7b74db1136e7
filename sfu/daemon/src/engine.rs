//! The signalling side: which room lives on which media thread, and each request turned into commands.
use crate::clock::MediaClock;
use crate::config::SfuConfig;
use crate::dtls::DtlsServers;
use crate::media::{MediaThread, StartThreadError};
use crate::outputs::{OutputReceiver, outputs};
use crate::prompts::Prompts;
use crate::tap_sink::LinkTap;
use offhook_contract::sfu::*;
use offhook_contract::{
    BootId, CodecName, Context, ErrorCode, HangupCause, LinkOffer, LinkProfile, RecordingId, RequestError, RoomId,
    UnixMs,
};
use offhook_link::{HostThreads, TapHub, TapSubject, generate_link_key, neighbourhood, srtp_key};
use offhook_media::EncodedPrompt;
use offhook_runtime::config::Net;
use offhook_sfu_core::{
    Command, ConnectPlan, JoinSecrets, LinePlan, LinkPlan, Reply, RoomContext, ShardOptions, TapPlan, negotiate,
};
use offhook_wire_sdp::webrtc::IceCredentials;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Slots of a Link, as many as a browser has by default.
const LINK_SLOTS: usize = 4;
const WORDS: usize = 64;

pub struct Engine {
    threads: Vec<MediaThread>,
    net: Net,
    clock: MediaClock,
    boot: BootId,
    dtls: DtlsServers,
    prompts: Prompts,
    taps: TapHub,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rooms: HashMap<RoomId, usize>,
    offers: HashMap<RecordingId, (RoomId, TapOffer)>,
    draining: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("no randomness: {0}")]
struct NoRandomness(getrandom::Error);

impl From<NoRandomness> for RequestError {
    fn from(error: NoRandomness) -> Self {
        internal(error)
    }
}

fn internal(error: impl std::fmt::Display) -> RequestError {
    RequestError::new(ErrorCode::Internal, error.to_string())
}

fn invalid(error: impl std::fmt::Display) -> RequestError {
    RequestError::new(ErrorCode::Invalid, error.to_string())
}

/// What an engine is made of.
pub struct Parts {
    pub config: SfuConfig,
    pub clock: MediaClock,
    pub boot: BootId,
    pub dtls: DtlsServers,
    pub prompts: Prompts,
    pub hold: Arc<EncodedPrompt>,
    pub taps: TapHub,
    /// Told of the media threads, which take guests in.
    pub hosts: Option<HostThreads>,
}

impl Engine {
    pub fn start(parts: Parts) -> Result<(Self, OutputReceiver), StartThreadError> {
        let (sender, receiver) = outputs();
        let mut seed = [0; 8];
        // Without randomness the table of refusals is merely predictable; joins fail by themselves.
        let _ = getrandom::fill(&mut seed);
        let options = ShardOptions {
            legs_max: parts.config.legs_max,
            ..ShardOptions::new(Arc::clone(&parts.hold), u64::from_ne_bytes(seed))
        };
        let locals: Vec<IpAddr> = parts.config.net.public_addresses.iter().map(|address| address.local).collect();
        let start = |(index, plan): (usize, &crate::config::ThreadPlan)| {
            let name = format!("sfu-media-{index}");
            MediaThread::start(name, (&plan.listen, &locals), options.clone(), parts.clock, sender.clone())
        };
        let threads = parts.config.threads.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        if let Some(hosts) = &parts.hosts {
            let each: Vec<_> = threads.iter().map(|thread| (thread.host.clone(), thread.names.clone())).collect();
            threads.iter().zip(neighbourhood(&each)).for_each(|(thread, neighbours)| thread.meet(neighbours));
            hosts.publish(each.into_iter().map(|(host, _)| host).collect());
        }
        let Parts { config, clock, boot, dtls, prompts, taps, .. } = parts;
        let state = Mutex::default();
        Ok((Self { threads, net: config.net, clock, boot, dtls, prompts, taps, state }, receiver))
    }

    /// Connections to the Tap listener that named no Tap of ours.
    pub fn taps_refused(&self) -> u64 {
        self.taps.refused()
    }

    pub fn threads(&self) -> &[MediaThread] {
        &self.threads
    }

    pub const fn clock(&self) -> MediaClock {
        self.clock
    }

    /// Every address at which media arrives: as announced, and as bound behind a 1:1 NAT.
    pub fn media_addresses(&self) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for bound in self.threads.iter().flat_map(|thread| &thread.addresses) {
            all.extend(self.net.announced_all(*bound));
            all.extend(self.local_addresses(*bound));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn local_addresses(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        if !bound.ip().is_unspecified() {
            return vec![bound];
        }
        let family = self.net.public_addresses.iter().filter(|a| a.local.is_ipv4() == bound.is_ipv4());
        family.map(|address| SocketAddr::new(address.local, bound.port())).collect()
    }

    pub fn load(&self) -> usize {
        self.threads.iter().map(|thread| thread.stats.read().gauges).map(|g| g.peers + g.links).sum()
    }

    /// New rooms are refused from now on.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    pub async fn end_all(&self, cause: HangupCause) {
        for thread in &self.threads {
            let _ = thread.ask(Command::EndAll { cause }).await;
        }
        let mut state = self.lock();
        state.rooms.clear();
        state.offers.clear();
    }

    /// The media clock on the wall clock, told to every thread.
    pub async fn set_clock(&self, wall: UnixMs) {
        for thread in &self.threads {
            let _ = thread.ask(Command::SetClock { at: self.clock.now(), wall }).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread_of(&self, room: &RoomId) -> Result<&MediaThread, RequestError> {
        let index = self.lock().rooms.get(room).copied();
        index
            .and_then(|index| self.threads.get(index))
            .ok_or_else(|| RequestError::new(ErrorCode::NotFound, format!("room {room} is not open here")))
    }

    pub async fn open_room(&self, context: &Context, request: OpenRoom, now: UnixMs) -> Result<Done, RequestError> {
        let (Some(tenant), Some(call)) = (context.tenant.clone(), context.call.clone()) else {
            return Err(invalid("a room belongs to a tenant and a call; the envelope names none"));
        };
        let index = self.place(&request.room)?;
        let thread = self.threads.get(index).ok_or_else(|| internal("no media thread"))?;
        let context = RoomContext { tenant, call, epoch: context.epoch };
        let room = request.room.clone();
        let command = Command::OpenRoom { room, kind: request.kind, context, opened_ms: now };
        thread.ask(command).await?;
        self.lock().rooms.insert(request.room, index);
        Ok(Done {})
    }

    /// The room's thread, or the one with the fewest legs.
    fn place(&self, room: &RoomId) -> Result<usize, RequestError> {
        let state = self.lock();
        if let Some(index) = state.rooms.get(room) {
            return Ok(*index);
        }
        if state.draining {
            return Err(RequestError::new(ErrorCode::Draining, "this SFU is shutting down and takes no new rooms"));
        }
        let rooms_on = |index: usize| state.rooms.values().filter(|other| **other == index).count();
        let load = |(index, thread): &(usize, &MediaThread)| {
            let gauges = thread.stats.read().gauges;
            (gauges.peers + gauges.links, rooms_on(*index))
        };
        let least = self.threads.iter().enumerate().min_by_key(load);
        least.map(|(index, _)| index).ok_or_else(|| internal("no media thread"))
    }

    pub async fn join_peer(&self, request: JoinPeer) -> Result<PeerJoined, RequestError> {
        let thread = self.thread_of(&request.room)?;
        let candidates = thread.addresses.iter().flat_map(|bound| self.net.announced_all(*bound)).collect();
        let joined = negotiate(&request.offer_sdp, secrets()?, self.dtls.fingerprint(), candidates).map_err(invalid)?;
        let command = Command::AddPeer {
            room: request.room,
            leg: request.leg,
            plan: Box::new(joined.plan),
            dtls: self.dtls.server(),
            emergency: request.emergency,
        };
        thread.ask(command).await?;
        Ok(PeerJoined {
            answer_sdp: joined.answer_sdp,
            slot_mids: joined.slot_mids,
            announcer_mid: joined.announcer_mid,
        })
    }

    pub async fn open_link(&self, request: OpenLink) -> Result<LinkOffer, RequestError> {
        let thread = self.thread_of(&request.room)?;
        let key = generate_link_key(LinkProfile::AeadAes128Gcm).map_err(internal)?;
        let words = random_words()?;
        let mut words = words.into_iter().filter(|word| *word != 0);
        let mut word = || words.next().ok_or_else(|| internal("too little randomness"));
        let mut line = || -> Result<LinePlan, RequestError> {
            Ok(LinePlan { ssrc: word()?, first_sequence: (word()? & 0x7fff) as u16, first_timestamp: word()? })
        };
        let slots = (0..LINK_SLOTS).map(|_| line()).collect::<Result<Vec<_>, _>>()?;
        let announcer = line()?;
        let (report_ssrc, source_id) = (word()?, word()?);
        let codecs = vec![CodecName::Opus, CodecName::Pcmu, CodecName::Pcma];
        let addresses = thread.addresses.iter();
        let mut addresses: Vec<SocketAddr> = addresses
            .flat_map(|bound| self.local_addresses(*bound).into_iter().chain(self.net.announced_all(*bound)))
            .collect();
        let mut seen = Vec::new();
        addresses.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        let plan = LinkPlan {
            key: srtp_key(&key).map_err(internal)?,
            slots,
            announcer,
            report_ssrc,
            source_id,
            codecs: codecs.clone(),
        };
        let offer = LinkOffer {
            addresses,
            key,
            slot_ssrcs: plan.slots.iter().map(|slot| slot.ssrc).collect(),
            announcer_ssrc: announcer.ssrc,
            codecs,
            source_id,
        };
        let OpenLink { room, leg, emergency } = request;
        thread.ask(Command::OpenLink { room, leg, plan: Box::new(plan), emergency }).await?;
        Ok(offer)
    }

    pub async fn connect_link(&self, request: ConnectLink) -> Result<Done, RequestError> {
        let thread = self.thread_of(&request.room)?;
        let reachable = |remote: &&SocketAddr| {
            let bound = thread.addresses.iter().any(|own| own.is_ipv4() == remote.is_ipv4());
            bound && !remote.ip().is_unspecified() && remote.port() != 0
        };
        let remote = request.answer.addresses.iter().find(reachable).copied();
        let remote = remote.ok_or_else(|| invalid("the link's answer has no address that this SFU could send to"))?;
        let plan = ConnectPlan {
            remote,
            key: srtp_key(&request.answer.key).map_err(invalid)?,
            ssrc: request.answer.ssrc,
            codecs: request.answer.codecs,
        };
        thread.ask(Command::ConnectLink { room: request.room, leg: request.leg, plan: Box::new(plan) }).await?;
        Ok(Done {})
    }

    pub async fn remove_leg(&self, request: RemoveLeg) -> Result<Done, RequestError> {
        if let Ok(thread) = self.thread_of(&request.room) {
            thread.ask(Command::RemoveLeg { room: request.room, leg: request.leg }).await?;
        }
        Ok(Done {})
    }

    pub async fn close_room(&self, request: CloseRoom) -> Result<Done, RequestError> {
        if let Ok(thread) = self.thread_of(&request.room) {
            thread.ask(Command::CloseRoom { room: request.room.clone() }).await?;
            let mut state = self.lock();
            state.rooms.remove(&request.room);
            state.offers.retain(|_, (room, _)| *room != request.room);
        }
        Ok(Done {})
    }

    pub async fn mute_leg(&self, request: MuteLeg) -> Result<Done, RequestError> {
        let MuteLeg { room, leg, muted } = request;
        self.thread_of(&room)?.ask(Command::MuteLeg { room, leg, muted }).await?;
        Ok(Done {})
    }

    pub async fn hold_leg(&self, request: HoldLeg) -> Result<Done, RequestError> {
        let HoldLeg { room, leg, held } = request;
        self.thread_of(&room)?.ask(Command::HoldLeg { room, leg, held }).await?;
        Ok(Done {})
    }

    pub async fn open_tap(&self, context: &Context, request: OpenTap, wall: UnixMs) -> Result<TapOffer, RequestError> {
        let known = self.lock().offers.get(&request.recording).cloned();
        if let Some((room, offer)) = known
            && room == request.room
        {
            return Ok(offer);
        }
        let thread = self.thread_of(&request.room)?;
        let (Some(tenant), Some(call)) = (context.tenant.clone(), context.call.clone()) else {
            return Err(invalid("a recording belongs to a tenant and a call; the envelope names none"));
        };
        let notice = self.prompts.prompt(&request.notice).await?;
        let beep = self.prompts.beep(&request.beep).await?;
        let period = Duration::from_millis(u64::from(request.beep.period_ms));
        if period <= Duration::from_millis(u64::from(beep.duration_ms())) {
            return Err(invalid("the beeps' period is shorter than a beep"));
        }
        let recorder = request.recorder_fingerprint.parse().map_err(invalid)?;
        thread.ask(Command::CheckTap { room: request.room.clone() }).await?;
        let subject = TapSubject {
            recording: request.recording.clone(),
            room: request.room.clone(),
            call,
            tenant,
            clock: self.boot.clone(),
            recorder,
        };
        let opened = self
            .taps
            .open(subject, self.clock.now().0, wall)
            .map_err(|error| RequestError::new(ErrorCode::Conflict, error.to_string()))?;
        let plan = TapPlan {
            recording: request.recording.clone(),
            notice,
            beep,
            period,
            sink: Box::new(LinkTap(opened.writer)),
        };
        thread.ask(Command::OpenTap { room: request.room.clone(), plan: Box::new(plan) }).await?;
        self.lock().offers.insert(request.recording, (request.room, opened.offer.clone()));
        Ok(opened.offer)
    }

    pub async fn close_tap(&self, request: CloseTap) -> Result<Done, RequestError> {
        self.tap_closed(&request.recording);
        if let Ok(thread) = self.thread_of(&request.room) {
            thread.ask(Command::CloseTap { room: request.room, recording: request.recording }).await?;
        }
        Ok(Done {})
    }

    /// Its token opens nothing any more.
    pub fn tap_closed(&self, recording: &RecordingId) {
        self.lock().offers.remove(recording);
    }

    pub async fn inventory(&self) -> Result<SfuInventory, RequestError> {
        let mut rooms = Vec::new();
        for thread in &self.threads {
            if let Reply::Inventory(rows) = thread.ask(Command::Inventory).await? {
                rooms.extend(rows);
            }
        }
        Ok(SfuInventory { rooms })
    }
}

fn random_words() -> Result<Vec<u32>, NoRandomness> {
    let mut bytes = [0; WORDS * 4];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect())
}

fn secrets() -> Result<JoinSecrets, RequestError> {
    /// The 64 `ice-char`s (RFC 8839 §5.4): six bits each.
    const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = [0; 8 + 48];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    let (session, letters) = bytes.split_at(8);
    let text = |part: &[u8]| -> String {
        part.iter().filter_map(|byte| ICE_CHARS.get(usize::from(byte & 63))).map(|c| char::from(*c)).collect()
    };
    let (ufrag, pwd) = letters.split_at(16);
    Ok(JoinSecrets {
        ice: IceCredentials::new(text(ufrag), text(pwd)).map_err(internal)?,
        session_id: session.try_into().map_or(1, u64::from_ne_bytes),
        words: random_words()?,
    })
}
