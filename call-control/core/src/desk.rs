//! Everything around the calls that handling one of them needs: outputs, timers, nodes, requests under way.
use crate::call::Call;
use crate::ids::{IdMaker, Now, RequestId, Tag};
use crate::output::{CommandError, CommandReply, NodeRequest, Output};
use crate::place::Nodes;
use crate::policy::Policy;
use crate::rows::{CallEventRow, Write};
use crate::timers::{TimerKey, Timers};
use offhook_contract::{CallId, DaemonKind, LegId, NodeId, RecordingId, TenantId, UnixMs};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Desk {
    pub policy: Policy,
    pub nodes: Nodes,
    pub ids: IdMaker,
    pub timers: Timers,
    pub out: VecDeque<Output>,
    pub pending: HashMap<RequestId, Pending>,
    /// Calls that an input touched: their rows and views are compared afterwards.
    pub touched: BTreeSet<CallId>,
    next_request: RequestId,
    /// Part of the ids of story lines, so that two lives of the daemon never make the same.
    life: String,
}

/// A request that waits for its reply, or for its next attempt.
#[derive(Debug)]
pub(crate) struct Pending {
    pub call: Option<CallId>,
    pub tenant: Option<TenantId>,
    pub node: NodeId,
    pub step: Step,
    /// What to send again when the node cannot be reached, and how often still.
    pub again: Option<(NodeRequest, u8)>,
}

/// What a reply is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    OpenRoom,
    CloseRoom,
    Join {
        leg: LegId,
        tag: Tag,
        offer_sdp: String,
    },
    OpenLink {
        leg: LegId,
    },
    ConnectLink {
        leg: LegId,
    },
    Dial {
        leg: LegId,
    },
    Ring {
        leg: LegId,
        attempt: u8,
    },
    Answer {
        leg: LegId,
    },
    HangUp {
        leg: LegId,
    },
    Mute {
        leg: LegId,
        muted: bool,
        tag: Option<Tag>,
    },
    Hold {
        leg: LegId,
        by: LegId,
        held: bool,
        tag: Option<Tag>,
    },
    Digits {
        by: LegId,
        tag: Tag,
    },
    OpenTap {
        recording: RecordingId,
    },
    StartRecording {
        recording: RecordingId,
    },
    CloseTap {
        recording: RecordingId,
    },
    StopRecording {
        recording: RecordingId,
    },
    /// `anew`: the node was started anew under our eyes, so what it lacks is gone for certain. Otherwise a fact that
    /// says more may still be on its way.
    Inventory {
        asked: Duration,
        anew: bool,
    },
    EndOrphan,
}

/// For about a minute: longer than a bus server's restart, shorter than anybody's patience.
const ATTEMPTS: u8 = 20;

impl Desk {
    pub fn new(policy: Policy, mut ids: IdMaker, now: Now) -> Self {
        let life = ids.uuid(now.wall).simple().to_string();
        Self {
            policy,
            nodes: Nodes::default(),
            ids,
            timers: Timers::default(),
            out: VecDeque::new(),
            pending: HashMap::new(),
            touched: BTreeSet::new(),
            next_request: 1,
            life,
        }
    }

    fn send(&mut self, pending: Pending, body: NodeRequest) {
        let id = self.next_request;
        self.next_request += 1;
        self.out.push_back(Output::Request {
            id,
            node: pending.node.clone(),
            tenant: pending.tenant.clone(),
            call: pending.call.clone(),
            body,
        });
        self.pending.insert(id, pending);
    }

    pub fn request(&mut self, call: &mut Call, node: NodeId, body: NodeRequest, step: Step) {
        call.in_flight += 1;
        let (tenant, id) = (Some(call.tenant.clone()), Some(call.id.clone()));
        self.send(Pending { call: id, tenant, node, step, again: None }, body);
    }

    /// The same, sent again while the node cannot be reached: for what must come true sooner or later.
    pub fn insist(&mut self, call: &mut Call, node: NodeId, body: NodeRequest, step: Step) {
        call.in_flight += 1;
        let (tenant, id) = (Some(call.tenant.clone()), Some(call.id.clone()));
        let again = Some((body.clone(), ATTEMPTS));
        self.send(Pending { call: id, tenant, node, step, again }, body);
    }

