import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Answer, issue, refuse, refuseConnection, setUp } from "./testServer";
import { TokenServerAuthClient } from "./TokenServerAuthClient";

const seconds = (n: number) => vi.advanceTimersByTimeAsync(n * 1000);
const authorization = (request?: { init: RequestInit }) => new Headers(request?.init.headers).get("Authorization");

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a token", () => {
  it("is requested as JSON with the user's token, and includes its scheme", async () => {
    const { server, client } = setUp();
    expect(await client.getAccessToken()).toBe("Bearer t1");
    const { url, init } = server.requests[0]!;
    expect(url).toBe("https://tokens.test/getToken");
    expect(authorization(server.requests[0])).toBe("Bearer user");
    expect(new Headers(init.headers).get("Accept")).toBe("application/json");
    expect(init).toMatchObject({ cache: "no-store", credentials: "omit", redirect: "error" });
  });

  it("comes from localhost:3001 by default", async () => {
    const { server } = setUp();
    await new TokenServerAuthClient({ getUserToken: async () => "user" }).getAccessToken();
    expect(server.requests[0]!.url).toBe("http://localhost:3001/getToken");
  });

  it("costs one request for concurrent callers", async () => {
    const { server, client, getUserToken } = setUp();
    const tokens = await Promise.all(Array.from({ length: 50 }, () => client.getAccessToken()));
    expect(new Set(tokens)).toEqual(new Set(["Bearer t1"]));
    expect([server.requests.length, getUserToken.mock.calls.length]).toEqual([1, 1]);
  });

  it("is kept until the last quarter of its life, then renewed automatically", async () => {
    const { server, client, raised } = setUp();
    await client.getAccessToken();
    await seconds(0.75 * 3600 - 1);
    expect(await client.getAccessToken()).toBe("Bearer t1");
    expect(server.requests).toHaveLength(1);
    await seconds(1);
    expect(server.requests).toHaveLength(2);
    expect(raised).toEqual(["Bearer t1", "Bearer t2"]);
    expect(await client.getAccessToken()).toBe("Bearer t2");
  });

  it("from a slow answer is renewed, and expires, as counted from the request", async () => {
    const { server, client } = setUp();
    server.answer = () => {
      vi.setSystemTime(Date.now() + 15_000);
      return Response.json({ access_token: "slow", expires_in: 100 });
    };
    await client.getAccessToken();
    server.answer = refuseConnection;
    await seconds(60);
    expect(server.requests).toHaveLength(2);
    await seconds(25);
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "unreachable" });
  });

  it("that is the same as before is raised again only after an outage", async () => {
    const { server, client, raised } = setUp();
    const same = () => Response.json({ access_token: "same", expires_in: 100 });
    server.answer = same;
    await client.getAccessToken();
    await seconds(75);
    expect(server.requests).toHaveLength(2);
    server.answer = refuseConnection;
    await seconds(100);
    expect(raised).toEqual(["Bearer same"]);
    server.answer = same;
    await seconds(8);
    expect(raised).toEqual(["Bearer same", "Bearer same"]);
  });

  // In a sleeping tab no timer runs, and performance.now() may stand still.
  const sleep = (n: number) => vi.setSystemTime(Date.now() + n * 1000);
  const setClockBack = (n: number) => {
    vi.clearAllTimers();
    vi.setSystemTime(Date.now() - 5 * 3600_000);
    return seconds(n);
  };

  describe.each([["a sleep", sleep], ["the clock was set back", setClockBack]])("after %s", (_, pass) => {
    it("into its last quarter is returned at once, and renewed in the background", async () => {
      const { client } = setUp();
      await client.getAccessToken();
      await pass(3500);
      expect(await client.getAccessToken()).toBe("Bearer t1");
      await seconds(0);
      expect(await client.getAccessToken()).toBe("Bearer t2");
    });

    it("past its expiry is fetched", async () => {
      const { client } = setUp();
      await client.getAccessToken();
      await pass(3600);
      expect(await client.getAccessToken()).toBe("Bearer t2");
    });
  });

  it.each([1, 365 * 86400])("that lives %i s causes no busy loop", async (life) => {
    const { server, client } = setUp();
    server.answer = issue(life);
    await client.getAccessToken();
    await seconds(10);
    expect(server.requests.length).toBeLessThanOrEqual(11);
  });
});

