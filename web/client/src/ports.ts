/** What the state machines need from the world outside: a clock, a socket, a microphone with a peer, a memory. */
import type { IceServer, Joined } from "./protocol";

export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  after(ms: number, run: () => void): Cancel;
}

export interface SocketEvents {
  opened(): void;
  message(text: string): void;
  closed(code: number): void;
}

export interface Socket {
  send(text: string): void;
  close(code: number): void;
}

/** After `close` no event of that socket may be delivered. */
export type OpenSocket = (url: string, events: SocketEvents) => Socket;

/** Where the access token comes from. `refused` says that the last one was not accepted. */
export interface Tokens {
  get(why: "first" | "expiring" | "refused"): Promise<string>;
}

export type PeerState = "connecting" | "connected" | "interrupted" | "failed";

/** One sample of a connection's statistics: running totals since its start, and momentary values. */
export interface MediaSample {
  at_ms: number;
  packets_received: number;
  packets_lost: number;
  packets_sent: number;
  /** Share of what we sent that the other side missed lately, 0 to 1; null when nobody reported. */
  remote_loss: number | null;
  round_trip_ms: number | null;
  jitter_ms: number | null;
  samples_received: number;
  /** Samples made up for missing packets, without those made up for silence. */
  samples_concealed: number;
  jitter_buffer_ms: number | null;
}

export interface PeerEvents {
  state(state: PeerState): void;
}

/** One WebRTC connection of one call. */
export interface Peer {
  offer(): Promise<string>;
  accept(joined: Joined): Promise<void>;
  setMicrophoneOn(on: boolean): void;
  sample(): Promise<MediaSample>;
  close(): void;
}

export interface Media {
  /** Asks for the microphone; rejects with `MicrophoneError`. Resolves at once when it is open already. */
  prepare(): Promise<void>;
  open(call: string, iceServers: IceServer[], events: PeerEvents): Promise<Peer>;
  /** No call needs the microphone any more. */
  release(): void;
}

/** What a page must know again after a reload. */
export interface Remembered {
  session: string | null;
  seq: number;
  commands: number;
  /** Calls whose sound belongs to this page, by id. */
  mine: Record<string, Role>;
}

export type Role = "caller" | "callee";

export interface Memory {
  load(): Remembered | null;
  save(remembered: Remembered): void;
}
