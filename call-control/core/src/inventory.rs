//! What the nodes say they carry, against what we own: calls whose media is gone end, and what no call owns is ended
//! after two looks.
use crate::board::Switchboard;
use crate::call::{Call, Room};
use crate::ending::{End, end_call};
use crate::ids::Now;
use crate::input::NodeReply;
use crate::leg::{Leg, Party, PeerMedia, TelephoneMedia};
use crate::media::{link_seen, peer_connected, room_lost};
use crate::output::NodeRequest;
use crate::recording::recorder_seen;
use crate::timers::TimerKey;
use offhook_contract::gateway::{HangUpTelephone, TelephoneLegRow};
use offhook_contract::recorder::{RecordingRow, RecordingState, StopRecording};
use offhook_contract::sfu::{CloseRoom, LegTransport, RoomRow};
use offhook_contract::{HangupCause, LegId, NodeId, NodeRow};
use std::collections::BTreeSet;
use std::time::Duration;

impl Switchboard {
    pub(crate) fn nodes_changed(&mut self, now: Now, rows: Vec<NodeRow>) {
        for (node, kind, anew) in self.desk.nodes.replace(rows) {
            self.desk.ask_inventory(now, node, kind, anew);
        }
    }

    pub(crate) fn sweep(&mut self, now: Now) {
        self.strikes.keep_nodes(&self.desk.nodes);
        let nodes: Vec<_> = self.desk.nodes.all().map(|n| (n.node.clone(), n.kind)).collect();
        for (node, kind) in nodes {
            self.desk.ask_inventory(now, node, kind, false);
        }
    }

    pub(crate) fn inventory(&mut self, now: Now, node: &NodeId, asked: Duration, anew: bool, reply: Option<NodeReply>) {
        match reply {
            Some(NodeReply::Sfu(inventory)) => self.rooms_seen(now, node, asked, anew, &inventory.rooms),
            Some(NodeReply::Gateway(inventory)) => self.telephones_seen(now, node, asked, anew, &inventory.legs),
            Some(NodeReply::Recorder(inventory)) => self.recordings_seen(now, node, asked, &inventory.recordings),
            _ => {}
        }
    }

    fn rooms_seen(&mut self, now: Now, node: &NodeId, asked: Duration, anew: bool, rooms: &[RoomRow]) {
        let mut seen = BTreeSet::new();
        for row in rooms {
            seen.insert(row.room.as_str().to_owned());
            let owner = self.calls.get_mut(&row.call).filter(|c| c.tenant == row.tenant && c.sfu() == Some(node));
            if let Some(call) = owner {
                room_seen(call, &mut self.desk, now, asked, anew, row);
                self.desk.touched.insert(row.call.clone());
            } else if self.strikes.add(node, row.room.as_str()) {
                let body = NodeRequest::CloseRoom(CloseRoom { room: row.room.clone() });
                self.desk.end_orphan(node.clone(), row.tenant.clone(), row.call.clone(), body);
            }
        }
        self.strikes.keep(node, &seen);
        for call in self.calls.values_mut().filter(|c| c.is_live()) {
            let Room::Open { sfu, since } = &call.room else { continue };
            if sfu != node || *since >= asked || seen.contains(call.room_id().as_str()) {
                continue;
            }
            call.room_missed = if anew { u8::MAX } else { call.room_missed.saturating_add(1) };
            if call.room_missed >= 2 {
                call.room_missed = 0;
                room_lost(call, &mut self.desk, now);
                self.desk.touched.insert(call.id.clone());
            }
        }
    }

