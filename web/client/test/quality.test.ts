import { expect, test } from "vitest";
import { type MediaSample, assess, meanOpinion } from "../src/index";

const quiet = { sound_expected: true, silent_ms: 0 };

function sample(fields: Partial<MediaSample> = {}): MediaSample {
  return {
    at_ms: 0,
    packets_received: 0,
    packets_lost: 0,
    packets_sent: 0,
    remote_loss: null,
    round_trip_ms: 20,
    jitter_ms: 2,
    samples_received: 0,
    samples_concealed: 0,
    jitter_buffer_ms: 40,
    ...fields,
  };
}

test("the score falls with loss and with delay, and stays within its scale", () => {
  expect(meanOpinion(0, 50)).toBeGreaterThan(4.3);
  expect(meanOpinion(0.02, 50)).toBeLessThan(meanOpinion(0, 50));
  expect(meanOpinion(0, 400)).toBeLessThan(meanOpinion(0, 100));
  expect(meanOpinion(1, 5_000)).toBe(1);
});

test.each([
  [50, 0, "good", "none"],
  [48, 2, "fair", "loss_in"],
  [40, 10, "poor", "loss_in"],
] as const)("%i packets in and %i lost sound %s", (received, lost, verdict, reason) => {
  const quality = assess(sample(), sample({ packets_received: received, packets_lost: lost }), quiet);
  expect(quality).toMatchObject({ verdict, reason });
});

test("loss on our own way out is told as such", () => {
  const quality = assess(sample(), sample({ packets_received: 50, remote_loss: 0.1 }), quiet);
  expect(quality).toMatchObject({ reason: "loss_out" });
});

test("a long delay is told as such", () => {
  const quality = assess(sample(), sample({ packets_received: 50, round_trip_ms: 700 }), quiet);
  expect(quality).toMatchObject({ reason: "delay" });
});

test("a duplicate that makes the lost count fall is no loss", () => {
  const quality = assess(sample({ packets_lost: 3 }), sample({ packets_received: 50, packets_lost: 2 }), quiet);
  expect(quality.loss_in).toBe(0);
});
