/** Which rows of the history are shown, and which may still change. */
import type { CallRow } from "@offhook/client";

/** The fresh first page, followed by the older rows that were already shown. */
export function withOlder(fresh: CallRow[], shown: CallRow[]): CallRow[] {
  const ids = new Set(fresh.map((row) => row.id));
  const oldest = fresh.at(-1)?.started_ms;
  if (oldest === undefined) return fresh;
  return [...fresh, ...shown.filter((row) => !ids.has(row.id) && row.started_ms <= oldest)];
}

export function unfinished(row: CallRow): boolean {
  return row.state !== "ended" || row.recordings.some((recording) => !isFinal(recording.state));
}

export function isFinal(state: string): boolean {
  return state === "stopped" || state === "failed";
}
