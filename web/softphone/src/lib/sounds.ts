/** The tones that the page makes itself: ring, ringback and key feedback. */

/** ITU-T Q.23: the row's and the column's frequency of each key. */
const KEYS: Record<string, [number, number]> = {
  "1": [697, 1209], "2": [697, 1336], "3": [697, 1477], A: [697, 1633],
  "4": [770, 1209], "5": [770, 1336], "6": [770, 1477], B: [770, 1633],
  "7": [852, 1209], "8": [852, 1336], "9": [852, 1477], C: [852, 1633],
  "*": [941, 1209], "0": [941, 1336], "#": [941, 1477], D: [941, 1633],
};

/** ITU-T E.180 ringing tone as most of the world knows it: 425 Hz, 1 s on, 4 s off. */
const RINGBACK = { pitches: [425], burst_ms: 1_000, every_ms: 5_000, level: 0.06 };
const RING = { pitches: [587, 740], burst_ms: 900, every_ms: 2_600, level: 0.16 };

type Pattern = typeof RING;
export type Ringing = "none" | "ring" | "ringback";

export class Sounds {
  #context: AudioContext | null = null;
  #ringing: Ringing = "none";
  #timer: ReturnType<typeof setInterval> | null = null;
  #voices = new Set<OscillatorNode>();

  /** Call it from a click: browsers start sound only after one. */
  unlock(): void {
    this.#context ??= new AudioContext();
    void this.#context.resume().catch(() => {});
  }

  ring(ringing: Ringing): void {
    if (ringing === this.#ringing) return;
    this.#ringing = ringing;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#hush();
    if (ringing === "none") return;
    const pattern = ringing === "ring" ? RING : RINGBACK;
    this.#burst(pattern);
    this.#timer = setInterval(() => this.#burst(pattern), pattern.every_ms);
  }

  key(key: string): void {
    const pair = KEYS[key.toUpperCase()];
    if (pair) for (const pitch of pair) this.#tone(pitch, 0, 120, 0.05);
  }

  #burst(pattern: Pattern): void {
    const each = pattern.burst_ms / pattern.pitches.length;
    pattern.pitches.forEach((pitch, at) => this.#tone(pitch, at * each, each, pattern.level));
  }

  #tone(pitch: number, after_ms: number, length_ms: number, level: number): void {
    this.unlock();
    const context = this.#context;
    if (!context) return;
    const [start, end] = [context.currentTime + after_ms / 1000, context.currentTime + (after_ms + length_ms) / 1000];
    const voice = context.createOscillator();
    const gain = context.createGain();
    voice.frequency.value = pitch;
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(level, start + 0.01);
    gain.gain.setValueAtTime(level, end - 0.02);
    gain.gain.linearRampToValueAtTime(0, end);
    voice.connect(gain).connect(context.destination);
    voice.start(start);
    voice.stop(end);
    this.#voices.add(voice);
    voice.onended = () => this.#voices.delete(voice);
  }

  #hush(): void {
    for (const voice of this.#voices) voice.stop();
    this.#voices.clear();
  }
}