describe("an outage", () => {
  it("leaves the token in use until it expires, and recovers without a reload", async () => {
    const { server, client, raised, missing } = setUp();
    server.answer = issue(100);
    await client.getAccessToken();
    server.answer = refuseConnection;
    await seconds(98); // the renewals at 74.25, 75.25, 77.25, 81.25, 89.25, 97.25 s fail
    expect(server.requests).toHaveLength(7);
    expect(await client.getAccessToken()).toBe("Bearer t1");
    expect(missing).toEqual([]);
    await seconds(1); // the token counts as expired 1 s early
    expect(missing).toEqual(["unreachable"]);
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "unreachable" });
    server.answer = () => Response.json({ access_token: "back", expires_in: 100 });
    await seconds(8);
    expect(await client.getAccessToken()).toBe("Bearer back");
    expect(raised).toEqual(["Bearer t1", "Bearer back"]); // and never ""
  });

  it("at the start ends for the Viewer when it ends for the server", async () => {
    const { server, client, raised, missing } = setUp();
    server.answer = refuseConnection;
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "unreachable" });
    server.answer = issue(3600);
    await seconds(1);
    expect([missing, raised]).toEqual([["unreachable"], ["Bearer t1"]]);
  });

  it.each([
    ["17", 17, 17],
    ["Thu, 01 Jan 2026 00:00:17 GMT", 17, 17],
    ["86400", 86400, 300],
    ["soon", 0, 1],
    ["", 0, 1],
    ["-5", 0, 1],
    ["Thu, 01 Jan 1970 00:00:00 GMT", 0, 1],
  ])("with Retry-After: %s says %i s, and is retried after %i s", async (value, retryAfter, wait) => {
    const { server, client } = setUp();
    vi.setSystemTime("2026-01-01T00:00:00Z");
    server.answer = refuse(503, "IMS does not answer", { "Retry-After": value });
    const error = { code: "unavailable", message: "IMS does not answer", retryAfter };
    await expect(client.getAccessToken()).rejects.toMatchObject(error);
    await seconds(wait - 0.1);
    await expect(client.getAccessToken()).rejects.toMatchObject(error);
    expect(server.requests).toHaveLength(1);
    await seconds(0.2);
    expect(server.requests).toHaveLength(2);
  });

  it("that outlasts the token is reported when the token expires, not at the next retry", async () => {
    const { server, client, missing } = setUp();
    server.answer = issue(100);
    await client.getAccessToken();
    server.answer = refuse(503, "x", { "Retry-After": "120" });
    await seconds(98);
    expect(missing).toEqual([]);
    await seconds(1);
    expect(missing).toEqual(["unavailable"]);
  });

  it("never has a token returned after its exp, which is in whole seconds", async () => {
    const { server, client } = setUp();
    vi.setSystemTime("2026-01-01T00:00:00.650Z");
    const exp = Date.parse("2026-01-01T00:01:40Z"); // issued within the second 00:00:00, for 100 s
    server.answer = issue(100);
    await client.getAccessToken();
    server.answer = refuseConnection;
    await seconds(98);
    expect(await client.getAccessToken()).toBe("Bearer t1");
    await vi.advanceTimersByTimeAsync(exp - Date.now());
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "unreachable" });
  });

  it("resets the backoff when it ends", async () => {
    const { server, client } = setUp();
    server.answer = refuseConnection;
    await client.getAccessToken().catch(() => {});
    await seconds(20); // retried after 1, 2, 4, 8 s
    server.answer = issue(100);
    await seconds(8);
    server.answer = refuseConnection;
    await seconds(76); // the renewal fails
    const before = server.requests.length;
    await seconds(1);
    expect(server.requests.length).toBeGreaterThan(before);
  });

  it("can be retried at once by retry()", async () => {
    const { server, client, raised } = setUp();
    server.answer = refuse(503, "IMS does not answer", { "Retry-After": "60" });
    await client.getAccessToken().catch(() => {});
    server.answer = issue(3600);
    expect(await client.retry()).toBe("Bearer t1");
    expect(raised).toEqual(["Bearer t1"]);
  });

  it.each<[string, Answer]>([
    ["HTML", () => new Response("<html>", { headers: { "Content-Type": "text/html" } })],
    ["null", () => Response.json(null)],
    ["nothing", () => Response.json({})],
    ["an empty token", () => Response.json({ access_token: "", expires_in: 60 })],
    ["a number for a token", () => Response.json({ access_token: 7, expires_in: 60 })],
    ["no life", issue(undefined)],
    ["an expired token", issue(0)],
    ["a 404", () => new Response("not found", { status: 404 })],
    ["a proxy's HTML", () => new Response("<html>", { status: 502 })],
    ["a proxy's limit", () => new Response("", { status: 429 })],
  ])("may be an answer with %s", async (_, answer) => {
    const { server, client, raised } = setUp();
    server.answer = answer;
    const message = expect.stringMatching(/^(the answer contains no token|status 4|status 5)/);
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "unavailable", message });
    expect(raised).toEqual([]);
  });

  it("may be an answer that breaks off", async () => {
    const { server, client } = setUp();
    const body = new ReadableStream({ start: (controller) => controller.error(new TypeError("network error")) });
    server.answer = () => new Response(body);
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "unreachable", message: "network error" });
  });

  it("may be an answer that never comes: callers wait at most 20 s", async () => {
    const { server, client, raised } = setUp();
    server.answer = () => new Promise(() => {});
    const call = expect(client.getAccessToken()).rejects.toMatchObject({ code: "unreachable" });
    await seconds(20);
    await call;
    expect(server.requests[0]!.init.signal!.aborted).toBe(true);
    server.answer = issue(3600);
    await seconds(1);
    expect(raised).toEqual(["Bearer t1"]);
  });
});

