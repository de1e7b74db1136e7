/** The phone: one connection to call-control, the calls of its user, and what a page has to remember of them. */
import { Call, type CallHost } from "./call";
import { Connection, type ConnectionOptions, type ConnectionState } from "./connection";
import { Emitter } from "./emitter";
import { ConnectionLostError, type MicrophoneError } from "./errors";
import type { Media, Memory, Role } from "./ports";
import type { CallView, EventFrame, IceServer, Me, Placed, ReadyFrame, RefusedFrame } from "./protocol";

export interface PhoneOptions extends ConnectionOptions {
  media: Media;
  memory: Memory;
  iceServers: () => Promise<IceServer[]>;
}

export interface PhoneEvents {
  state: ConnectionState;
  /** A call rings here. */
  incoming: Call;
  /** Anything a page shows of this call may have changed. */
  call: Call;
  ended: Call;
  digit: { call: Call; digit: string };
  slot: { call: Call; slot: number; name: string | null };
  microphone: { call: Call; error: MicrophoneError };
  refused: RefusedFrame;
}

export class Phone {
  me: Me | null = null;

  readonly #options: PhoneOptions;
  readonly #connection: Connection;
  readonly #emitter = new Emitter<PhoneEvents>();
  readonly #calls = new Map<string, Call>();
  /** Ended while we were away, how is not yet known. */
  readonly #late = new Map<string, Call>();
  readonly #host: CallHost;
  #mine: Record<string, Role>;
  #iceServers: IceServer[] = [];

  constructor(options: PhoneOptions) {
    this.#options = options;
    const remembered = options.memory.load();
    this.#mine = { ...remembered?.mine };
    this.#connection = new Connection(options, {
      state: (state) => this.#emitter.emit("state", state),
      ready: (frame) => this.#ready(frame),
      event: (frame) => this.#event(frame),
      refused: (frame) => this.#emitter.emit("refused", frame),
      numbered: () => this.#save(),
    });
    this.#connection.session = remembered?.session ?? null;
    this.#connection.seq = remembered?.seq ?? 0;
    this.#connection.commands = remembered?.commands ?? 0;
    this.#host = {
      clock: options.clock,
      media: options.media,
      command: (op, fields) => this.#connection.command(op, fields),
      online: () => this.state === "ready",
      iceServers: () => options.iceServers(),
      changed: (call) => this.#emitter.emit("call", call),
      claimed: (call, role) => this.#remember(call.id, role),
      ended: (call) => this.#ended(call),
      microphoneFailed: (call, error) => this.#emitter.emit("microphone", { call, error }),
    };
  }

  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** The living calls, oldest first. */
  get calls(): Call[] {
    return [...this.#calls.values()];
  }

  on<K extends keyof PhoneEvents>(event: K, listener: (value: PhoneEvents[K]) => void): () => void {
    return this.#emitter.on(event, listener);
  }

  start(): void {
    this.#connection.start();
  }

  /** Leaves the calls to whoever takes them over; nothing is hung up. */
  stop(): void {
    this.#connection.stop();
    for (const call of this.calls) call.endHere();
    this.#options.media.release();
  }

  networkChanged(): void {
    this.#connection.networkChanged();
    for (const call of this.calls) call.networkChanged();
  }

  async dial(to: string): Promise<Call> {
    await this.#options.media.prepare();
    if (this.state !== "ready") {
      this.#releaseWhenIdle();
      throw new ConnectionLostError();
    }
    await this.holdOthers(null);
    try {
      const placed = await this.#connection.command<Placed>("dial", { to });
      const call = this.#calls.get(placed.call.id) ?? this.#add(placed.call, "caller");
      call.take("caller", placed);
      return call;
    } catch (error) {
      this.#releaseWhenIdle();
      throw error;
    }
  }

  async answer(call: Call): Promise<void> {
    await this.holdOthers(call);
    await call.answer();
  }

  /** Nobody can listen to two calls: the others wait. */
  async holdOthers(but: Call | null): Promise<void> {
    const talking = this.calls.filter((call) => call !== but && call.role !== null && call.view.state === "active");
    await Promise.all(talking.filter((call) => !call.held).map((call) => call.hold(true)));
  }

  #ready(frame: ReadyFrame): void {
    this.me = frame.me;
    this.#iceServers = frame.ice_servers;
    const living = new Set(frame.calls.map((view) => view.id));
    this.#mine = Object.fromEntries(Object.entries(this.#mine).filter(([id]) => living.has(id)));
    this.#save();
    for (const view of frame.calls) this.#receive(view);
    for (const call of this.calls) {
      if (living.has(call.id)) call.connectionReady();
      // How it ended is told by a replayed event, if the server still knows.
      else call.endHere();
    }
  }

  #event(frame: EventFrame): void {
    this.#save();
    if (frame.type === "call.updated" || frame.type === "call.ended") {
      this.#receive(frame.data as CallView);
      return;
    }
    const call = frame.call_id === null ? undefined : this.#calls.get(frame.call_id);
    if (!call) return;
    if (frame.type === "call.digit") {
      this.#emitter.emit("digit", { call, digit: (frame.data as { digit: string }).digit });
    } else if (frame.type === "call.slot") {
      const { slot, name } = frame.data as { slot: number; name: string | null };
      this.#emitter.emit("slot", { call, slot, name });
    }
  }

  #receive(view: CallView): void {
    const known = this.#calls.get(view.id);
    if (known) return known.update(view);
    if (view.state === "ended") return this.#tellLateEnd(view);
    const call = this.#add(view, this.#mine[view.id] ?? null);
    this.#emitter.emit(call.state === "incoming" ? "incoming" : "call", call);
  }

  /** A call that ended while we were away: its object is gone from the list, but a page may still show it. */
  #tellLateEnd(view: CallView): void {
    const call = this.#late.get(view.id);
    if (!call) return;
    this.#late.delete(view.id);
    call.update(view);
  }

  #add(view: CallView, role: Role | null): Call {
    const call = new Call(view, role, this.#iceServers, this.#host);
    this.#calls.set(view.id, call);
    return call;
  }

  #ended(call: Call): void {
    this.#calls.delete(call.id);
    if (call.view.state !== "ended") this.#late.set(call.id, call);
    else this.#late.clear();
    if (this.state !== "offline") delete this.#mine[call.id];
    this.#save();
    this.#releaseWhenIdle();
    this.#emitter.emit("ended", call);
  }

  #releaseWhenIdle(): void {
    if (!this.calls.some((call) => call.role !== null)) this.#options.media.release();
  }

  #remember(call: string, role: Role): void {
    this.#mine[call] = role;
    this.#save();
  }

  #save(): void {
    const { session, seq, commands } = this.#connection;
    this.#options.memory.save({ session, seq, commands, mine: { ...this.#mine } });
  }
}
