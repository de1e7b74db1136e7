/** The page's state: who is signed in, the calls as they are shown, and what the user can do with them. */
import {
  Api,
  type Call,
  type CallState,
  CommandError,
  ConnectionLostError,
  type ConnectionState,
  type Me,
  MicrophoneError,
  Phone,
  type Quality,
  SignedOutError,
} from "@offhook/client";
import { Microphone, browserClock, browserMedia, browserSocket, pageMemory } from "@offhook/client/browser";
import { Credentials, browserFetch } from "./credentials";
import { type Who, wasOutgoing, whoIsIn } from "./format";
import { History } from "./history.svelte";
import { type Preferences, applyAppearance, loadPreferences, savePreferences } from "./preferences";
import { type Ringing, Sounds } from "./sounds";
import { Tabs } from "./tabs";
import { endSentence, isTrouble, recordingFailed, refusalSentence, refusedSentence, texts } from "./texts";

export type Stage = "starting" | "other_tab" | "signed_out" | "phone";

/** A call as it stood at its last change; the page never reads a `Call` that moves under it. */
export interface Shown {
  id: string;
  call: Call;
  state: CallState;
  who: Who;
  outgoing: boolean;
  /** When the timer began, by this computer's clock. */
  since_ms: number | null;
  muted: boolean;
  held: boolean;
  on_hold: boolean;
  ending: boolean;
  other_muted: boolean;
  can_record: boolean;
  recording: Call["view"]["recording"];
  quality: Quality | null;
  /** What the other side pressed on its keypad, the latest last. */
  digits: string;
}

/** The end of the last call, or why it never began; stays until the next one or until it is closed. */
export interface Ended {
  who: Who | null;
  number: string | null;
  sentence: string;
  recording_failed: string | null;
  /** Something the user should act on, rather than know. */
  alarming: boolean;
}

export class Softphone {
  stage = $state<Stage>("starting");
  connection = $state<ConnectionState>("offline");
  me = $state.raw<Me | null>(null);
  calls = $state.raw<Shown[]>([]);
  ended = $state.raw<Ended | null>(null);
  /** A sentence about what just went wrong, with nothing lost. */
  problem = $state<string | null>(null);
  sign_in_problem = $state<string | null>(null);
  sound_blocked = $state(false);
  preferences = $state.raw<Preferences>(loadPreferences());

  readonly credentials = new Credentials();
  readonly microphone = new Microphone(this.preferences.microphone);
  readonly sounds = new Sounds();
  readonly api = new Api(browserFetch, this.credentials);
  readonly history = new History(this.api);
  readonly #tabs = new Tabs({ active: () => this.#activate(), waiting: () => this.#wait() });
  readonly #since = new Map<string, number>();
  readonly #digits = new Map<string, string>();
  #phone: Phone | null = null;

