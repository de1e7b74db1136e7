/** The microphone: asked for once, shared by all calls, exchangeable while they run, remembered by its label. */
import { MicrophoneError, type MicrophoneProblem } from "../errors";

export interface MicrophoneChoice {
  /** Device labels stay the same when ids are renewed. Null is the system's choice. */
  label: string | null;
  /** Echo cancellation, noise suppression and gain control. */
  processing: boolean;
}

export interface Device {
  id: string;
  label: string;
}

export class Microphone {
  choice: MicrophoneChoice;
  #stream: Promise<MediaStream> | null = null;
  #track: MediaStreamTrack | null = null;
  readonly #listeners = new Set<(track: MediaStreamTrack | null) => void>();

  constructor(choice: MicrophoneChoice) {
    this.choice = choice;
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.#deviceChanged());
  }

  /** Told whenever another track takes over, or none is left. */
  onTrack(listener: (track: MediaStreamTrack | null) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get current(): MediaStreamTrack | null {
    return this.#track;
  }

  async open(): Promise<MediaStreamTrack> {
    if (this.#track?.readyState === "live") return this.#track;
    this.#stream ??= this.#ask();
    try {
      const stream = await this.#stream;
      const track = stream.getAudioTracks()[0];
      if (!track) throw new MicrophoneError("missing", "the stream has no audio track");
      if (this.#track !== track) this.#take(track);
      return track;
    } finally {
      this.#stream = null;
    }
  }

  release(): void {
    this.#track?.stop();
    this.#track = null;
    this.#tell();
  }

  /** Takes effect at once for the calls that run. */
  async choose(choice: MicrophoneChoice): Promise<void> {
    this.choice = choice;
    if (this.#track === null) return;
    this.#track.stop();
    this.#track = null;
    await this.open();
  }

  /** Labels are empty until the microphone was allowed once. */
  async devices(): Promise<Device[]> {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return all
      .filter((device) => device.kind === "audioinput" && device.label !== "" && device.deviceId !== "default")
      .map((device) => ({ id: device.deviceId, label: device.label }));
  }

  async #ask(): Promise<MediaStream> {
    if (!navigator.mediaDevices) {
      throw new MicrophoneError("insecure", "browsers give the microphone to secure pages only");
    }
    const { label, processing } = this.choice;
    const device = label === null ? undefined : (await this.devices()).find((found) => found.label === label);
    const audio: MediaTrackConstraints = {
      echoCancellation: processing,
      noiseSuppression: processing,
      autoGainControl: processing,
      ...(device ? { deviceId: { ideal: device.id } } : {}),
    };
    try {
      return await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new MicrophoneError(problemOf(error), error instanceof Error ? error.message : String(error));
    }
  }

  #take(track: MediaStreamTrack): void {
    this.#track = track;
    track.addEventListener("ended", () => this.#track === track && void this.#lost());
    this.#tell();
  }

  /** The device was pulled out: go on with another one if there is any. */
  async #lost(): Promise<void> {
    this.#track = null;
    this.#tell();
    await this.open().catch(() => {});
  }

  /** The remembered device came back while another one is in use. */
  async #deviceChanged(): Promise<void> {
    const { label } = this.choice;
    if (label === null || !this.#track || this.#track.label === label) return;
    const back = (await this.devices()).some((device) => device.label === label);
    if (back) await this.choose(this.choice).catch(() => {});
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener(this.#track);
  }
}

function problemOf(error: unknown): MicrophoneProblem {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
      return "refused";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    case "SecurityError":
      return "insecure";
    default:
      return "failed";
  }
}
