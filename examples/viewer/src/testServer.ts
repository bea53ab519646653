// A token server for the unit tests, which answers as the test says and records its requests.
import { vi } from "vitest";
import { TokenServerAuthClient } from "./TokenServerAuthClient";

export type Answer = () => Response | Promise<Response>;

/** Returns such a server, and an authClient that calls it. */
export function setUp() {
  const server = { answer: issue(3600), requests: [] as { url: string; init: RequestInit }[] };
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    server.requests.push({ url, init });
    return server.answer();
  });
  const getUserToken = vi.fn(async (fresh: boolean): Promise<string | undefined> => (fresh ? "fresh-user" : "user"));
  const client = new TokenServerAuthClient({ tokenUrl: "https://tokens.test/getToken", getUserToken });
  const raised: string[] = [];
  const missing: string[] = [];
  client.onAccessTokenChanged.addListener((token) => raised.push(token));
  client.onTokenMissing.addListener((error) => missing.push(error.code));
  return { server, getUserToken, client, raised, missing };
}

/** Each call of the answer returns the next token: t1, t2, … */
export function issue(expires_in: unknown): Answer {
  let n = 0;
  return () => Response.json({ access_token: `t${++n}`, token_type: "Bearer", expires_in });
}

export const refuse = (status: number, reason: string, headers = {}) => () =>
  Response.json({ error: "x", error_description: reason }, { status, headers });
export const refuseConnection = () => Promise.reject(new TypeError("Failed to fetch"));