it("a server in the local network is announced to the browser where the app says so", async () => {
  const { server } = setUp();
  const options = { getUserToken: async () => "user", tokenUrl: "http://tokens.lan:3001/getToken" };
  await new TokenServerAuthClient(options).getAccessToken();
  await new TokenServerAuthClient({ ...options, targetAddressSpace: "local" }).getAccessToken();
  const spaces = server.requests.map(({ init }) => (init as { targetAddressSpace?: string }).targetAddressSpace);
  expect(spaces).toEqual([undefined, "local"]); // where it is wrong, Chrome blocks the request
});

describe("a refusal", () => {
  it("of the user's token is retried with a fresh one", async () => {
    const { server, client } = setUp();
    server.answer = () => (server.requests.length === 1 ? refuse(401, "expired")() : issue(3600)());
    expect(await client.getAccessToken()).toBe("Bearer t1");
    expect(server.requests.map(authorization)).toEqual(["Bearer user", "Bearer fresh-user"]);
  });

  it("of the fresh one too is reported with the server's reason, and not retried automatically", async () => {
    const { server, client, missing } = setUp();
    server.answer = refuse(401, "another issuer");
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "refused", message: "another issuer" });
    await seconds(3600);
    expect(server.requests).toHaveLength(2);
    expect(missing).toEqual(["refused"]);
    server.answer = issue(3600);
    expect(await client.getAccessToken()).toBe("Bearer t1");
  });

  it("for a missing scope requests no other user token", async () => {
    const { server, client, getUserToken } = setUp();
    server.answer = refuse(403, "scope missing");
    await expect(client.getAccessToken()).rejects.toMatchObject({ code: "refused", message: "scope missing" });
    expect(getUserToken).toHaveBeenCalledTimes(1);
  });

  it("leaves the token in use until it expires, then is reported", async () => {
    const { server, client, missing } = setUp();
    server.answer = issue(100);
    await client.getAccessToken();
    server.answer = refuse(401, "expired");
    await seconds(80);
    expect(await client.getAccessToken()).toBe("Bearer t1");
    expect(missing).toEqual([]);
    await seconds(19);
    expect(missing).toEqual(["refused"]);
  });
});

