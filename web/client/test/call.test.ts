import { expect, test } from "vitest";
import { type Call, CommandError, ConnectionLostError, MicrophoneError } from "../src/index";
import { Scenario, ringingHere, settle, talking, view } from "./fixture";

test("a call is dialled, joined, answered and ended by the other side", async () => {
  const s = new Scenario();
  const call = await s.talking();
  expect(s.socket.commands("dial")[0]).toMatchObject({ to: "102" });
  expect(s.socket.commands("join")[0]).toMatchObject({ call: "c1", offer: "offer" });
  expect(s.peer.answer).toBe("answer");
  expect(call.state).toBe("active");
  await s.event(2, "call.ended", talking("c1", { state: "ended", cause: "normal", cause_side: "other" }));
  expect(call.state).toBe("ended");
  expect(s.heard).toContain("ended c1 normal");
  expect(s.peer.closed).toBe(true);
  expect(s.microphoneReleased).toBeGreaterThan(0);
  expect(s.clock.waiting).toBe(0);
});

test("an incoming call rings here, is answered once and joined", async () => {
  const s = await new Scenario().started();
  await s.event(1, "call.updated", ringingHere("c1"));
  const call = s.phone.calls[0] as Call;
  expect(call.state).toBe("incoming");
  expect(s.heard).toContain("incoming c1");
  expect(s.peers.length).toBe(0);
  const answered = s.phone.answer(call);
  await settle();
  s.socket.reply("answer", { call: talking("c1"), leg: "leg-c1", ice_servers: [] });
  await answered;
  expect(call.state).toBe("connecting");
  await s.joined();
  expect(call.state).toBe("active");
});

test("a call that another device answered is shown as elsewhere, and can be brought here", async () => {
  const s = await new Scenario().started();
  await s.event(1, "call.updated", ringingHere("c1"));
  await s.event(2, "call.updated", talking("c1"));
  const call = s.phone.calls[0] as Call;
  expect(call.state).toBe("elsewhere");
  expect(s.peers.length).toBe(0);
  await call.bringHere();
  await s.joined();
  expect(call.state).toBe("active");
});

test("without a microphone nothing is dialled and the reason is told", async () => {
  const s = await new Scenario().started();
  s.microphone = new MicrophoneError("refused", "no");
  await expect(s.phone.dial("102")).rejects.toMatchObject({ problem: "refused" });
  expect(s.socket.commands("dial")).toEqual([]);
});

test("a refused number is told with its cause and releases the microphone", async () => {
  const s = await new Scenario().started();
  const dialled = s.phone.dial("+33123").catch((error: unknown) => error);
  await settle();
  s.socket.refuse("dial", { code: "refused", message: "not allowed", cause: "not_allowed" });
  const error = await dialled;
  expect(error).toBeInstanceOf(CommandError);
  expect((error as CommandError).cause_word).toBe("not_allowed");
  expect(s.microphoneReleased).toBe(1);
});

test("mute takes effect on the microphone at once, before the server answers", async () => {
  const s = new Scenario();
  const call = await s.talking();
  void call.mute(true);
  expect(s.peer.microphoneOn).toBe(false);
  expect(call.muted).toBe(true);
});

test("a mute refused by the server is taken back", async () => {
  const s = new Scenario();
  const call = await s.talking();
  const muted = call.mute(true).catch((error: unknown) => error);
  await settle();
  s.socket.refuse("mute", { code: "invalid", message: "no" });
  expect(await muted).toBeInstanceOf(CommandError);
  expect(call.muted).toBe(false);
  expect(s.peer.microphoneOn).toBe(true);
});

test("a mute wished while the connection is away is said again when it is back", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.socket.drop();
  await call.mute(true);
  expect(s.peer.microphoneOn).toBe(false);
  await s.clock.advance(250);
  await s.ready([talking("c1")], true, 1);
  expect(s.socket.commands("mute")).toMatchObject([{ call: "c1", muted: true }]);
  expect(s.peer.microphoneOn).toBe(false);
});

test("a hang-up wished while the connection is away happens when it is back", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.socket.drop();
  await call.hangup();
  await s.clock.advance(250);
  await s.ready([talking("c1")], true, 1);
  expect(s.socket.commands("hangup")).toMatchObject([{ call: "c1" }]);
});

test("digits fail plainly while the connection is away: they are not saved up", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.socket.drop();
  await expect(call.digits("1")).rejects.toBeInstanceOf(ConnectionLostError);
  await s.clock.advance(250);
  await s.ready([talking("c1")], true, 1);
  expect(s.socket.commands("digits")).toEqual([]);
});

test("the sound of a call goes on over a lost socket: nothing is joined again", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.socket.drop();
  await s.clock.advance(250);
  await s.ready([talking("c1")], true, 1);
  expect(call.state).toBe("active");
  expect(s.peers.length).toBe(1);
});

test("control that lost its memory and rebuilt the call does not disturb the sound", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.socket.drop();
  await s.clock.advance(250);
  await s.ready([talking("c1")], false, 0);
  expect(s.phone.calls).toEqual([call]);
  expect(s.peers.length).toBe(1);
  await s.event(1, "call.ended", talking("c1", { state: "ended", cause: "normal" }));
  expect(call.state).toBe("ended");
});

