import { expect, test } from "vitest";
import { type Answer, Api, ApiError, type Ask, SignIn, SignedOutError } from "../src/index";

function answer(status: number, body: unknown): Answer {
  return { ok: status < 300, status, json: () => Promise.resolve(body) };
}

test("a request whose token was refused is made once more with a fresh one", async () => {
  const asked: Ask[] = [];
  const api = new Api(
    (_path, ask) => {
      asked.push(ask);
      return Promise.resolve(asked.length === 1 ? answer(401, {}) : answer(200, { data: [], next: null }));
    },
    { get: (why) => Promise.resolve(`token-${why}`) },
  );
  expect(await api.calls(20, null)).toEqual({ data: [], next: null });
  expect(asked.map((ask) => ask.headers["authorization"])).toEqual(["Bearer token-first", "Bearer token-refused"]);
});

test("a problem is told with its code", async () => {
  const api = new Api(() => Promise.resolve(answer(404, { code: "not_found", detail: "no such recording" })), {
    get: () => Promise.resolve("t"),
  });
  await expect(api.recording("r")).rejects.toMatchObject({ status: 404, code: "not_found" });
});

test("ids are never part of a path unescaped", async () => {
  const paths: string[] = [];
  const api = new Api(
    (path) => {
      paths.push(path);
      return Promise.resolve(answer(200, {}));
    },
    { get: () => Promise.resolve("t") },
  );
  await api.recording("../me?x=1");
  expect(paths).toEqual(["/v1/recordings/..%2Fme%3Fx%3D1"]);
});

test("a refused refresh ends the sign-in, a server in trouble does not", async () => {
  const refused = new SignIn(() => Promise.resolve(answer(401, { code: "unauthorized" })));
  await expect(refused.refresh("r")).rejects.toBeInstanceOf(SignedOutError);
  const troubled = new SignIn(() => Promise.resolve(answer(503, {})));
  await expect(troubled.refresh("r")).rejects.toBeInstanceOf(ApiError);
});

test("one-click sign-in does not exist on a server that does not offer it", async () => {
  const signIn = new SignIn(() => Promise.resolve(answer(404, {})));
  expect(await signIn.devUsers()).toEqual([]);
});
