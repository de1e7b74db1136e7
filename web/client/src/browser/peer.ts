/** RTCPeerConnection as a `Peer`: one line up, four speaker slots and the Announcer down, an audio element each. */
import type { Media, MediaSample, Peer, PeerEvents, PeerState } from "../ports";
import type { IceServer, Joined } from "../protocol";
import type { Microphone } from "./microphone";

/** Speakers heard at the same time. */
const SLOTS = 4;

export interface Outlet {
  /** Where the audio elements live. */
  container: HTMLElement;
  /** The browser did not let an element play before the user touched the page. */
  blocked(): void;
}

export function browserMedia(microphone: Microphone, outlet: Outlet): Media {
  return {
    prepare: async () => void (await microphone.open()),
    open: async (call, iceServers, events) => {
      const track = await microphone.open();
      return new BrowserPeer(call, iceServers, track, microphone, outlet, events);
    },
    release: () => microphone.release(),
  };
}

class BrowserPeer implements Peer {
  readonly #connection: RTCPeerConnection;
  readonly #sender: RTCRtpSender;
  readonly #events: PeerEvents;
  readonly #elements: HTMLAudioElement[] = [];
  readonly #stopListening: () => void;
  /** A copy of our own, so that muting one call leaves another one's microphone alone. */
  #track: MediaStreamTrack;
  #microphoneOn = true;
  #closed = false;

  constructor(
    call: string,
    iceServers: IceServer[],
    track: MediaStreamTrack,
    microphone: Microphone,
    outlet: Outlet,
    events: PeerEvents,
  ) {
    this.#events = events;
    this.#track = track.clone();
    this.#connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.#sender = this.#connection.addTransceiver(this.#track, { direction: "sendonly" }).sender;
    for (let line = 0; line < SLOTS + 1; line += 1) {
      const receiver = this.#connection.addTransceiver("audio", { direction: "recvonly" });
      this.#play(receiver.receiver.track, call, line < SLOTS ? `slot-${line}` : "announcer", outlet);
    }
    this.#connection.onconnectionstatechange = () => this.#tell();
    this.#connection.oniceconnectionstatechange = () => this.#tell();
    this.#stopListening = microphone.onTrack((next) => next && void this.#replace(next));
  }

  async offer(): Promise<string> {
    await this.#connection.setLocalDescription();
    // No waiting for candidates: the server answers checks from wherever they come.
    return this.#connection.localDescription?.sdp ?? "";
  }

  async accept(joined: Joined): Promise<void> {
    if (!this.#closed) await this.#connection.setRemoteDescription({ type: "answer", sdp: joined.answer });
  }

  setMicrophoneOn(on: boolean): void {
    this.#microphoneOn = on;
    this.#track.enabled = on;
  }

  async sample(): Promise<MediaSample> {
    return readSample(await this.#connection.getStats(), Date.now());
  }

  close(): void {
    this.#closed = true;
    this.#stopListening();
    this.#connection.close();
    this.#track.stop();
    for (const element of this.#elements) {
      element.srcObject = null;
      element.remove();
    }
  }

  async #replace(next: MediaStreamTrack): Promise<void> {
    const track = next.clone();
    track.enabled = this.#microphoneOn;
    this.#track.stop();
    this.#track = track;
    if (!this.#closed) await this.#sender.replaceTrack(track);
  }

  #play(track: MediaStreamTrack, call: string, line: string, outlet: Outlet): void {
    const element = document.createElement("audio");
    element.autoplay = true;
    element.dataset["call"] = call;
    element.dataset["line"] = line;
    element.srcObject = new MediaStream([track]);
    outlet.container.append(element);
    this.#elements.push(element);
    void element.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === "NotAllowedError") outlet.blocked();
    });
  }

  #tell(): void {
    if (!this.#closed) this.#events.state(stateOf(this.#connection));
  }
}

function stateOf(connection: RTCPeerConnection): PeerState {
  switch (connection.connectionState) {
    case "connected":
      return "connected";
    case "disconnected":
      return "interrupted";
    case "failed":
    case "closed":
      return "failed";
    default:
      return "connecting";
  }
}

function readSample(report: RTCStatsReport, at_ms: number): MediaSample {
  const sample: MediaSample = {
    at_ms,
    packets_received: 0,
    packets_lost: 0,
    packets_sent: 0,
    remote_loss: null,
    round_trip_ms: null,
    jitter_ms: null,
    samples_received: 0,
    samples_concealed: 0,
    jitter_buffer_ms: null,
  };
  report.forEach((row: Record<string, unknown>) => addRow(sample, row));
  return sample;
}

function addRow(sample: MediaSample, row: Record<string, unknown>): void {
  const number = (key: string): number => (typeof row[key] === "number" ? (row[key] as number) : 0);
  switch (row["type"]) {
    case "inbound-rtp": {
      if (number("packetsReceived") === 0) return;
      sample.packets_received += number("packetsReceived");
      sample.packets_lost += number("packetsLost");
      sample.samples_received += number("totalSamplesReceived");
      sample.samples_concealed += number("concealedSamples") - number("silentConcealedSamples");
      sample.jitter_ms = Math.max(sample.jitter_ms ?? 0, number("jitter") * 1000);
      const emitted = number("jitterBufferEmittedCount");
      const delay = emitted > 0 ? (number("jitterBufferDelay") / emitted) * 1000 : 0;
      sample.jitter_buffer_ms = Math.max(sample.jitter_buffer_ms ?? 0, delay);
      return;
    }
    case "outbound-rtp":
      sample.packets_sent += number("packetsSent");
      return;
    case "remote-inbound-rtp":
      sample.remote_loss = number("fractionLost");
      return;
    case "candidate-pair":
      if (row["nominated"] === true && row["state"] === "succeeded") {
        sample.round_trip_ms = number("currentRoundTripTime") * 1000;
      }
  }
}