  begin(): void {
    applyAppearance(this.preferences.appearance);
    void this.#tabs.begin();
    addEventListener("online", () => this.#phone?.networkChanged());
  }

  useHere(): void {
    this.sounds.unlock();
    this.#tabs.useHere();
  }

  async signIn(login: string, password: string): Promise<void> {
    await this.#enter(() => this.credentials.server.signIn(login, password));
  }

  async devSignIn(login: string): Promise<void> {
    await this.#enter(() => this.credentials.server.devSignIn(login));
  }

  async signOut(): Promise<void> {
    const { refreshToken } = this.credentials;
    for (const { call } of this.calls) if (call.role !== null) await call.hangup().catch(() => {});
    if (refreshToken !== null) await this.api.signOut(refreshToken).catch(() => {});
    this.#leave(null);
  }

  async dial(to: string): Promise<boolean> {
    const number = to.trim();
    if (number === "" || !this.#phone) return false;
    this.sounds.unlock();
    this.problem = null;
    this.ended = null;
    try {
      await this.#phone.dial(number);
      return true;
    } catch (error) {
      this.#dialFailed(number, error);
      return false;
    }
  }

  async answer(call: Call): Promise<void> {
    this.sounds.unlock();
    this.ended = null;
    await this.attempt(this.#phone?.answer(call));
  }

  async resume(call: Call): Promise<void> {
    await this.attempt(this.#phone?.holdOthers(call).then(() => call.hold(false)));
  }

  async digit(call: Call, digit: string): Promise<void> {
    this.sounds.key(digit);
    await this.attempt(call.digits(digit));
  }

  /** Shows in words what goes wrong with an order. */
  async attempt(order: Promise<unknown> | undefined): Promise<void> {
    this.problem = null;
    try {
      await order;
    } catch (error) {
      this.problem = sentenceOf(error);
    }
  }

  async prefer(change: Partial<Preferences>): Promise<void> {
    this.preferences = { ...this.preferences, ...change };
    savePreferences(this.preferences);
    applyAppearance(this.preferences.appearance);
    if (change.microphone) await this.attempt(this.microphone.choose(change.microphone));
  }

  allowSound(): void {
    this.sounds.unlock();
    this.sound_blocked = false;
    for (const element of document.querySelectorAll("audio")) void element.play().catch(() => {});
  }

  async #enter(ask: () => Promise<Parameters<Credentials["take"]>[0]>): Promise<void> {
    this.sounds.unlock();
    this.sign_in_problem = null;
    try {
      this.credentials.take(await ask());
      this.#open();
    } catch (error) {
      const status = error instanceof Error && "status" in error ? error.status : null;
      const { wrong, too_many, unreachable } = texts.sign_in;
      this.sign_in_problem = status === 429 ? too_many : typeof status === "number" && status < 500 ? wrong : unreachable;
    }
  }

  #activate(): void {
    if (this.credentials.signedIn) this.#open();
    else this.stage = "signed_out";
  }

  #wait(): void {
    this.#close();
    this.stage = "other_tab";
  }

  #open(): void {
    this.#close();
    const outlet = {
      container: document.getElementById("sound") ?? document.body,
      blocked: () => (this.sound_blocked = true),
    };
    const phone = new Phone({
      url: `${location.origin.replace(/^http/, "ws")}/v1/ws`,
      tokens: this.credentials,
      socket: browserSocket,
      clock: browserClock,
      random: Math.random,
      media: browserMedia(this.microphone, outlet),
      memory: pageMemory("offhook.phone"),
      iceServers: () => this.api.iceServers(),
    });
    phone.on("state", (state) => this.#connectionChanged(phone, state));
    phone.on("incoming", () => this.#show(phone));
    phone.on("call", () => this.#show(phone));
    phone.on("ended", (call) => this.#callEnded(phone, call));
    phone.on("digit", ({ call, digit }) => this.#hearDigit(phone, call, digit));
    phone.on("microphone", ({ error }) => (this.problem = texts.microphone[error.problem]));
    phone.on("refused", (frame) => (this.problem = refusedSentence(frame)));
    this.#phone = phone;
    this.stage = "phone";
    phone.start();
    void this.history.load();
  }

  #close(): void {
    const phone = this.#phone;
    this.#phone = null;
    phone?.stop();
    this.calls = [];
    this.ended = null;
    this.problem = null;
    this.connection = "offline";
    this.sounds.ring("none");
    this.history.clear();
  }

  /** The sign-in is over, by wish or by time. */
  #leave(why: string | null): void {
    this.#close();
    this.credentials.forget();
    localStorage.removeItem("offhook.phone");
    this.me = null;
    this.sign_in_problem = why;
    this.stage = "signed_out";
  }

  #connectionChanged(phone: Phone, state: ConnectionState): void {
    if (phone !== this.#phone) return;
    this.connection = state;
    if (state === "failed") this.#leave(texts.sign_in.expired);
    if (state !== "ready") return;
    this.me = phone.me;
    this.#show(phone);
    void this.history.refresh();
  }

  #callEnded(phone: Phone, call: Call): void {
    if (phone !== this.#phone) return;
    const { view } = call;
    const who = whoIsIn(view);
    const taken = call.role === null && view.cause === "normal";
    const end = { cause: view.cause, side: view.cause_side, outgoing: wasOutgoing(call), who: who.name };
    const failed = view.recording?.state === "failed" ? view.recording : null;
    this.ended = {
      who,
      number: who.number ?? (view.parties[0]?.number ?? null),
      sentence: taken ? texts.call.taken : endSentence(end),
      recording_failed: failed ? recordingFailed(failed) : null,
      alarming: failed !== null || isTrouble(view.cause),
    };
    this.#since.delete(call.id);
    this.#digits.delete(call.id);
    this.#show(phone);
    void this.history.refresh();
  }

  #hearDigit(phone: Phone, call: Call, digit: string): void {
    this.#digits.set(call.id, ((this.#digits.get(call.id) ?? "") + digit).slice(-32));
    this.#show(phone);
  }

  #show(phone: Phone): void {
    if (phone !== this.#phone) return;
    this.calls = phone.calls.map((call) => this.#shown(call));
    this.sounds.ring(ringingFor(this.calls));
    const ringing = this.calls.find((shown) => shown.state === "incoming");
    document.title = ringing ? texts.call.incoming_from(ringing.who.name) : texts.product;
  }

  #shown(call: Call): Shown {
    const { view } = call;
    return {
      id: call.id,
      call,
      state: call.state,
      who: whoIsIn(view),
      outgoing: wasOutgoing(call),
      since_ms: this.#timerOf(call),
      muted: call.muted,
      held: call.held,
      on_hold: call.onHold,
      ending: call.ending,
      other_muted: call.other?.muted === true,
      can_record: view.can_record,
      recording: view.recording,
      quality: call.quality,
      digits: this.#digits.get(call.id) ?? "",
    };
  }

  /** Counted from when we saw the answer; after a reload from what the server says. */
  #timerOf(call: Call): number | null {
    const { answered_ms, state } = call.view;
    if (answered_ms === null || state !== "active") {
      this.#since.set(call.id, -1);
      return null;
    }
    const seen = this.#since.get(call.id);
    const since = seen === undefined ? Math.min(answered_ms, Date.now()) : seen === -1 ? Date.now() : seen;
    this.#since.set(call.id, since);
    return since;
  }

  #dialFailed(number: string, error: unknown): void {
    if (!(error instanceof CommandError)) {
      this.problem = sentenceOf(error);
      return;
    }
    const cause = error.cause_word;
    const sentence =
      cause === null ? refusalSentence(error.code) : endSentence({ cause, side: "system", outgoing: true, who: number });
    this.ended = { who: null, number, sentence, recording_failed: null, alarming: isTrouble(cause) };
    void this.history.refresh();
  }
}

function ringingFor(calls: Shown[]): Ringing {
  const talking = calls.some(({ state }) => state === "active" || state === "early" || state === "connecting");
  if (talking) return "none";
  if (calls.some(({ state }) => state === "incoming")) return "ring";
  return calls.some(({ state, ending }) => state === "ringing" && !ending) ? "ringback" : "none";
}

function sentenceOf(error: unknown): string {
  if (error instanceof MicrophoneError) return texts.microphone[error.problem];
  if (error instanceof ConnectionLostError) return texts.call.not_now;
  if (error instanceof SignedOutError) return texts.sign_in.expired;
  if (error instanceof CommandError) return refusalSentence(error.code);
  return texts.call.failed;
}

export const softphone = new Softphone();
