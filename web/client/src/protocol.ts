/** What travels between the page and call-control: rows, views, frames, and the reading of a frame. */

export type HangupCause =
  | "normal"
  | "busy"
  | "no_answer"
  | "rejected"
  | "cancelled"
  | "not_found"
  | "not_allowed"
  | "no_emergency_trunk"
  | "limit_reached"
  | "carrier_unavailable"
  | "carrier_auth_failed"
  | "congestion"
  | "redirected"
  | "media_incompatible"
  | "offline"
  | "media_lost"
  | "client_gone"
  | "node_lost"
  | "drained"
  | "orphaned"
  | "internal_error";

export type Direction = "internal" | "outbound" | "inbound" | "echo";
export type LegState = "ringing" | "early" | "talking" | "held" | "ended";
export type RecordingMode = "off" | "on_answer" | "on_demand";

export interface Me {
  user: { id: string; name: string; login: string; extension: string | null; admin?: boolean };
  tenant: { id: string; name: string };
  features: { emergency_calls: boolean; recording: RecordingMode; outbound_calls: boolean };
}

export interface IceServer {
  urls: string | string[];
  username?: string;
  credential?: string;
}

/** `state` is `held` when this leg hears the hold prompt; `held` says that it put the others on hold. */
export interface Leg {
  id: string;
  state: LegState;
  muted: boolean;
  held: boolean;
}

export interface Party {
  leg: string;
  name: string | null;
  number: string | null;
  kind: "browser" | "telephone" | "application";
  state: LegState;
  muted: boolean;
  held: boolean;
}

export interface CallRecording {
  id: string;
  state: "starting" | "recording" | "stopping" | "stopped" | "failed";
  started_ms: number | null;
  /** The server's sentence. `reason_code` is the word for it, where it has one. */
  reason: string | null;
  reason_code?: string | null;
}

/** The whole of a call as its own user may see it; sent again at each change. */
export interface CallView {
  id: string;
  direction: Direction;
  state: "new" | "ringing" | "early" | "active" | "ended";
  started_ms: number;
  answered_ms: number | null;
  ended_ms: number | null;
  cause: HangupCause | null;
  cause_side: "me" | "other" | "system" | null;
  my_leg: Leg;
  parties: Party[];
  can_record: boolean;
  recording: CallRecording | null;
}

export interface RecordingRow {
  id: string;
  state: string;
  started_ms: number | null;
  duration_ms: number | null;
  segments: { segment: number; started_ms: number; ended_ms: number | null; gap_ms: number | null }[];
  consent: { kind: string; played_ms: number; segment: number | null }[];
  files: { name: string; bytes: number; sha256: string }[];
  /** The server's sentence. `reason_code` is the word for it, where it has one. */
  reason: string | null;
  reason_code?: string | null;
}

export interface CallRow {
  id: string;
  direction: Direction;
  state: string;
  from: { name: string | null; number: string | null };
  to: { name: string | null; number: string | null };
  started_ms: number;
  answered_ms: number | null;
  ended_ms: number | null;
  duration_ms: number | null;
  cause: HangupCause | null;
  recordings: RecordingRow[];
}

export interface ReadyFrame {
  type: "ready";
  session: string;
  seq: number;
  resumed: boolean;
  me: Me;
  ice_servers: IceServer[];
  calls: CallView[];
}

export interface RefusedFrame {
  type: "refused";
  code: string;
  message: string;
}

export interface CommandFailure {
  code: string;
  message: string;
  cause?: HangupCause;
}

export interface ReplyFrame {
  re: number;
  ok?: unknown;
  error?: CommandFailure;
}

export interface EventFrame {
  seq: number;
  type: string;
  ts: number;
  call_id: string | null;
  data: unknown;
}

/** The reply to `dial` and `answer`. */
export interface Placed {
  call: CallView;
  leg: string;
  ice_servers: IceServer[];
}

/** The reply to `join`. */
export interface Joined {
  answer: string;
  slot_mids: string[];
  announcer_mid: string | null;
}

export type ServerFrame =
  | { kind: "ready"; frame: ReadyFrame }
  | { kind: "refused"; frame: RefusedFrame }
  | { kind: "reply"; frame: ReplyFrame }
  | { kind: "event"; frame: EventFrame };

/** Longest frame either side accepts, in bytes. */
export const MAX_FRAME_BYTES = 64 * 1024;

/** A server frame by its shape, or null when it is none we know: an older page must survive a newer server. */
export function readFrame(text: string): ServerFrame | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const fields = value as Record<string, unknown>;
  if (typeof fields["re"] === "number") return { kind: "reply", frame: value as ReplyFrame };
  if (fields["type"] === "ready" && typeof fields["session"] === "string" && Array.isArray(fields["calls"])) {
    return { kind: "ready", frame: value as ReadyFrame };
  }
  if (fields["type"] === "refused" && typeof fields["code"] === "string") {
    return { kind: "refused", frame: value as RefusedFrame };
  }
  if (typeof fields["seq"] === "number" && typeof fields["type"] === "string") {
    return { kind: "event", frame: value as EventFrame };
  }
  return null;
}
