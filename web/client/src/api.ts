/** The HTTP side: sign-in, history, recordings, settings. `fetch` comes from outside. */
import { SignedOutError } from "./errors";
import type { CallRow, IceServer, Me, RecordingMode, RecordingRow } from "./protocol";

export interface SignedIn {
  access_token: string;
  expires_in_s: number;
  refresh_token: string;
}

export interface DevUser {
  login: string;
  name: string;
  extension: string | null;
}

/** RFC 9457 problem details. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, detail: string) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

export interface Answer {
  ok: boolean;
  status: number;
  json(): Promise<unknown>;
}

export interface Ask {
  method: string;
  headers: Record<string, string>;
  body?: string;
}

export interface Bearer {
  /** `refused`: the token of the last request was not accepted. */
  get(why: "first" | "refused"): Promise<string>;
}

/** Requests that need no sign-in, and the refresh itself. */
export class SignIn<A extends Answer> {
  readonly #fetch: (path: string, ask: Ask) => Promise<A>;
  constructor(fetch: (path: string, ask: Ask) => Promise<A>) {
    this.#fetch = fetch;
  }

  async signIn(login: string, password: string): Promise<SignedIn> {
    return (await this.#post("/v1/sign-in", { login, password })) as SignedIn;
  }

  async devSignIn(login: string): Promise<SignedIn> {
    return (await this.#post("/v1/dev/sign-in", { login })) as SignedIn;
  }

  /** Empty where one-click sign-in does not exist. */
  async devUsers(): Promise<DevUser[]> {
    const answer = await this.#fetch("/v1/dev/users", { method: "GET", headers: {} });
    if (!answer.ok) return [];
    const page = (await answer.json()) as { data?: DevUser[] };
    return page.data ?? [];
  }

  async refresh(refreshToken: string): Promise<SignedIn> {
    try {
      return (await this.#post("/v1/refresh", { refresh_token: refreshToken })) as SignedIn;
    } catch (error) {
      // Only a plain refusal ends the sign-in; a server in trouble does not.
      if (error instanceof ApiError && (error.status === 400 || error.status === 401)) throw new SignedOutError();
      throw error;
    }
  }

  async #post(path: string, body: object): Promise<unknown> {
    const headers = { "content-type": "application/json" };
    const answer = await this.#fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw await problem(answer);
    return answer.json();
  }
}

export class Api<A extends Answer> {
  readonly #fetch: (path: string, ask: Ask) => Promise<A>;
  readonly #bearer: Bearer;
  constructor(fetch: (path: string, ask: Ask) => Promise<A>, bearer: Bearer) {
    this.#fetch = fetch;
    this.#bearer = bearer;
  }

  async me(): Promise<Me> {
    return (await this.#json("GET", "/v1/me")) as Me;
  }

  async calls(limit: number, after: string | null): Promise<{ data: CallRow[]; next: string | null }> {
    const rest = after === null ? "" : `&after=${encodeURIComponent(after)}`;
    return (await this.#json("GET", `/v1/calls?limit=${limit}${rest}`)) as { data: CallRow[]; next: string | null };
  }

  async recording(id: string): Promise<RecordingRow> {
    return (await this.#json("GET", `/v1/recordings/${encodeURIComponent(id)}`)) as RecordingRow;
  }

  async recordingAudio(id: string): Promise<A> {
    return this.#send("GET", `/v1/recordings/${encodeURIComponent(id)}/audio`);
  }

  /** An address of the same sound for a player, which asks for ranges and sends no headers. It is good for minutes. */
  async recordingTicket(id: string): Promise<{ url: string; expires_in_s: number }> {
    const path = `/v1/recordings/${encodeURIComponent(id)}/ticket`;
    return (await this.#json("POST", path)) as { url: string; expires_in_s: number };
  }

  async recordingMode(): Promise<RecordingMode> {
    return ((await this.#json("GET", "/v1/settings/recording")) as { mode: RecordingMode }).mode;
  }

  async setRecordingMode(mode: RecordingMode): Promise<RecordingMode> {
    return ((await this.#json("PATCH", "/v1/settings/recording", { mode })) as { mode: RecordingMode }).mode;
  }

  async iceServers(): Promise<IceServer[]> {
    return ((await this.#json("GET", "/v1/ice-servers")) as { ice_servers: IceServer[] }).ice_servers;
  }

  async signOut(refreshToken: string): Promise<void> {
    await this.#send("POST", "/v1/sign-out", { refresh_token: refreshToken });
  }

  async #json(method: string, path: string, body?: object): Promise<unknown> {
    return (await this.#send(method, path, body)).json();
  }

  async #send(method: string, path: string, body?: object): Promise<A> {
    const first = await this.#once(method, path, await this.#bearer.get("first"), body);
    const answer = first.status === 401 ? await this.#once(method, path, await this.#bearer.get("refused"), body) : first;
    if (!answer.ok) throw await problem(answer);
    return answer;
  }

  #once(method: string, path: string, token: string, body?: object): Promise<A> {
    const headers: Record<string, string> = { authorization: `Bearer ${token}` };
    if (!body) return this.#fetch(path, { method, headers });
    headers["content-type"] = "application/json";
    return this.#fetch(path, { method, headers, body: JSON.stringify(body) });
  }
}

async function problem(answer: Answer): Promise<ApiError> {
  const body = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string; title?: string };
  return new ApiError(answer.status, body.code ?? "unknown", body.detail ?? body.title ?? `status ${answer.status}`);
}
