/** A phone in virtual time between a scripted server and scripted peers. */
import {
  type Call,
  type CallView,
  type Clock,
  type Media,
  type MediaSample,
  type Memory,
  MicrophoneError,
  type OpenSocket,
  Phone,
  type PeerEvents,
  type Remembered,
  type SocketEvents,
  SignedOutError,
} from "../src/index";

export class VirtualClock implements Clock {
  #now = 1_000_000;
  #timers: { at: number; run: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  get waiting(): number {
    return this.#timers.length;
  }

  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      await settle();
      const next = this.#timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = next.at;
      next.run();
    }
    this.#now = until;
    await settle();
  }
}

/** Lets every promise that can go on go on. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await Promise.resolve();
}

type Frame = Record<string, unknown>;

export class FakeSocket {
  readonly sent: Frame[] = [];
  closedByPage = false;
  constructor(
    readonly url: string,
    readonly events: SocketEvents,
  ) {}

  say(frame: Frame): void {
    if (!this.closedByPage) this.events.message(JSON.stringify(frame));
  }

  drop(): void {
    if (!this.closedByPage) this.events.closed(1006);
  }

  commands(op: string): Frame[] {
    return this.sent.filter((frame) => frame["op"] === op);
  }

  reply(op: string, ok: Frame): void {
    const command = this.commands(op).at(-1);
    if (!command) throw new Error(`no ${op} was sent`);
    this.say({ re: command["id"], ok });
  }

  refuse(op: string, error: Frame): void {
    this.say({ re: this.commands(op).at(-1)?.["id"], error });
  }
}

export class FakePeer {
  microphoneOn = true;
  answer: string | null = null;
  closed = false;
  received = 0;
  lost = 0;
  constructor(
    readonly call: string,
    readonly events: PeerEvents,
    readonly clock: Clock,
  ) {}

  offer(): Promise<string> {
    return Promise.resolve("offer");
  }
  accept(joined: { answer: string }): Promise<void> {
    this.answer = joined.answer;
    return Promise.resolve();
  }
  setMicrophoneOn(on: boolean): void {
    this.microphoneOn = on;
  }
  sample(): Promise<MediaSample> {
    return Promise.resolve({
      at_ms: this.clock.now(),
      packets_received: this.received,
      packets_lost: this.lost,
      packets_sent: this.received,
      remote_loss: null,
      round_trip_ms: 20,
      jitter_ms: 2,
      samples_received: this.received * 960,
      samples_concealed: 0,
      jitter_buffer_ms: 40,
    });
  }
  close(): void {
    this.closed = true;
  }
}

export const me = {
  user: { id: "u1", name: "Alice", login: "alice", extension: "101" },
  tenant: { id: "t1", name: "Example" },
  features: { emergency_calls: true, recording: "on_demand", outbound_calls: true },
};

export function view(id: string, fields: Partial<CallView> = {}): CallView {
  return {
    id,
    direction: "internal",
    state: "ringing",
    started_ms: 1,
    answered_ms: null,
    ended_ms: null,
    cause: null,
    cause_side: null,
    my_leg: { id: `leg-${id}`, state: "talking", muted: false, held: false },
    parties: [
      { leg: `other-${id}`, name: "Bob", number: "102", kind: "browser", state: "ringing", muted: false, held: false },
    ],
    can_record: true,
    recording: null,
    ...fields,
  };
}

export function ringingHere(id: string): CallView {
  return view(id, { my_leg: { id: `leg-${id}`, state: "ringing", muted: false, held: false } });
}

export function talking(id: string, fields: Partial<CallView> = {}): CallView {
  const parties = view(id).parties.map((party) => ({ ...party, state: "talking" as const }));
  return view(id, { state: "active", answered_ms: 2, parties, ...fields });
}

export class Scenario {
  readonly clock = new VirtualClock();
  readonly sockets: FakeSocket[] = [];
  readonly peers: FakePeer[] = [];
  readonly heard: string[] = [];
  readonly tokensAsked: string[] = [];
  token: string | null = "token-1";
  microphone: MicrophoneError | null = null;
  microphoneReleased = 0;
  memory: Remembered | null = null;
  phone: Phone;

  constructor() {
    this.phone = this.open();
  }

  /** The page as after a reload: nothing left but its memory. */
  open(): Phone {
    const media: Media = {
      prepare: () => (this.microphone ? Promise.reject(this.microphone) : Promise.resolve()),
      open: (call, _servers, events) => {
        const peer = new FakePeer(call, events, this.clock);
        this.peers.push(peer);
        return Promise.resolve(peer);
      },
      release: () => void (this.microphoneReleased += 1),
    };
    const memory: Memory = {
      load: () => this.memory,
      save: (remembered) => void (this.memory = structuredClone(remembered)),
    };
    const socket: OpenSocket = (url, events) => {
      const made = new FakeSocket(url, events);
      this.sockets.push(made);
      return { send: (text) => void made.sent.push(JSON.parse(text)), close: () => void (made.closedByPage = true) };
    };
    const get = (why: string): Promise<string> => {
      this.tokensAsked.push(why);
      return this.token === null ? Promise.reject(new SignedOutError()) : Promise.resolve(this.token);
    };
    const { clock } = this;
    const iceServers = () => Promise.resolve([{ urls: "turn:fresh" }]);
    const phone = new Phone({ url: "ws://x", tokens: { get }, socket, clock, random: () => 1, media, memory, iceServers });
    phone.on("state", (state) => this.heard.push(state));
    phone.on("incoming", (call) => this.heard.push(`incoming ${call.id}`));
    phone.on("ended", (call) => this.heard.push(`ended ${call.id} ${call.view.cause ?? "unknown"}`));
    phone.on("digit", ({ digit }) => this.heard.push(`digit ${digit}`));
    this.phone = phone;
    return phone;
  }

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("no socket was opened");
    return socket;
  }

  get peer(): FakePeer {
    const peer = this.peers.at(-1);
    if (!peer) throw new Error("no peer was opened");
    return peer;
  }

  /** Opens the newest socket and lets the server say that all is well. */
  async ready(calls: CallView[] = [], resumed = false, seq = 0): Promise<void> {
    await settle();
    this.socket.events.opened();
    this.socket.say({ type: "ready", session: "s1", seq, resumed, me, ice_servers: [], calls });
    await settle();
  }

  async event(seq: number, type: string, data: object, call_id = "c1"): Promise<void> {
    this.socket.say({ seq, type, ts: 0, call_id, data });
    await settle();
  }

  async started(): Promise<this> {
    this.phone.start();
    await this.ready();
    return this;
  }

  /** Dials 102, which answers, with sound both ways. */
  async talking(): Promise<Call> {
    await this.started();
    const dialled = this.phone.dial("102");
    await settle();
    this.socket.reply("dial", { call: view("c1"), leg: "leg-c1", ice_servers: [] });
    const call = await dialled;
    await this.joined();
    await this.event(1, "call.updated", talking("c1"));
    return call;
  }

  async joined(): Promise<void> {
    await settle();
    this.socket.reply("join", { answer: "answer", slot_mids: ["1", "2", "3", "4"], announcer_mid: "5" });
    await settle();
    this.peer.events.state("connected");
    await settle();
  }
}