describe("getUserToken", () => {
  const auth0Error = (error: string, message: string) => Object.assign(new Error(message), { error });

  it.each(["login_required", "consent_required", "interaction_required", "missing_refresh_token", "invalid_grant"])(
    "that fails with %s needs the user: no request, no retry",
    async (error) => {
      const { server, client, getUserToken, missing } = setUp();
      getUserToken.mockRejectedValueOnce(auth0Error(error, "Login required"));
      await expect(client.getAccessToken()).rejects.toMatchObject({ code: "signed-out", message: "Login required" });
      await seconds(3600);
      expect([server.requests.length, getUserToken.mock.calls.length, missing]).toEqual([0, 1, ["signed-out"]]);
      expect(await client.getAccessToken()).toBe("Bearer t1");
    },
  );

  it.each<[string, () => unknown]>([
    ["a network failure", () => Promise.reject(new TypeError("Failed to fetch"))],
    ["a timeout", () => Promise.reject(auth0Error("timeout", "Timeout"))],
    ["an error of Auth0", () => Promise.reject(auth0Error("request_error", "HTTP error"))],
    ["a rejection with nothing", () => Promise.reject()],
    ["a throw", () => { throw new Error("no Auth0Client yet"); }],
    ["undefined", async () => undefined],
    ["an object", async () => ({ access_token: "user" })],
    ["an empty string", async () => ""],
    ["a line break", async () => "user\n"],
    ["a scheme", async () => "Bearer user"],
    ["letters outside ASCII", async () => "用户"],
  ])("that gives %s is named, and retried automatically", async (_, result) => {
    const { server, client, getUserToken, raised } = setUp();
    getUserToken.mockImplementationOnce(result as never);
    const error = { code: "unavailable", message: expect.stringMatching(/^getUserToken (failed: .|must return .*, got .)/) };
    await expect(client.getAccessToken()).rejects.toMatchObject(error);
    expect(server.requests).toHaveLength(0);
    await seconds(1);
    expect(raised).toEqual(["Bearer t1"]);
  });

  it("that is not async works", async () => {
    const { client, getUserToken } = setUp();
    getUserToken.mockImplementationOnce((() => "user") as never);
    expect(await client.getAccessToken()).toBe("Bearer t1");
  });

  it("that never settles is named after 20 s, and retried automatically", async () => {
    const { client, getUserToken, raised } = setUp();
    getUserToken.mockReturnValueOnce(new Promise(() => {}));
    const message = expect.stringMatching(/^getUserToken did not return/);
    const call = expect(client.getAccessToken()).rejects.toMatchObject({ code: "unavailable", message });
    await seconds(21);
    await call;
    expect(raised).toEqual(["Bearer t1"]);
  });
});

describe("a client that nobody uses", () => {
  it.each<[string, Answer]>([["a token", issue(100)], ["an outage", refuseConnection]])(
    "fetches no more than once by itself after %s, and works again when it is asked",
    async (_, answer) => {
      const { server } = setUp();
      const client = new TokenServerAuthClient({ getUserToken: async () => "user" }); // without listeners
      server.answer = answer;
      await client.getAccessToken().catch(() => {});
      await seconds(86400);
      expect(server.requests).toHaveLength(2);
      server.answer = issue(3600);
      expect(await client.getAccessToken()).toBe("Bearer t1");
    },
  );

  it("keeps its token fresh while it is asked, without listeners too", async () => {
    const { server } = setUp();
    const client = new TokenServerAuthClient({ getUserToken: async () => "user" });
    server.answer = issue(100);
    for (let n = 1; n <= 10; n++) {
      expect(await client.getAccessToken()).toBe(`Bearer t${n}`);
      await seconds(75); // the renewal is after 74.25 s
    }
  });
});

describe("dispose", () => {
  const disposed = { code: "unavailable", message: "the client is disposed" };

  it("ends the timers, and every further call", async () => {
    const { server, client } = setUp();
    await client.getAccessToken();
    await client.retry();
    expect(vi.getTimerCount()).toBe(2); // renewal and expiry
    client.dispose();
    expect(vi.getTimerCount()).toBe(0);
    await expect(client.getAccessToken()).rejects.toMatchObject(disposed);
    await expect(client.retry()).rejects.toMatchObject(disposed);
    expect(server.requests).toHaveLength(2);
  });

  it("ends a request: its callers get an error, and no event follows", async () => {
    const { server, client, missing } = setUp();
    server.answer = () => new Promise(() => {});
    const call = expect(client.getAccessToken()).rejects.toMatchObject(disposed);
    await seconds(1);
    client.dispose();
    await call;
    expect(server.requests[0]!.init.signal!.aborted).toBe(true);
    expect([vi.getTimerCount(), missing]).toEqual([0, []]);
  });
});
