/** The call log, newest first, and its keeping up to date. */
import type { Api, CallRow } from "@offhook/client";
import { unfinished, withOlder } from "./merge";

const PAGE = 20;
/** A recording is finished some seconds after its call; then the list stops asking. */
const CATCH_UP_MS = [1_000, 2_000, 4_000, 8_000, 15_000, 30_000];

export class History {
  rows = $state.raw<CallRow[]>([]);
  next = $state<string | null>(null);
  loading = $state(false);
  failed = $state(false);
  readonly #api: Api<Response>;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #era = 0;

  constructor(api: Api<Response>) {
    this.#api = api;
  }

  async load(): Promise<void> {
    await this.#fetch(null);
  }

  async more(): Promise<void> {
    if (this.next !== null) await this.#fetch(this.next);
  }

  /** Something happened: look now, and again until everything in the list is final. */
  async refresh(): Promise<void> {
    await this.#fetch(null);
    this.#catchUp(0);
  }

  clear(): void {
    this.#era += 1;
    this.#stop();
    this.rows = [];
    this.next = null;
  }

  #catchUp(turn: number): void {
    this.#stop();
    const wait = CATCH_UP_MS[turn];
    if (wait === undefined || !this.rows.some(unfinished)) return;
    this.#timer = setTimeout(() => void this.#fetch(null).then(() => this.#catchUp(turn + 1)), wait);
  }

  async #fetch(after: string | null): Promise<void> {
    const era = this.#era;
    this.loading = true;
    try {
      const page = await this.#api.calls(PAGE, after);
      if (era !== this.#era) return;
      this.rows = after === null ? withOlder(page.data, this.rows) : [...this.rows, ...page.data];
      // A look at the first page must not forget how far the list was opened.
      if (after !== null || this.rows.length <= PAGE) this.next = page.next;
      this.failed = false;
    } catch {
      if (era === this.#era) this.failed = true;
    } finally {
      this.loading = false;
    }
  }

  #stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
