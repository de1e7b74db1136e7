/** How a call sounds, from two samples of its statistics, by a shortened E-model (ITU-T G.107). */
import type { MediaSample } from "./ports";

export type Verdict = "good" | "fair" | "poor" | "lost";
export type Reason = "none" | "nothing_arrives" | "loss_in" | "loss_out" | "delay" | "jitter";

export interface Quality {
  /** Mean opinion score, 1 to 4.5. */
  mos: number;
  verdict: Verdict;
  reason: Reason;
  loss_in: number;
  loss_out: number;
  round_trip_ms: number | null;
  jitter_ms: number | null;
}

export interface Expectation {
  /** Somebody is there whose sound should arrive now: not muted, not held. */
  sound_expected: boolean;
  /** For how long nothing has arrived, in milliseconds. */
  silent_ms: number;
}

/** With nothing arriving for this long the other side counts as lost. */
export const LOST_AFTER_MS = 3_000;
/** G.113 for G.711 with concealment; Opus is no worse. */
const LOSS_ROBUSTNESS = 25;
const BEST_R = 93.2;

export function assess(before: MediaSample, now: MediaSample, expect: Expectation): Quality {
  const lossIn = Math.max(lossBetween(before, now), concealedBetween(before, now));
  const lossOut = now.remote_loss ?? 0;
  const delay = (now.round_trip_ms ?? 0) / 2 + (now.jitter_buffer_ms ?? 40);
  const mos = meanOpinion(Math.max(lossIn, lossOut), delay);
  const lost = expect.sound_expected && expect.silent_ms >= LOST_AFTER_MS;
  return {
    mos: lost ? 1 : mos,
    verdict: lost ? "lost" : mos >= 4 ? "good" : mos >= 3.4 ? "fair" : "poor",
    reason: lost ? "nothing_arrives" : reasonOf(mos, lossIn, lossOut, delay, now),
    loss_in: lossIn,
    loss_out: lossOut,
    round_trip_ms: now.round_trip_ms,
    jitter_ms: now.jitter_ms,
  };
}

/** The score for a loss (0 to 1) and a one-way delay in milliseconds. */
export function meanOpinion(loss: number, delayMs: number): number {
  const percent = Math.min(Math.max(loss, 0), 1) * 100;
  const delayImpairment = 0.024 * delayMs + (delayMs > 177.3 ? 0.11 * (delayMs - 177.3) : 0);
  const lossImpairment = (95 * percent) / (percent + LOSS_ROBUSTNESS);
  const r = Math.min(Math.max(BEST_R - delayImpairment - lossImpairment, 0), 100);
  return Math.max(1, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6);
}

function lossBetween(before: MediaSample, now: MediaSample): number {
  const lost = now.packets_lost - before.packets_lost;
  const received = now.packets_received - before.packets_received;
  return lost > 0 && received >= 0 ? lost / (lost + received) : 0;
}

function concealedBetween(before: MediaSample, now: MediaSample): number {
  const concealed = now.samples_concealed - before.samples_concealed;
  const all = now.samples_received - before.samples_received;
  return concealed > 0 && all > 0 ? Math.min(concealed / all, 1) : 0;
}

function reasonOf(mos: number, lossIn: number, lossOut: number, delay: number, now: MediaSample): Reason {
  if (mos >= 4) return "none";
  if (lossIn >= 0.01 && lossIn >= lossOut) return "loss_in";
  if (lossOut >= 0.01) return "loss_out";
  if (delay > 200) return "delay";
  return (now.jitter_ms ?? 0) > 40 ? "jitter" : "none";
}
