/** One call as its user sees and steers it: the server's view, the user's wishes, and the sound. */
import { CallMedia } from "./call_media";
import { CommandError, ConnectionLostError, type MicrophoneError } from "./errors";
import type { Clock, Media, Role } from "./ports";
import type { CallView, IceServer, Party, Placed } from "./protocol";
import type { Quality } from "./quality";

/**
 * `incoming` rings here; `ringing` rings there; `elsewhere` is talked on another device of the same user;
 * `reconnecting` is a call whose sound is being brought back.
 */
export type CallState =
  | "new"
  | "incoming"
  | "ringing"
  | "early"
  | "connecting"
  | "active"
  | "held"
  | "reconnecting"
  | "elsewhere"
  | "ended";

export interface CallHost {
  clock: Clock;
  media: Media;
  command<T>(op: string, fields: object): Promise<T>;
  online(): boolean;
  /** Fresh relay credentials; they live for ten minutes. */
  iceServers(): Promise<IceServer[]>;
  changed(call: Call): void;
  claimed(call: Call, role: Role): void;
  ended(call: Call): void;
  microphoneFailed(call: Call, error: MicrophoneError): void;
}

/** Half of the life of a relay credential. */
const CREDENTIALS_FRESH_MS = 300_000;

export class Call {
  readonly id: string;
  view: CallView;
  role: Role | null;
  /** A hang-up was asked for and is on its way. */
  ending = false;

  readonly #host: CallHost;
  readonly #media: CallMedia;
  #iceServers: IceServer[];
  #iceServersSince: number;
  /** Wanted, and not yet confirmed by the server. */
  #muteWish: boolean | null = null;
  #over = false;

  constructor(view: CallView, role: Role | null, iceServers: IceServer[], host: CallHost) {
    this.id = view.id;
    this.view = view;
    this.role = role;
    this.#iceServers = iceServers;
    this.#iceServersSince = host.clock.now();
    this.#host = host;
    this.#media = new CallMedia(view.id, {
      clock: host.clock,
      media: host.media,
      iceServers: () => this.#freshIceServers(),
      command: (op, fields) => host.command(op, fields),
      online: () => host.online(),
      microphoneOn: () => !this.muted,
      soundExpected: () => this.#soundExpected(),
      changed: () => host.changed(this),
      microphoneFailed: (error) => host.microphoneFailed(this, error),
      gone: () => this.endHere(),
    });
  }

  get state(): CallState {
    const view = this.view;
    if (this.#over || view.state === "ended") return "ended";
    if (this.role === null) return view.my_leg.state === "ringing" ? "incoming" : "elsewhere";
    if (this.#media.state === "interrupted") return "reconnecting";
    if (view.state !== "active") return view.state;
    if (this.#media.state !== "connected") return "connecting";
    return this.held || this.onHold ? "held" : "active";
  }

  /** The microphone is off, by the user's wish. */
  get muted(): boolean {
    return this.#muteWish ?? this.view.my_leg.muted;
  }

  /** We put the others on hold. */
  get held(): boolean {
    return this.view.my_leg.held;
  }

  /** The others put us on hold. */
  get onHold(): boolean {
    return this.view.my_leg.state === "held";
  }

  get other(): Party | null {
    return this.view.parties.find((party) => party.state !== "ended") ?? this.view.parties[0] ?? null;
  }

  get quality(): Quality | null {
    return this.#media.quality;
  }

  async answer(): Promise<void> {
    await this.#host.media.prepare();
    const placed = await this.#host.command<Placed>("answer", { call: this.id });
    this.take("callee", placed);
  }

  /** The sound of a call that another device or tab carried comes to this page. */
  async bringHere(): Promise<void> {
    await this.#host.media.prepare();
    this.#claim("callee");
  }

  /** The answer to `dial` or `answer` has come: the call is ours, join it. */
  take(role: Role, placed: Placed): void {
    this.#iceServers = placed.ice_servers;
    this.#iceServersSince = this.#host.clock.now();
    this.update(placed.call);
    this.#claim(role);
  }

  async reject(): Promise<void> {
    await this.#end("reject");
  }

  async hangup(): Promise<void> {
    await this.#end("hangup");
  }

  async mute(muted: boolean): Promise<void> {
    this.#muteWish = muted;
    this.#media.applyMicrophone();
    this.#host.changed(this);
    await this.#sendMute();
  }

  async hold(held: boolean): Promise<void> {
    await this.#order("hold", { held });
  }

  /** 0-9, *, # and A-D; travels as a command, never as sound. */
  async digits(digits: string): Promise<void> {
    await this.#order("digits", { digits });
  }

  async record(on: boolean): Promise<void> {
    await this.#order("record", { on });
  }

  /** The server's whole view; also how the end arrives. */
  update(view: CallView): void {
    if (this.view.state === "ended" && this.view.cause !== null) return;
    this.view = view;
    if (view.state === "ended") this.endHere();
    else {
      this.#media.applyMicrophone();
      this.#host.changed(this);
    }
  }

  endHere(): void {
    if (this.#over) return this.#host.changed(this);
    this.#over = true;
    this.#media.close();
    this.#host.ended(this);
  }

  /** The connection to the server is back: what was wanted meanwhile is said again. */
  connectionReady(): void {
    if (this.#over) return;
    if (this.ending) {
      void this.#end("hangup").catch(() => {});
      return;
    }
    if (this.role !== null) {
      this.#media.start();
      this.#media.connectionReady();
    }
    if (this.#muteWish !== null) void this.#sendMute().catch(() => {});
  }

  networkChanged(): void {
    this.#media.networkChanged();
  }

  #claim(role: Role): void {
    this.role = role;
    this.#host.claimed(this, role);
    if (!this.#over) this.#media.start();
    this.#host.changed(this);
  }

  async #end(op: "hangup" | "reject"): Promise<void> {
    this.ending = true;
    this.#host.changed(this);
    try {
      await this.#order(op, {});
    } catch (error) {
      // The wish stays: it is said again when the connection is back.
      if (error instanceof ConnectionLostError) return;
      this.ending = false;
      this.#host.changed(this);
      throw error;
    }
  }

  async #sendMute(): Promise<void> {
    const wish = this.#muteWish;
    try {
      await this.#order("mute", { muted: wish });
      if (this.#muteWish === wish) this.#muteWish = null;
    } catch (error) {
      if (error instanceof ConnectionLostError) return;
      if (this.#muteWish === wish) this.#muteWish = null;
      this.#media.applyMicrophone();
      this.#host.changed(this);
      throw error;
    }
  }

  async #order(op: string, fields: object): Promise<void> {
    try {
      const reply = await this.#host.command<{ call?: CallView }>(op, { call: this.id, ...fields });
      if (reply.call) this.update(reply.call);
    } catch (error) {
      if (!(error instanceof CommandError) || error.code !== "not_found") throw error;
      this.endHere();
    }
  }

  async #freshIceServers(): Promise<IceServer[]> {
    const { clock } = this.#host;
    if (clock.now() - this.#iceServersSince < CREDENTIALS_FRESH_MS) return this.#iceServers;
    try {
      this.#iceServers = await this.#host.iceServers();
      this.#iceServersSince = clock.now();
    } catch {
      // The old ones may still do, and most calls need no relay.
    }
    return this.#iceServers;
  }

  #soundExpected(): boolean {
    if (this.view.state !== "active" || this.onHold || this.held) return false;
    if (this.view.direction === "echo") return !this.muted;
    return this.view.parties.some((party) => party.state === "talking" && !party.muted);
  }
}
