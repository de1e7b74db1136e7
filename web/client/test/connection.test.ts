import { expect, test } from "vitest";
import { ConnectionLostError } from "../src/index";
import { Scenario, settle, view } from "./fixture";

test("a page says hello with its token and becomes ready", async () => {
  const s = await new Scenario().started();
  expect(s.socket.sent).toEqual([{ op: "hello", token: "token-1" }]);
  expect(s.phone.state).toBe("ready");
  expect(s.phone.me?.user.extension).toBe("101");
});

test("a lost socket is opened again with growing pauses, and resumes the session after the last event", async () => {
  const s = await new Scenario().started();
  await s.event(7, "call.updated", view("c1"));
  s.socket.drop();
  expect(s.phone.state).toBe("reconnecting");
  for (const [pause, sockets] of [[250, 2], [500, 3], [1000, 4], [2000, 5], [4000, 6], [4000, 7]] as const) {
    await s.clock.advance(pause - 1);
    expect(s.sockets.length).toBe(sockets - 1);
    await s.clock.advance(1);
    expect(s.sockets.length).toBe(sockets);
    s.socket.drop();
  }
  await s.clock.advance(4000);
  await s.ready([view("c1")], true, 7);
  expect(s.socket.sent[0]).toMatchObject({ session: "s1", last_seq: 7 });
  expect(s.phone.state).toBe("ready");
});

test("an event that came already is not told twice", async () => {
  const s = await new Scenario().started();
  await s.event(1, "call.updated", view("c1"));
  await s.event(2, "call.digit", { leg: "l", digit: "5" });
  await s.event(2, "call.digit", { leg: "l", digit: "5" });
  expect(s.heard.filter((line) => line.startsWith("digit"))).toEqual(["digit 5"]);
});

test("after a resume the replayed events are told, although ready already names their number", async () => {
  const s = await new Scenario().started();
  await s.event(1, "call.updated", view("c1"));
  s.socket.drop();
  await s.clock.advance(250);
  await s.ready([view("c1")], true, 2);
  await s.event(2, "call.digit", { leg: "l", digit: "9" });
  expect(s.heard).toContain("digit 9");
});

test("a server that never says ready is given up and tried again", async () => {
  const s = new Scenario();
  s.phone.start();
  await settle();
  s.socket.events.opened();
  await s.clock.advance(10_000);
  expect(s.socket.closedByPage).toBe(true);
  await s.clock.advance(250);
  expect(s.sockets.length).toBe(2);
  expect(s.phone.state).toBe("connecting");
});

test("a command without an answer means a dead socket: the order fails and the page reconnects", async () => {
  const s = await new Scenario().started();
  const dialled = s.phone.dial("102").catch((error: unknown) => error);
  await s.clock.advance(10_000);
  expect(await dialled).toBeInstanceOf(ConnectionLostError);
  expect(s.phone.state).toBe("reconnecting");
});

test("a refused token is renewed once, then the sign-in counts as over", async () => {
  const s = new Scenario();
  s.phone.start();
  await settle();
  s.socket.say({ type: "refused", code: "unauthorized", message: "expired" });
  await settle();
  expect(s.tokensAsked).toEqual(["first", "refused"]);
  expect(s.sockets.length).toBe(2);
  s.socket.say({ type: "refused", code: "unauthorized", message: "expired" });
  await settle();
  expect(s.phone.state).toBe("failed");
});

test("a server that is draining is tried again later", async () => {
  const s = new Scenario();
  s.phone.start();
  await settle();
  s.socket.say({ type: "refused", code: "unavailable", message: "draining" });
  await s.clock.advance(250);
  expect(s.sockets.length).toBe(2);
});

test("a token that is about to expire is exchanged on the open socket", async () => {
  const s = await new Scenario().started();
  s.token = "token-2";
  await s.event(1, "token.expiring", {});
  expect(s.socket.commands("token")[0]).toMatchObject({ token: "token-2" });
  expect(s.tokensAsked).toEqual(["first", "expiring"]);
});

test("a sign-in that is over fails the phone at once", async () => {
  const s = new Scenario();
  s.token = null;
  s.phone.start();
  await settle();
  expect(s.phone.state).toBe("failed");
  expect(s.clock.waiting).toBe(0);
});

test("a network change does not wait for the back-off", async () => {
  const s = await new Scenario().started();
  s.phone.networkChanged();
  await settle();
  expect(s.sockets.length).toBe(2);
  expect(s.sockets[0]?.closedByPage).toBe(true);
});

test("frames that are no frames change nothing", async () => {
  const s = await new Scenario().started();
  for (const text of ["", "{", "null", "[]", '"ready"', '{"type":"ready"}', '{"seq":"1","type":"x"}', '{"re":99}']) {
    s.socket.events.message(text);
  }
  await s.event(1, "call.from.the.future", { anything: 1 });
  expect(s.phone.state).toBe("ready");
  expect(s.phone.calls).toEqual([]);
});

test("a stopped phone leaves no timer and no socket behind", async () => {
  const s = new Scenario();
  await s.talking();
  s.phone.stop();
  await settle();
  expect(s.clock.waiting).toBe(0);
  expect(s.socket.closedByPage).toBe(true);
  expect(s.peer.closed).toBe(true);
});
