import source from "../../../crates/contract/src/hangup.rs?raw";
import { expect, test } from "vitest";
import { type HangupCause } from "@offhook/client";
import { endSentence, refusalSentence } from "../src/lib/texts";

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
