/** Times, durations and names as people read them. */
import type { Call, CallRow, CallView } from "@offhook/client";
import { texts } from "./texts";

export function duration(ms: number): string {
  const all = Math.max(0, Math.floor(ms / 1000));
  const pad = (n: number): string => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

/** ISO 8601, for the machine-readable part of a duration. */
export function isoDuration(ms: number): string {
  return `PT${Math.max(0, Math.floor(ms / 1000))}S`;
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

export function dayAndTime(ms: number, now: number): string {
  const date = new Date(ms);
  const time = date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  const days = Math.round((midnight(now) - midnight(ms)) / 86_400_000);
  if (days === 0) return `${texts.history.today}, ${time}`;
  if (days === 1) return `${texts.history.yesterday}, ${time}`;
  return `${date.toLocaleDateString(undefined, { day: "numeric", month: "short" })}, ${time}`;
}

function midnight(ms: number): number {
  return new Date(ms).setHours(0, 0, 0, 0);
}

export interface Who {
  name: string;
  number: string | null;
}

export function whoIsIn(view: CallView): Who {
  if (view.direction === "echo") return { name: texts.call.echo, number: "*43" };
  const party = view.parties.find((one) => one.state !== "ended") ?? view.parties[0];
  return person(party?.name ?? null, party?.number ?? null);
}

export function whoIsInRow(row: CallRow, extension: string | null): Who & { outgoing: boolean } {
  const outgoing = isOutgoing(row, extension);
  if (row.direction === "echo") return { name: texts.call.echo, number: "*43", outgoing };
  const side = outgoing ? row.to : row.from;
  return { ...person(side.name, side.number), outgoing };
}

export function isOutgoing(row: CallRow, extension: string | null): boolean {
  if (row.direction === "internal") return extension === null || row.from.number === extension;
  return row.direction !== "inbound";
}

function person(name: string | null, number: string | null): Who {
  if (name) return { name, number };
  return { name: number ?? texts.call.unknown, number: null };
}

export function wasOutgoing(call: Call): boolean {
  return call.role === "caller";
}
