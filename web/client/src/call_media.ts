/**
 * The sound of one call: joins the room, notices when media is interrupted, joins again with a new peer, and
 * measures. A peer is never repaired: a new one replaces it, which the server treats as the same leg.
 */
import { CommandError, MicrophoneError } from "./errors";
import type { Cancel, Clock, Media, MediaSample, Peer, PeerState } from "./ports";
import type { IceServer, Joined } from "./protocol";
import { type Expectation, type Quality, assess } from "./quality";

export type MediaState = "idle" | "joining" | "connected" | "interrupted" | "closed";

export interface MediaHost {
  clock: Clock;
  media: Media;
  iceServers(): Promise<IceServer[]>;
  command<T>(op: string, fields: object): Promise<T>;
  online(): boolean;
  microphoneOn(): boolean;
  soundExpected(): boolean;
  changed(): void;
  microphoneFailed(error: MicrophoneError): void;
  /** The server does not know the call any more. */
  gone(): void;
}

/** An interrupted ICE connection often comes back by itself within this time. */
const PATIENCE_MS = 2_500;
/** ICE and DTLS take well under a second; through a relay on a slow line a few. */
const CONNECT_WITHIN_MS = 10_000;
const FIRST_BACK_OFF_MS = 500;
const LONGEST_BACK_OFF_MS = 5_000;
const SAMPLE_EVERY_MS = 1_000;

export class CallMedia {
  state: MediaState = "idle";
  quality: Quality | null = null;

  readonly #call: string;
  readonly #host: MediaHost;
  #peer: Peer | null = null;
  #timer: Cancel | null = null;
  #sampling: Cancel | null = null;
  #era = 0;
  #attempt = 0;
  /** A join is due as soon as the connection to the server is back. */
  #due = false;
  #last: MediaSample | null = null;
  #lastArrivalMs = 0;

  constructor(call: string, host: MediaHost) {
    this.#call = call;
    this.#host = host;
  }

  start(): void {
    if (this.state === "idle") void this.#join();
  }

  connectionReady(): void {
    if (this.#due) void this.#join();
  }

  /** The network changed: what is connected over the old one is not worth waiting for. */
  networkChanged(): void {
    if (this.state === "interrupted") void this.#join();
  }

  applyMicrophone(): void {
    this.#peer?.setMicrophoneOn(this.#host.microphoneOn());
  }

  close(): void {
    this.#dropPeer();
    this.#due = false;
    this.#enter("closed");
  }

  async #join(): Promise<void> {
    if (this.state === "closed") return;
    this.#dropPeer();
    this.#due = !this.#host.online();
    this.#enter(this.state === "idle" || this.state === "joining" ? "joining" : "interrupted");
    if (this.#due) return;
    const era = this.#era;
    try {
      await this.#negotiate(era);
    } catch (error) {
      if (era === this.#era) this.#joinFailed(error);
    }
  }

  async #negotiate(era: number): Promise<void> {
    const events = { state: (state: PeerState) => this.#heard(era, state) };
    const servers = await this.#host.iceServers();
    if (era !== this.#era) return;
    const peer = await this.#host.media.open(this.#call, servers, events);
    if (era !== this.#era) return peer.close();
    this.#peer = peer;
    peer.setMicrophoneOn(this.#host.microphoneOn());
    this.#timer = this.#host.clock.after(CONNECT_WITHIN_MS, () => this.#again());
    const offer = await peer.offer();
    if (era !== this.#era) return;
    const joined = await this.#host.command<Joined>("join", { call: this.#call, offer });
    if (era !== this.#era) return;
    await peer.accept(joined);
  }

  #joinFailed(error: unknown): void {
    if (error instanceof MicrophoneError) {
      this.#dropPeer();
      this.#enter("interrupted");
      this.#host.microphoneFailed(error);
    } else if (error instanceof CommandError && error.code === "not_found") {
      this.#host.gone();
    } else {
      this.#again();
    }
  }

  #heard(era: number, state: PeerState): void {
    if (era !== this.#era || this.state === "closed") return;
    switch (state) {
      case "connecting":
        return;
      case "connected":
        this.#clearTimer();
        this.#attempt = 0;
        this.#lastArrivalMs = this.#host.clock.now();
        this.#enter("connected");
        return this.#sampleSoon();
      case "interrupted":
        this.#enter("interrupted");
        this.#clearTimer();
        this.#timer = this.#host.clock.after(PATIENCE_MS, () => void this.#join());
        return;
      case "failed":
        return this.#again();
    }
  }

  #again(): void {
    this.#dropPeer();
    if (this.state === "connected") this.#enter("interrupted");
    if (!this.#host.online()) {
      this.#due = true;
      return;
    }
    const wait = Math.min(FIRST_BACK_OFF_MS * 2 ** this.#attempt, LONGEST_BACK_OFF_MS);
    this.#attempt += 1;
    this.#timer = this.#host.clock.after(wait, () => void this.#join());
  }

  #sampleSoon(): void {
    this.#sampling?.();
    this.#sampling = this.#host.clock.after(SAMPLE_EVERY_MS, () => void this.#sample());
  }

  async #sample(): Promise<void> {
    const era = this.#era;
    const now = await this.#peer?.sample().catch(() => null);
    if (era !== this.#era || !now) return;
    const before = this.#last;
    if (!before || now.packets_received > before.packets_received) this.#lastArrivalMs = now.at_ms;
    if (before) this.#judge(before, now);
    this.#last = now;
    this.#sampleSoon();
  }

  #judge(before: MediaSample, now: MediaSample): void {
    const sound_expected = this.#host.soundExpected();
    // The wait for sound begins when sound is expected, not when it last happened to flow.
    if (!sound_expected) this.#lastArrivalMs = now.at_ms;
    const expect: Expectation = { sound_expected, silent_ms: now.at_ms - this.#lastArrivalMs };
    this.quality = assess(before, now, expect);
    this.#host.changed();
  }

  #dropPeer(): void {
    this.#era += 1;
    this.#clearTimer();
    this.#sampling?.();
    this.#sampling = null;
    this.#last = null;
    this.quality = null;
    this.#peer?.close();
    this.#peer = null;
  }

  #clearTimer(): void {
    this.#timer?.();
    this.#timer = null;
  }

  #enter(state: MediaState): void {
    if (this.state === state || this.state === "closed") return;
    this.state = state;
    this.#host.changed();
  }
}
