/** How loud the microphone is right now, 0 to 1 on a decibel scale. */
import type { Microphone } from "@offhook/client/browser";

const QUIETEST_DB = -60;
const EVERY_MS = 100;

export class Level {
  value = $state(0);
  #stop: (() => void) | null = null;

  /** Follows the microphone through changes of its track, until the returned function is called. */
  follow(microphone: Microphone): () => void {
    this.#measure(microphone.current);
    const stopListening = microphone.onTrack((track) => this.#measure(track));
    return () => {
      stopListening();
      this.#measure(null);
    };
  }

  #measure(track: MediaStreamTrack | null): void {
    this.#stop?.();
    this.#stop = null;
    this.value = 0;
    if (!track) return;
    const context = new AudioContext();
    const source = context.createMediaStreamSource(new MediaStream([track]));
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      this.value = loudness(samples);
    }, EVERY_MS);
    this.#stop = () => {
      clearInterval(timer);
      source.disconnect();
      void context.close();
    };
  }
}

export function loudness(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const db = 10 * Math.log10(sum / samples.length + 1e-12);
  return Math.min(1, Math.max(0, 1 - db / QUIETEST_DB));
}
