/**
 * The sign-in of this browser, kept for a reload and shared by its tabs. A refresh token is good for one use, so the
 * access token is kept with it: a reload in the midst of things then needs no refresh.
 */
import { SignIn, SignedOutError, type SignedIn, type Tokens } from "@offhook/client";
import { read, write } from "./preferences";

interface Kept {
  refresh_token: string;
  access_token: string;
  until_ms: number;
}

const KEY = "offhook.sign-in";
/** Renewed this long before it expires. */
const MARGIN_MS = 30_000;

export const browserFetch = (path: string, ask: RequestInit): Promise<Response> => fetch(path, ask);

export class Credentials implements Tokens {
  readonly server = new SignIn(browserFetch);
  #refreshing: Promise<string> | null = null;

  get signedIn(): boolean {
    return read<Kept>(KEY) !== null;
  }

  get refreshToken(): string | null {
    return read<Kept>(KEY)?.refresh_token ?? null;
  }

  take(signedIn: SignedIn): string {
    const { access_token, refresh_token, expires_in_s } = signedIn;
    write(KEY, { refresh_token, access_token, until_ms: Date.now() + expires_in_s * 1000 } satisfies Kept);
    return access_token;
  }

  forget(): void {
    write(KEY, null);
  }

  async get(why: "first" | "expiring" | "refused"): Promise<string> {
    const kept = read<Kept>(KEY);
    if (why === "first" && kept && kept.until_ms - MARGIN_MS > Date.now()) return kept.access_token;
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #refresh(): Promise<string> {
    const refreshToken = this.refreshToken;
    if (refreshToken === null) throw new SignedOutError();
    return this.take(await this.server.refresh(refreshToken));
  }
}