test("a reloaded page joins the same call again, unmuted or muted as it was", async () => {
  const s = new Scenario();
  await s.talking();
  const muted = talking("c1", { my_leg: { id: "leg-c1", state: "talking", muted: true, held: false } });
  const phone = s.open();
  phone.start();
  await settle();
  s.socket.events.opened();
  expect(s.socket.sent[0]).toMatchObject({ session: "s1", last_seq: 1 });
  await s.ready([muted], true, 1);
  expect(s.peers.length).toBe(2);
  expect(s.peer.microphoneOn).toBe(false);
  await s.joined();
  expect(phone.calls[0]?.state).toBe("active");
  expect(phone.calls[0]?.role).toBe("caller");
});

test("a reloaded page counts its commands on: a session answers each number once", async () => {
  const s = new Scenario();
  await s.talking();
  const before = s.socket.sent.map((frame) => Number(frame["id"] ?? 0));
  s.open().start();
  await s.ready([talking("c1")], true, 1);
  await s.joined();
  const after = s.socket.sent.map((frame) => Number(frame["id"] ?? Infinity));
  expect(Math.min(...after)).toBeGreaterThan(Math.max(...before));
});

test("media that is interrupted gets time to recover, then the call is joined anew", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.peer.events.state("interrupted");
  expect(call.state).toBe("reconnecting");
  await s.clock.advance(2_400);
  s.peer.events.state("connected");
  expect(call.state).toBe("active");
  expect(s.peers.length).toBe(1);
  s.peer.events.state("interrupted");
  await s.clock.advance(2_500);
  expect(s.peers[0]?.closed).toBe(true);
  await s.joined();
  expect(s.peers.length).toBe(2);
  expect(call.state).toBe("active");
});

test("media that fails while the socket is away is joined as soon as it is back", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.socket.drop();
  s.peer.events.state("failed");
  expect(call.state).toBe("reconnecting");
  await s.clock.advance(250);
  await s.ready([talking("c1")], true, 1);
  await s.joined();
  expect(call.state).toBe("active");
});

test("a join that never connects is tried again with pauses, while the call lives", async () => {
  const s = new Scenario();
  await s.started();
  const dialled = s.phone.dial("102");
  await settle();
  s.socket.reply("dial", { call: view("c1"), leg: "leg-c1", ice_servers: [] });
  await dialled;
  await settle();
  s.socket.reply("join", { answer: "answer", slot_mids: [], announcer_mid: null });
  await s.clock.advance(10_000);
  expect(s.peers[0]?.closed).toBe(true);
  await s.clock.advance(500);
  expect(s.peers.length).toBe(2);
});

test("relay credentials that are old are renewed before a new join", async () => {
  const s = new Scenario();
  const call = await s.talking();
  await s.clock.advance(301_000);
  s.peer.events.state("failed");
  await s.clock.advance(500);
  await s.joined();
  expect(call.state).toBe("active");
});

test("a call that ended while the page was away is ended with the cause that is replayed", async () => {
  const s = new Scenario();
  const call = await s.talking();
  s.socket.drop();
  await s.clock.advance(250);
  await s.ready([], true, 2);
  expect(call.state).toBe("ended");
  await s.event(2, "call.ended", talking("c1", { state: "ended", cause: "client_gone" }));
  expect(call.view.cause).toBe("client_gone");
});

test("an order for a call that the server forgot ends it here", async () => {
  const s = new Scenario();
  const call = await s.talking();
  const done = call.hangup();
  await settle();
  s.socket.refuse("hangup", { code: "not_found", message: "no such call" });
  await done;
  expect(call.state).toBe("ended");
});

test("answering a second call puts the first one on hold", async () => {
  const s = new Scenario();
  await s.talking();
  await s.event(2, "call.updated", ringingHere("c2"), "c2");
  const second = s.phone.calls[1] as Call;
  const answered = s.phone.answer(second);
  await settle();
  expect(s.socket.commands("hold")).toMatchObject([{ call: "c1", held: true }]);
  s.socket.reply("hold", { call: talking("c1") });
  await settle();
  s.socket.reply("answer", { call: talking("c2"), leg: "leg-c2", ice_servers: [] });
  await answered;
  expect(second.role).toBe("callee");
});

test("quality is measured each second, and nothing arriving counts as lost", async () => {
  const s = new Scenario();
  const call = await s.talking();
  for (let second = 0; second < 5; second += 1) {
    s.peer.received += 50;
    await s.clock.advance(1_000);
  }
  expect(call.quality?.verdict).toBe("good");
  await s.clock.advance(4_000);
  expect(call.quality?.verdict).toBe("lost");
  expect(call.quality?.reason).toBe("nothing_arrives");
});

test("silence of a muted or held party is not a lost connection", async () => {
  const s = new Scenario();
  const call = await s.talking();
  const my_leg = { id: "leg-c1", state: "talking" as const, muted: false, held: true };
  await s.event(2, "call.updated", talking("c1", { my_leg }));
  await s.clock.advance(10_000);
  expect(call.state).toBe("held");
  expect(call.quality?.verdict).not.toBe("lost");
});
