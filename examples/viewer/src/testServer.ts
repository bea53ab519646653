// A token server for the unit tests: it answers as told, and remembers what it was asked.
import { vi } from "vitest";
import { TokenServerAuthClient } from "./TokenServerAuthClient";

export type Answer = () => Response | Promise<Response>;

/** Such a server, and an authClient that asks it. */
export function setUp() {
  const server = { answer: issue(3600), requests: [] as { url: string; init: RequestInit }[] };
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    server.requests.push({ url, init });
    return server.answer();
  });
  const getUserToken = vi.fn(async (fresh: boolean) => (fresh ? "fresh user" : "user"));
  const client = new TokenServerAuthClient({ tokenUrl: "https://tokens.test/getToken", getUserToken });
  const raised: string[] = [];
  const missing: string[] = [];
  client.onAccessTokenChanged.addListener((token) => raised.push(token));
  client.onTokenMissing.addListener((why) => missing.push(why.trouble));
  return { server, getUserToken, client, raised, missing };
}

/** Each call of the answer issues the next token: t1, t2, … */
export function issue(expires_in: unknown): Answer {
  let n = 0;
  return () => Response.json({ access_token: `t${++n}`, token_type: "Bearer", expires_in });
}

export const refuse = (status: number, reason: string, headers = {}) => () =>
  Response.json({ error: "x", error_description: reason }, { status, headers });
export const refuseConnection = () => Promise.reject(new TypeError("Failed to fetch"));
