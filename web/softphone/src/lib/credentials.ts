/** The sign-in of this browser: a short-lived access token in memory, the refresh token kept for a reload. */
import { SignIn, SignedOutError, type SignedIn, type Tokens } from "@offhook/client";
import { read, write } from "./preferences";

interface Kept {
  refresh_token: string;
}

const KEY = "offhook.sign-in";
/** Renewed this long before it expires. */
const MARGIN_MS = 30_000;

export const browserFetch = (path: string, ask: RequestInit): Promise<Response> => fetch(path, ask);

export class Credentials implements Tokens {
  readonly server = new SignIn(browserFetch);
  #access: { token: string; until_ms: number } | null = null;
  #refreshing: Promise<string> | null = null;

  get signedIn(): boolean {
    return read<Kept>(KEY) !== null;
  }

  get refreshToken(): string | null {
    return read<Kept>(KEY)?.refresh_token ?? null;
  }

  take(signedIn: SignedIn): string {
    write(KEY, { refresh_token: signedIn.refresh_token } satisfies Kept);
    this.#access = { token: signedIn.access_token, until_ms: Date.now() + signedIn.expires_in_s * 1000 };
    return signedIn.access_token;
  }

  forget(): void {
    write(KEY, null);
    this.#access = null;
  }

  async get(why: "first" | "expiring" | "refused"): Promise<string> {
    const access = this.#access;
    if (why === "first" && access && access.until_ms - MARGIN_MS > Date.now()) return access.token;
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #refresh(): Promise<string> {
    const refreshToken = this.refreshToken;
    if (refreshToken === null) throw new SignedOutError();
    return this.take(await this.server.refresh(refreshToken));
  }
}
