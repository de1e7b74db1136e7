import source from "../../../crates/contract/src/hangup.rs?raw";
import views from "../../../call-control/core/src/view.rs?raw";
import { expect, test } from "vitest";
import { type HangupCause } from "@offhook/client";
import { endSentence, recordingFailed, recordingReason, refusalSentence, refusedSentence, texts } from "../src/lib/texts";

/** The words that the servers use, from where they are defined. */
function words(): HangupCause[] {
  return [...source.matchAll(/Self::\w+ => "(\w+)"/g)].map((match) => match[1] as HangupCause);
}

test("every cause of the servers has a sentence, in either direction", () => {
  expect(words().length).toBeGreaterThanOrEqual(21);
  for (const cause of words()) {
    for (const outgoing of [true, false]) {
      const sentence = endSentence({ cause, side: "other", outgoing, who: "Bob" });
      expect(sentence, cause).toMatch(/^[A-Z].*\.$/);
    }
  }
});

test("who ended the call is told from the reader's side", () => {
  const end = { cause: "normal", outgoing: true, who: "Bob" } as const;
  expect(endSentence({ ...end, side: "me" })).toBe("You ended the call.");
  expect(endSentence({ ...end, side: "other" })).toBe("Bob ended the call.");
  expect(endSentence({ ...end, cause: "cancelled", outgoing: false, side: "other" })).toBe("Missed call from Bob.");
});

test("a refusal without a cause has words too, known or not", () => {
  expect(refusalSentence("invalid")).toBe("This is not a number that can be called.");
  expect(refusalSentence("something_new")).toMatch(/\.$/);
});

test("why a recording is not there is told in our words, a new code in the server's", () => {
  const part = views.slice(views.indexOf("impl RecordingTrouble"), views.indexOf("const fn sentence"));
  const codes = [...part.matchAll(/Self::\w+ => "(\w+)"/g)].map((match) => match[1] as string);
  expect(codes.length).toBeGreaterThanOrEqual(9);
  expect(Object.keys(texts.recording.reasons).sort()).toEqual([...codes].sort());
  const words = recordingReason({ reason: "no recorder is ready", reason_code: "no_recorder" });
  expect(words).toBe("no recorder is running. Tell your administrator");
  expect(recordingReason({ reason: "something new", reason_code: "new" })).toBe("something new");
  expect(recordingFailed({ reason: null, reason_code: null })).toBe("Recording has stopped");
});

test("a page that is not let in reads our words, or the server's for a code that is new", () => {
  expect(refusedSentence({ code: "limit_reached", message: "server's" })).not.toContain("server's");
  expect(refusedSentence({ code: "new", message: "server's words" })).toContain("server's words");
});
