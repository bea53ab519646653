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
  it("is asked for as JSON, with the user's token, and carries its scheme", async () => {
    const { server, client } = setUp();
    expect(await client.getAccessToken()).toBe("Bearer t1");
    const { url, init } = server.requests[0]!;
    expect(url).toBe("https://tokens.test/getToken");
    expect(authorization(server.requests[0])).toBe("Bearer user");
    expect(new Headers(init.headers).get("Accept")).toBe("application/json");
    expect(init).toMatchObject({ cache: "no-store", credentials: "omit", redirect: "error" });
  });

  it("comes from this machine's server unless told otherwise", async () => {
    const { server } = setUp();
    await new TokenServerAuthClient({ getUserToken: async () => "user" }).getAccessToken();
    expect(server.requests[0]!.url).toBe("http://localhost:3001/getToken");
  });

  it("is one request's for all who ask at once", async () => {
    const { server, client, getUserToken } = setUp();
    const tokens = await Promise.all(Array.from({ length: 50 }, () => client.getAccessToken()));
    expect(new Set(tokens)).toEqual(new Set(["Bearer t1"]));
    expect([server.requests.length, getUserToken.mock.calls.length]).toEqual([1, 1]);
  });

  it("is kept until the last quarter of its life, and then renewed though nobody asks", async () => {
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

  it("that was long in coming counts its life from when it was asked for", async () => {
    const { server, client } = setUp();
    const answer = issue(100);
    server.answer = () => {
      vi.setSystemTime(Date.now() + 15_000);
      return answer();
    };
    await client.getAccessToken();
    vi.setSystemTime(Date.now() + 85_000);
    expect(await client.getAccessToken()).toBe("Bearer t2");
  });

  it("leaves one timer behind, however it was asked for", async () => {
    const { client } = setUp();
    await client.getAccessToken();
    await client.retry();
    expect(vi.getTimerCount()).toBe(1);
  });

  it("is not raised again when a renewal brings the same one", async () => {
    const { server, client, raised } = setUp();
    server.answer = () => Response.json({ access_token: "same", expires_in: 100 });
    await client.getAccessToken();
    await seconds(75);
    expect(server.requests).toHaveLength(2);
    expect(raised).toEqual(["Bearer same"]);
  });

  it("is given at once after a sleep into its last quarter, and renewed meanwhile", async () => {
    const { client } = setUp();
    await client.getAccessToken();
    vi.setSystemTime(Date.now() + 3500_000); // timers don't run in a sleeping tab
    expect(await client.getAccessToken()).toBe("Bearer t1");
    await seconds(0);
    expect(await client.getAccessToken()).toBe("Bearer t2");
  });

  it("is waited for after a sleep past its end", async () => {
    const { client } = setUp();
    await client.getAccessToken();
    vi.setSystemTime(Date.now() + 3600_000);
    expect(await client.getAccessToken()).toBe("Bearer t2");
  });

  it.each([1, 365 * 86400])("with %i s to live does not make a busy loop", async (life) => {
    const { server, client } = setUp();
    server.answer = issue(life);
    await client.getAccessToken();
    await seconds(10);
    expect(server.requests.length).toBeLessThanOrEqual(11);
  });
});