    pub fn ask_inventory(&mut self, now: Now, node: NodeId, kind: DaemonKind, anew: bool) {
        use offhook_contract::{gateway, recorder, sfu};
        let body = match kind {
            DaemonKind::Sfu => NodeRequest::SfuInventory(sfu::SfuInventoryRequest {}),
            DaemonKind::Sip => NodeRequest::GatewayInventory(gateway::GatewayInventoryRequest {}),
            DaemonKind::Recorder => NodeRequest::RecorderInventory(recorder::RecorderInventoryRequest {}),
            DaemonKind::Turn | DaemonKind::Control => return,
        };
        let step = Step::Inventory { asked: now.at, anew };
        self.send(Pending { call: None, tenant: None, node, step, again: None }, body);
    }

    /// Ends what no call owns.
    pub fn end_orphan(&mut self, node: NodeId, tenant: TenantId, call: CallId, body: NodeRequest) {
        self.send(Pending { call: Some(call), tenant: Some(tenant), node, step: Step::EndOrphan, again: None }, body);
    }

    /// The request could not be delivered: arranges the next attempt, or gives the pending step back as failed.
    pub fn retry_later(&mut self, now: Now, id: RequestId, mut pending: Pending) -> Option<Pending> {
        match pending.again.as_mut() {
            Some((_, left)) if *left > 0 => {
                *left -= 1;
                self.pending.insert(id, pending);
                self.timers.set(TimerKey::Retry(id), now.at + self.policy.retry_after);
                None
            }
            _ => Some(pending),
        }
    }

    pub fn retry_now(&mut self, id: RequestId) {
        if let Some(pending) = self.pending.get(&id)
            && let Some((body, _)) = &pending.again
        {
            self.out.push_back(Output::Request {
                id,
                node: pending.node.clone(),
                tenant: pending.tenant.clone(),
                call: pending.call.clone(),
                body: body.clone(),
            });
        }
    }

    pub fn reply(&mut self, tag: Tag, result: Result<CommandReply, CommandError>) {
        self.out.push_back(Output::Reply { tag, result });
    }
    pub fn refuse(&mut self, tag: Tag, error: CommandError) {
        self.reply(tag, Err(error));
    }
    pub fn write(&mut self, write: Write) {
        self.out.push_back(Output::Write(write));
    }

    /// Appends a line to the call's story.
    pub fn story(
        &mut self,
        call: &mut Call,
        at: UnixMs,
        kind: &'static str,
        leg: Option<&LegId>,
        data: serde_json::Value,
    ) {
        call.told.events += 1;
        let id = format!("{}:{}", self.life, call.told.events);
        let (tenant, call) = (call.tenant.clone(), call.id.clone());
        self.write(Write::Event(CallEventRow { tenant, call, id, at, kind, leg: leg.cloned(), data }));
    }

    pub fn clear_call_timers(&mut self, call: &Call) {
        self.timers.clear(&TimerKey::Ring(call.id.clone()));
        self.timers.clear(&TimerKey::MaxDuration(call.id.clone()));
        self.timers.clear(&TimerKey::RecordingDue(call.id.clone()));
        self.timers.clear(&TimerKey::RecorderDue(call.id.clone()));
        for leg in &call.legs {
            self.timers.clear(&TimerKey::PageGone(call.id.clone(), leg.id.clone()));
            self.timers.clear(&TimerKey::MediaDue(call.id.clone(), leg.id.clone()));
        }
    }
}

/// Strikes against rooms, legs and recordings that no call owns.
#[derive(Debug, Default)]
pub(crate) struct Strikes(HashMap<(NodeId, String), u8>);

impl Strikes {
    /// Counts a look that found an ownerless thing; true once it is to be ended.
    pub fn add(&mut self, node: &NodeId, thing: &str) -> bool {
        let count = self.0.entry((node.clone(), thing.to_owned())).or_insert(0);
        *count = count.saturating_add(1);
        *count >= 2
    }
    /// Forgets the things of `node` that are not among `seen` any more.
    pub fn keep(&mut self, node: &NodeId, seen: &BTreeSet<String>) {
        self.0.retain(|(n, thing), _| n != node || seen.contains(thing));
    }
    /// Forgets nodes that are not there any more.
    pub fn keep_nodes(&mut self, nodes: &Nodes) {
        self.0.retain(|(node, _), _| nodes.get(node).is_some());
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