    fn telephones_seen(&mut self, now: Now, node: &NodeId, asked: Duration, anew: bool, rows: &[TelephoneLegRow]) {
        let mut seen = BTreeSet::new();
        for row in rows {
            seen.insert(row.leg.as_str().to_owned());
            let call = self.calls.get(&row.call).filter(|c| c.tenant == row.tenant && c.leg(&row.leg).is_some());
            if call.is_none() && self.strikes.add(node, row.leg.as_str()) {
                let cause = HangupCause::Orphaned;
                let body = NodeRequest::HangUpTelephone(HangUpTelephone { leg: row.leg.clone(), cause });
                self.desk.end_orphan(node.clone(), row.tenant.clone(), row.call.clone(), body);
            }
        }
        self.strikes.keep(node, &seen);
        for call in self.calls.values_mut().filter(|c| c.is_live()) {
            let Some(leg) = call.telephone_mut().filter(|l| l.is_live() && l.placed < asked) else { continue };
            let here = leg.telephone().is_some_and(|t| t.gateway == *node && t.held_by_gateway());
            let dialling = leg.telephone().is_some_and(|t| matches!(t.media, TelephoneMedia::Dialling { .. }));
            if !here || dialling {
                continue;
            }
            if seen.contains(leg.id.as_str()) {
                leg.missed = 0;
                continue;
            }
            leg.missed = if anew { u8::MAX } else { leg.missed.saturating_add(1) };
            if leg.missed >= 2 {
                let by = Some(leg.id.clone());
                end_call(
                    call,
                    &mut self.desk,
                    now,
                    &End { cause: HangupCause::NodeLost, by, released: true, at: None },
                );
                self.desk.touched.insert(call.id.clone());
            }
        }
    }

    fn recordings_seen(&mut self, now: Now, node: &NodeId, asked: Duration, rows: &[RecordingRow]) {
        let found: BTreeSet<_> = rows.iter().map(|row| row.recording.clone()).collect();
        for call in self.calls.values_mut().filter(|c| c.is_live()) {
            if recorder_seen(call, &mut self.desk, now, asked, node, &found) {
                self.desk.touched.insert(call.id.clone());
            }
        }
        let mut seen = BTreeSet::new();
        let running = |r: &&RecordingRow| matches!(r.state, RecordingState::Connecting | RecordingState::Recording);
        for row in rows.iter().filter(running) {
            seen.insert(row.recording.as_str().to_owned());
            let owned = self.calls.get(&row.call).is_some_and(|c| {
                c.is_live() && c.recording.as_ref().is_some_and(|r| r.id == row.recording && r.is_running())
            });
            if !owned && self.strikes.add(node, row.recording.as_str()) {
                let body = NodeRequest::StopRecording(StopRecording { recording: row.recording.clone() });
                self.desk.end_orphan(node.clone(), row.tenant.clone(), row.call.clone(), body);
            }
        }
        self.strikes.keep(node, &seen);
    }
}

/// The room is there; are its legs?
fn room_seen(call: &mut Call, desk: &mut crate::desk::Desk, now: Now, asked: Duration, anew: bool, row: &RoomRow) {
    call.room_missed = 0;
    let connected: Vec<LegId> =
        row.legs.iter().filter(|l| l.connected && l.transport == LegTransport::Peer).map(|l| l.leg.clone()).collect();
    for leg in &connected {
        peer_connected(call, desk, now, leg);
    }
    let linked: Vec<LegId> =
        row.legs.iter().filter(|l| l.connected && l.transport == LegTransport::Link).map(|l| l.leg.clone()).collect();
    for leg in &linked {
        link_seen(call, desk, now, leg);
    }
    let mut lost = None;
    for leg in call.legs.iter_mut().filter(|l| l.is_live() && l.placed < asked) {
        // A telephone whose Link is there and leads nowhere would talk in silence.
        let missed = match &leg.party {
            Party::Browser(browser) => browser.media != PeerMedia::None && !row.legs.iter().any(|l| l.leg == leg.id),
            Party::Telephone(telephone) => telephone.has_link() && !linked.contains(&leg.id),
            Party::Application { .. } => false,
        };
        if !missed {
            leg.missed_in_room = 0;
            continue;
        }
        leg.missed_in_room = if anew { u8::MAX } else { leg.missed_in_room.saturating_add(1) };
        if leg.missed_in_room < 2 {
            continue;
        }
        let id = leg.id.clone();
        match leg.browser_mut() {
            // Its page may join again.
            Some(browser) => {
                browser.media = PeerMedia::None;
                desk.timers.set(TimerKey::MediaDue(call.id.clone(), id), now.at + desk.policy.page_grace);
            }
            None => lost = Some(id),
        }
    }
    let Some(leg) = lost else { return };
    let was_heard = call.leg(&leg).is_some_and(Leg::has_media);
    let end = if was_heard { End::by(&leg, HangupCause::MediaLost) } else { End::system(HangupCause::NodeLost) };
    end_call(call, desk, now, &end);
}
