// The iTwin Viewer's authClient, fed by the token server. Copy this file into your own viewer: it needs nothing else.
import { type AccessToken, BeEvent } from "@itwin/core-bentley";
import type { ViewerAuthorizationClient } from "@itwin/web-viewer-react";

/** Why there is no token. "unreachable" and "unavailable" pass by themselves; the other two need the user. */
export type Trouble = "signed-out" | "refused" | "unreachable" | "unavailable";

export class TokenError extends Error {
  /** @param retryAfter seconds that the server asked to wait */
  constructor(readonly trouble: Trouble, message: string, readonly retryAfter = 0) { super(message); }
}

export interface TokenServerAuthClientOptions {
  tokenUrl?: string; // default: http://localhost:3001/getToken
  /** The user's Auth0 token, got without asking the user. fresh: the last one was refused, so not from a cache. */
  getUserToken: (fresh: boolean) => Promise<string>;
}

const RENEW_AT = 0.75; // of the life left: the last quarter is there to sit out an outage
const ANSWER_WITHIN = 20_000; // ms; the server itself waits up to 10 s for IMS
const FIRST_RETRY = 1_000, LAST_RETRY = 8_000, LONGEST_RETRY_AFTER = 300_000, LONGEST_WAIT = 86_400_000; // ms

/** Keep one instance for the page's life: the Viewer ignores a changed authClient. */
export class TokenServerAuthClient implements ViewerAuthorizationClient {
  /** Raised with each new token, and never with "": that would close the model on the user's screen. */
  readonly onAccessTokenChanged = new BeEvent<(token: AccessToken) => void>();
  /** Raised when a fetch fails and no live token is left. The next onAccessTokenChanged ends it. */
  readonly onTokenMissing = new BeEvent<(why: TokenError) => void>();

  private token: AccessToken = "";
  private expiresAt = 0;
  private nextFetchAt = 0; // the renewal when all is well, the retry when it isn't
  private failures = 0;
  private error?: TokenError;
  private fetching?: Promise<AccessToken>;
  private timer?: ReturnType<typeof setTimeout>;

  constructor(private readonly options: TokenServerAuthClientOptions) {}

  /** The live token, "Bearer " included; waits for one if none lives. Throws TokenError. */
  async getAccessToken(): Promise<AccessToken> {
    const due = Date.now() >= this.nextFetchAt;
    if (Date.now() < this.expiresAt) {
      if (due) this.fetchInBackground(); // a sleeping tab's timer is late
      return this.token;
    }
    if (this.error && !due && !this.fetching) throw this.error;
    return this.retry();
  }

  /** Asks the server now, though it may have asked to wait: for a button. One request serves all who ask meanwhile. */
  retry(): Promise<AccessToken> {
    this.fetching ??= this.fetchToken().finally(() => (this.fetching = undefined));
    return this.fetching;
  }

  private fetchInBackground = () => void this.retry().catch(() => {}); // failed() has seen to the error

  private fetchToken(): Promise<AccessToken> {
    const askedAt = Date.now(); // no token's life can have begun to count later than this
    const answer = within(ANSWER_WITHIN, (signal) => this.ask(signal)).catch(rethrowAs("unavailable"));
    return answer.then((body) => this.got(`Bearer ${body.access_token}`, askedAt, body.expires_in * 1000), this.failed);
  }

  private got(token: AccessToken, askedAt: number, life: number): AccessToken {
    const news = token !== this.token || this.error;
    Object.assign(this, { token, expiresAt: askedAt + life, failures: 0, error: undefined });
    this.schedule(askedAt + life * RENEW_AT - Date.now(), true);
    if (news) this.onAccessTokenChanged.raiseEvent(token);
    return token;
  }

  private failed = (error: TokenError): never => {
    const backoff = Math.min(FIRST_RETRY * 2 ** this.failures++, LAST_RETRY);
    const asked = Math.min(error.retryAfter * 1000, LONGEST_RETRY_AFTER);
    this.error = error;
    this.schedule(Math.max(backoff, asked), error.trouble === "unreachable" || error.trouble === "unavailable");
    if (Date.now() >= this.expiresAt) this.onTokenMissing.raiseEvent(error);
    throw error;
  };

  private schedule(ms: number, unasked: boolean) {
    const wait = Math.min(Math.max(ms, FIRST_RETRY), LONGEST_WAIT); // past 24 days setTimeout fires at once
    this.nextFetchAt = Date.now() + wait;
    clearTimeout(this.timer);
    if (unasked) this.timer = setTimeout(this.fetchInBackground, wait);
  }

  private async ask(signal: AbortSignal): Promise<{ access_token: string; expires_in: number }> {
    let response = await this.send(false, signal);
    if (response.status === 401) response = await this.send(true, signal);
    const body = await response.json().catch(() => ({}));
    const reason = body.error_description ?? `status ${response.status}`;
    if (response.status === 401 || response.status === 403) throw new TokenError("refused", reason);
    if (!response.ok) throw new TokenError("unavailable", reason, Number(response.headers.get("Retry-After")) || 0);
    if (typeof body.access_token === "string" && body.access_token && body.expires_in > 0) return body;
    throw new TokenError("unavailable", "the answer holds no token: is this the token server's /getToken?");
  }

  private async send(fresh: boolean, signal: AbortSignal): Promise<Response> {
    const { tokenUrl = "http://localhost:3001/getToken", getUserToken } = this.options;
    const userToken = await getUserToken(fresh).catch(rethrowAs("signed-out"));
    const headers = { Authorization: `Bearer ${userToken}`, Accept: "application/json" };
    const request: RequestInit = { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
    return fetch(tokenUrl, request).catch(rethrowAs("unreachable"));
  }
}

const rethrowAs = (trouble: Trouble) => (error: Error): never => {
  throw error instanceof TokenError ? error : new TokenError(trouble, error.message);
};

/** Bounds the whole of some work: a fetch that never ends would hold up all who wait for it. */
function within<T>(ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new TokenError("unreachable", `no answer within ${ms / 1000} s`)), ms);
  const end = new Promise<never>((_, reject) => (late.signal.onabort = () => reject(late.signal.reason)));
  return Promise.race([end, work(late.signal)]).finally(() => clearTimeout(timer));
}
