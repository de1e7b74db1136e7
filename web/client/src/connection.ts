/**
 * The WebSocket to call-control: hello, ready or refused, numbered commands, events once each and in order,
 * back-off, resume by session and last sequence, fresh tokens on the open socket.
 */
import { CommandError, ConnectionLostError, SignedOutError } from "./errors";
import type { Cancel, Clock, OpenSocket, Socket, Tokens } from "./ports";
import { type EventFrame, type ReadyFrame, type RefusedFrame, type ReplyFrame, readFrame } from "./protocol";

export type ConnectionState = "offline" | "connecting" | "ready" | "reconnecting" | "failed";

export interface ConnectionOptions {
  url: string;
  tokens: Tokens;
  socket: OpenSocket;
  clock: Clock;
  /** 0 to 1, spreads the reconnections of many pages. */
  random: () => number;
}

export interface ConnectionEvents {
  state(state: ConnectionState): void;
  ready(frame: ReadyFrame): void;
  event(frame: EventFrame): void;
  refused(frame: RefusedFrame): void;
  /** `commands` has grown; told before the command leaves. */
  numbered(): void;
}

/** The server gives up on a silent socket after 5 s; we give it twice that to say `ready`. */
const READY_WITHIN_MS = 10_000;
const REPLY_WITHIN_MS = 10_000;
const FIRST_BACK_OFF_MS = 250;
/** Well under the 30 s for which the server keeps a session. */
const LONGEST_BACK_OFF_MS = 4_000;

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
  cancel: Cancel;
}

export class Connection {
  state: ConnectionState = "offline";
  session: string | null = null;
  seq = 0;
  /** The number of the last command. A session answers a number once, so a reloaded page must count on. */
  commands = 0;

  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #pending = new Map<number, Pending>();
  #socket: Socket | null = null;
  #timer: Cancel | null = null;
  #attempt = 0;
  /** Grows with each attempt, so that a late answer of an earlier one is known as such. */
  #era = 0;
  #tokenRefused = false;

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#options = options;
    this.#events = events;
  }

  start(): void {
    if (this.state === "offline" || this.state === "failed") {
      this.#attempt = 0;
      this.#tokenRefused = false;
      this.#enter("connecting");
      void this.#connect();
    }
  }

  stop(): void {
    this.#drop(1000);
    this.#enter("offline");
  }

  /** The network came back or changed: what stands may be dead without knowing it, and waiting helps nobody. */
  networkChanged(): void {
    if (this.state === "offline" || this.state === "failed") return;
    this.#attempt = 0;
    this.#drop(4000);
    this.#enter("reconnecting");
    void this.#connect();
  }

  command<T>(op: string, fields: object = {}): Promise<T> {
    const socket = this.#socket;
    if (this.state !== "ready" || !socket) return Promise.reject(new ConnectionLostError());
    const id = ++this.commands;
    this.#events.numbered();
    return new Promise<T>((resolve, reject) => {
      const cancel = this.#options.clock.after(REPLY_WITHIN_MS, () => this.#replyOverdue(id));
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, cancel });
      socket.send(JSON.stringify({ id, op, ...fields }));
    });
  }

  async #connect(): Promise<void> {
    const era = ++this.#era;
    let token: string;
    try {
      token = await this.#options.tokens.get(this.#tokenRefused ? "refused" : "first");
    } catch (error) {
      if (era !== this.#era) return;
      if (error instanceof SignedOutError) this.#fail();
      else this.#retryLater();
      return;
    }
    if (era !== this.#era) return;
    this.#timer = this.#options.clock.after(READY_WITHIN_MS, () => this.#lost());
    const socket = this.#options.socket(this.#options.url, {
      opened: () => {
        const resume = this.session === null ? {} : { session: this.session, last_seq: this.seq };
        socket.send(JSON.stringify({ op: "hello", token, ...resume }));
      },
      message: (text) => this.#read(text),
      closed: () => this.#lost(),
    });
    this.#socket = socket;
  }

  #read(text: string): void {
    const read = readFrame(text);
    if (read === null) return;
    switch (read.kind) {
      case "ready":
        return this.#becomeReady(read.frame);
      case "refused":
        return this.#beRefused(read.frame);
      case "reply":
        return this.#settle(read.frame);
      case "event":
        return this.#hear(read.frame);
    }
  }

  #becomeReady(frame: ReadyFrame): void {
    this.#clearTimer();
    // A resumed session goes on after what we have; the replayed events follow and bring `seq` up to date.
    if (!frame.resumed) this.seq = frame.seq;
    this.session = frame.session;
    this.#attempt = 0;
    this.#tokenRefused = false;
    this.state = "ready";
    this.#events.ready(frame);
    this.#events.state("ready");
  }

  #beRefused(frame: RefusedFrame): void {
    const again = frame.code === "unauthorized" && !this.#tokenRefused;
    if (frame.code === "unauthorized") {
      this.#tokenRefused = true;
      this.session = null;
    }
    this.#drop(1000);
    if (again) {
      void this.#connect();
    } else if (frame.code === "unauthorized") {
      this.#fail();
    } else {
      this.#events.refused(frame);
      this.#retryLater();
    }
  }

  #settle(frame: ReplyFrame): void {
    const pending = this.#pending.get(frame.re);
    if (!pending) return;
    this.#pending.delete(frame.re);
    pending.cancel();
    if (frame.error) pending.reject(new CommandError(frame.error));
    else pending.resolve(frame.ok ?? {});
  }

  #hear(frame: EventFrame): void {
    if (frame.seq <= this.seq) return;
    this.seq = frame.seq;
    if (frame.type === "token.expiring") void this.#renewToken();
    else this.#events.event(frame);
  }

  async #renewToken(): Promise<void> {
    const era = this.#era;
    try {
      const token = await this.#options.tokens.get("expiring");
      if (era === this.#era) await this.command("token", { token });
    } catch (error) {
      // Without a new token the server closes the socket; what follows then is the ordinary way back.
      if (error instanceof SignedOutError && era === this.#era) this.#fail();
    }
  }

  #replyOverdue(id: number): void {
    if (this.#pending.has(id)) this.#lost();
  }

  #lost(): void {
    if (this.state === "offline" || this.state === "failed") return;
    this.#drop(4000);
    this.#retryLater();
  }

  #retryLater(): void {
    const longest = Math.min(FIRST_BACK_OFF_MS * 2 ** this.#attempt, LONGEST_BACK_OFF_MS);
    this.#attempt += 1;
    const wait = longest * (0.5 + 0.5 * this.#options.random());
    this.#enter("reconnecting");
    this.#timer = this.#options.clock.after(wait, () => void this.#connect());
  }

  #fail(): void {
    this.#drop(1000);
    this.#enter("failed");
  }

  #drop(code: number): void {
    this.#era += 1;
    this.#clearTimer();
    this.#socket?.close(code);
    this.#socket = null;
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of lost) {
      pending.cancel();
      pending.reject(new ConnectionLostError());
    }
  }

  #clearTimer(): void {
    this.#timer?.();
    this.#timer = null;
  }

  #enter(state: ConnectionState): void {
    // The first connection is still being made, however often it is tried.
    if (state === "reconnecting" && this.state === "connecting") return;
    if (this.state === state) return;
    this.state = state;
    this.#events.state(state);
  }
}
