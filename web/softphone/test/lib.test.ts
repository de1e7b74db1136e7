import { expect, test } from "vitest";
import type { CallRow } from "@offhook/client";
import { duration, isOutgoing, isoDuration, whoIsInRow } from "../src/lib/format";
import { withOlder } from "../src/lib/merge";
import { peaks } from "../src/lib/waveform";

function row(id: string, fields: Partial<CallRow> = {}): CallRow {
  return {
    id,
    direction: "internal",
    state: "ended",
    from: { name: "Alice", number: "101" },
    to: { name: "Bob", number: "102" },
    started_ms: 0,
    answered_ms: null,
    ended_ms: null,
    duration_ms: null,
    cause: "normal",
    recordings: [],
    ...fields,
  };
}

test.each([[0, "0:00"], [59_999, "0:59"], [61_000, "1:01"], [3_661_000, "1:01:01"], [-5, "0:00"]] as const)(
  "%i ms read as %s",
  (ms, text) => {
    expect(duration(ms)).toBe(text);
    expect(isoDuration(ms)).toMatch(/^PT\d+S$/);
  },
);

test("a call between colleagues is outgoing for the one and incoming for the other", () => {
  expect(isOutgoing(row("1"), "101")).toBe(true);
  expect(isOutgoing(row("1"), "102")).toBe(false);
  expect(whoIsInRow(row("1"), "102").name).toBe("Alice");
});

test("a withheld number has a name that cannot be dialled", () => {
  const who = whoIsInRow(row("1", { direction: "inbound", from: { name: null, number: null } }), "101");
  expect(who).toMatchObject({ name: "Unknown number", number: null, outgoing: false });
});

test("looking at the first page again keeps the older rows, each once", () => {
  const shown = [row("3", { started_ms: 3 }), row("2", { started_ms: 2 }), row("1", { started_ms: 1 })];
  const fresh = [row("4", { started_ms: 4 }), row("3", { started_ms: 3 })];
  expect(withOlder(fresh, shown).map((one) => one.id)).toEqual(["4", "3", "2", "1"]);
});

test("the peaks of a recording are those of its pieces", () => {
  const samples = new Float32Array(100);
  samples[10] = -0.5;
  samples[90] = 0.25;
  expect(peaks(samples, 2)).toEqual([0.5, 0.25]);
});
