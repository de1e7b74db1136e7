/** One tab of a browser holds the phone; the others wait, or take it over when asked to. */
const LOCK = "offhook-phone";
const CHANNEL = "offhook-tabs";

export interface TabEvents {
  /** This tab holds the phone now. */
  active(): void;
  /** Another tab holds it. */
  waiting(): void;
}

export class Tabs {
  readonly #events: TabEvents;
  readonly #channel: BroadcastChannel | null;
  #letGo: (() => void) | null = null;

  constructor(events: TabEvents) {
    this.#events = events;
    this.#channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(CHANNEL) : null;
    if (this.#channel) this.#channel.onmessage = (message) => message.data === "yield" && this.#yield();
  }

  async begin(): Promise<void> {
    // Locks exist on secure pages only; elsewhere there is no microphone and so no call to protect.
    if (!("locks" in navigator)) return this.#events.active();
    const free = await navigator.locks.query().then(({ held }) => !held?.some((lock) => lock.name === LOCK));
    if (!free) this.#events.waiting();
    this.#queue();
  }

  useHere(): void {
    this.#channel?.postMessage("yield");
  }

  /** Waits in line: a tab that closes hands the phone to the next one. */
  #queue(): void {
    void navigator.locks.request(LOCK, () => {
      this.#events.active();
      return new Promise<void>((resolve) => (this.#letGo = resolve));
    });
  }

  #yield(): void {
    if (!this.#letGo) return;
    this.#events.waiting();
    this.#letGo();
    this.#letGo = null;
    this.#queue();
  }
}