describe("an outage", () => {
  it("leaves the token in use until its end, and ends without a reload", async () => {
    const { server, client, raised, missing } = setUp();
    server.answer = issue(100);
    await client.getAccessToken();
    server.answer = refuseConnection;
    await seconds(99); // the renewals at 75, 76, 78, 82, 90, 98 s fail
    expect(server.requests).toHaveLength(7);
    expect(await client.getAccessToken()).toBe("Bearer t1");
    expect(missing).toEqual([]);
    await seconds(2);
    await expect(client.getAccessToken()).rejects.toMatchObject({ trouble: "unreachable" });
    server.answer = () => Response.json({ access_token: "back", expires_in: 100 });
    await seconds(8);
    expect(await client.getAccessToken()).toBe("Bearer back");
    expect(raised).toEqual(["Bearer t1", "Bearer back"]); // and never ""
  });

  it("from the start is over for the Viewer when it is for the server", async () => {
    const { server, client, raised, missing } = setUp();
    server.answer = refuseConnection;
    await expect(client.getAccessToken()).rejects.toMatchObject({ trouble: "unreachable" });
    server.answer = issue(3600);
    await seconds(1);
    expect([missing, raised]).toEqual([["unreachable"], ["Bearer t1"]]);
  });

  it("with the same token afterwards is over too", async () => {
    const { server, client, raised } = setUp();
    server.answer = () => Response.json({ access_token: "same", expires_in: 4 });
    await client.getAccessToken();
    server.answer = refuseConnection;
    await seconds(5);
    server.answer = () => Response.json({ access_token: "same", expires_in: 4 });
    await seconds(8);
    expect(raised).toEqual(["Bearer same", "Bearer same"]);
  });

  it("is waited out as long as Retry-After says", async () => {
    const { server, client } = setUp();
    server.answer = refuse(503, "IMS does not answer", { "Retry-After": "17" });
    const why = { trouble: "unavailable", message: "IMS does not answer", retryAfter: 17 };
    await expect(client.getAccessToken()).rejects.toMatchObject(why);
    await seconds(16.9);
    await expect(client.getAccessToken()).rejects.toMatchObject(why);
    expect(server.requests).toHaveLength(1);
    await seconds(0.2);
    expect(server.requests).toHaveLength(2);
  });

  it("is not waited out for more than 5 min, whatever Retry-After says", async () => {
    const { server, client } = setUp();
    server.answer = refuse(503, "x", { "Retry-After": "86400" });
    await client.getAccessToken().catch(() => {});
    await seconds(301);
    expect(server.requests).toHaveLength(2);
  });

  it("is waited out also when the answer is a proxy's HTML, or 429", async () => {
    for (const status of [502, 429]) {
      const { server, client } = setUp();
      server.answer = () => new Response("<html>", { status, headers: { "Retry-After": "30" } });
      const why = { trouble: "unavailable", message: `status ${status}`, retryAfter: 30 };
      await expect(client.getAccessToken()).rejects.toMatchObject(why);
    }
  });

  it("is retried soon again, after one that took long", async () => {
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

  it("can be cut short by a person", async () => {
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
    ["a dead token", issue(0)],
    ["a 404", () => new Response("not found", { status: 404 })],
  ])("may be an answer with %s", async (_, answer) => {
    const { server, client, raised } = setUp();
    server.answer = answer;
    await expect(client.getAccessToken()).rejects.toMatchObject({ trouble: "unavailable" });
    expect(raised).toEqual([]);
  });

  it("may be an answer that never comes: it holds nobody up for longer than 20 s", async () => {
    const { server, client, raised } = setUp();
    server.answer = () => new Promise(() => {});
    const asked = expect(client.getAccessToken()).rejects.toMatchObject({ trouble: "unreachable" });
    await seconds(20);
    await asked;
    expect(server.requests[0]!.init.signal!.aborted).toBe(true);
    server.answer = issue(3600);
    await seconds(1);
    expect(raised).toEqual(["Bearer t1"]);
  });
});

describe("a refusal", () => {
  it("of the user's token is answered with a fresh one", async () => {
    const { server, client } = setUp();
    server.answer = () => (server.requests.length === 1 ? refuse(401, "expired")() : issue(3600)());
    expect(await client.getAccessToken()).toBe("Bearer t1");
    expect(server.requests.map(authorization)).toEqual(["Bearer user", "Bearer fresh user"]);
  });

  it("of the fresh one too is told with the server's reason, and not repeated unasked", async () => {
    const { server, client, missing } = setUp();
    server.answer = refuse(401, "another issuer");
    await expect(client.getAccessToken()).rejects.toMatchObject({ trouble: "refused", message: "another issuer" });
    await seconds(3600);
    expect(server.requests).toHaveLength(2);
    expect(missing).toEqual(["refused"]);
    server.answer = issue(3600);
    expect(await client.getAccessToken()).toBe("Bearer t1");
  });

  it("for want of a scope asks for no other user token", async () => {
    const { server, client, getUserToken } = setUp();
    server.answer = refuse(403, "scope missing");
    await expect(client.getAccessToken()).rejects.toMatchObject({ trouble: "refused", message: "scope missing" });
    expect(getUserToken).toHaveBeenCalledTimes(1);
  });

  it("takes no living token away", async () => {
    const { server, client } = setUp();
    server.answer = issue(100);
    await client.getAccessToken();
    server.answer = refuse(401, "expired");
    await seconds(80);
    expect(await client.getAccessToken()).toBe("Bearer t1");
  });
});

describe("a user who is signed out", () => {
  it("is told so, without a request, and is let in once signed in", async () => {
    const { server, client, getUserToken, missing } = setUp();
    getUserToken.mockRejectedValueOnce(new Error("Login required"));
    await expect(client.getAccessToken()).rejects.toMatchObject({ trouble: "signed-out", message: "Login required" });
    expect([server.requests.length, missing]).toEqual([0, ["signed-out"]]);
    await seconds(1);
    expect(await client.getAccessToken()).toBe("Bearer t1");
  });
});
