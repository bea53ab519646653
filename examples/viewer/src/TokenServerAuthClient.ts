// The iTwin Viewer's authClient for the token server. Copy this file into your own viewer: it needs nothing else.
import { type AccessToken, BeEvent } from "@itwin/core-bentley";
import type { ViewerAuthorizationClient } from "@itwin/web-viewer-react";

/** Why there is no token. "unreachable" and "unavailable" are retried; the other two need the user. */
export type TokenErrorCode = "signed-out" | "refused" | "unreachable" | "unavailable";

export class TokenError extends Error {
  readonly code: TokenErrorCode;
  readonly retryAfter: number; // seconds that the server asked to wait, or 0

  constructor(code: TokenErrorCode, message: string, retryAfter = 0) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export interface TokenServerAuthClientOptions {
  tokenUrl?: string | undefined; // default: http://localhost:3001/getToken
  /**
   * Returns the user's Auth0 token, without a dialog. fresh: the last one was refused, so not from a cache.
   * A failure is retried, unless its `error` is in NEEDS_USER or it is a TokenError with the code "signed-out".
   */
  getUserToken: (fresh: boolean) => Promise<string | undefined>;
  /** For a page on https and a token server on http in the local network: see the README. */
  targetAddressSpace?: "local" | "loopback" | undefined;
}

/** What auth0-spa-js (and OpenID Connect) says in `error` when only the user can help. */
const NEEDS_USER = [
  "login_required", "consent_required", "interaction_required", "account_selection_required", "mfa_required",
  "missing_refresh_token", "invalid_grant", "access_denied", "unauthorized",
];
const RENEW_AT = 0.75; // of the token's life: the last quarter is for outages
const TIMEOUT = 20_000; // ms; the server itself waits up to 10 s for IMS
const MIN_BACKOFF = 1_000, MAX_BACKOFF = 8_000, MAX_RETRY_AFTER = 300_000, MAX_LIFE = 86_400_000; // ms

/** A moment, on both of the browser's clocks. */
type Moment = { date: number; elapsed: number };

const now = (): Moment => ({ date: Date.now(), elapsed: performance.now() });

/**
 * Returns the milliseconds since then, by the clock on which more have passed: a user can set
 * the first clock back, and the second one can stand still while the computer sleeps.
 */
const since = (then: Moment): number =>
  Math.max(Date.now() - then.date, performance.now() - then.elapsed);

/** Keep one instance for the page's life: the Viewer ignores a changed authClient. */
export class TokenServerAuthClient implements ViewerAuthorizationClient {
  /** Raised with each new token, and never with "": that would close the model on the user's screen. */
  readonly onAccessTokenChanged = new BeEvent<(token: AccessToken) => void>();
  /** Raised when the token expires without a new one, and at each failure after that. onAccessTokenChanged ends it. */
  readonly onTokenMissing = new BeEvent<(error: TokenError) => void>();

  private readonly options: TokenServerAuthClientOptions;
  private token: AccessToken = "";
  private requestedAt = now();
  private life = 0; // ms; the token expires so long after requestedAt
  private scheduledAt = now();
  private wait = 0; // ms; the next fetch is due so long after scheduledAt
  private asked = false; // getAccessToken was called since the last automatic fetch
  private failures = 0;
  private error: TokenError | undefined;
  private fetching: Promise<AccessToken> | undefined;
  private fetchTimer: ReturnType<typeof setTimeout> | undefined;
  private expiryTimer: ReturnType<typeof setTimeout> | undefined;
  private controller: AbortController | undefined; // of the request under way
  private disposed: TokenError | undefined;

  constructor(options: TokenServerAuthClientOptions) {
    this.options = options;
  }

  /** Returns the token, "Bearer " included; fetches one if there is none or it has expired. Throws TokenError. */
  async getAccessToken(): Promise<AccessToken> {
    if (this.disposed) throw this.disposed;
    this.asked = true;
    const due = since(this.scheduledAt) >= this.wait;
    if (!this.expired()) {
      if (due) this.fetchInBackground(); // timers are late in a sleeping tab
      return this.token;
    }
    if (this.error && !due && !this.fetching) throw this.error;
    return this.retry();
  }

  /** Fetches now, even if the server asked to wait: for a button. Concurrent callers share one request. */
  retry(): Promise<AccessToken> {
    this.fetching ??= this.fetchToken().finally(() => (this.fetching = undefined));
    return this.fetching;
  }

  /** Ends the timers and a request that is under way. After that there are no tokens and no events. */
  dispose(): void {
    this.disposed = new TokenError("unavailable", "the client is disposed");
    clearTimeout(this.fetchTimer);
    clearTimeout(this.expiryTimer);
    this.controller?.abort();
  }

  private expired(): boolean {
    return since(this.requestedAt) >= this.life;
  }

  /**
   * Called by the timer. It fetches only if somebody listens, or has asked since the last time:
   * a client that the page has dropped must not fetch for ever.
   */
  private fetchIfWanted = () => {
    const { onAccessTokenChanged, onTokenMissing } = this;
    const listeners = onAccessTokenChanged.numberOfListeners + onTokenMissing.numberOfListeners;
    if (this.asked || listeners > 0) this.fetchInBackground();
    this.asked = false;
  };

  private fetchInBackground = () => void this.retry().catch(() => {}); // failed() has handled the error

  private fetchToken(): Promise<AccessToken> {
    const start = now(); // the server counted expires_in later than this
    // The token's own expiry is in whole seconds, so it can be up to 1 s earlier than expires_in says.
    return this.request().then((body) => this.received(`Bearer ${body.access_token}`, start, body.expires_in - 1), this.failed);
  }

  private received(token: AccessToken, start: Moment, seconds: number): AccessToken {
    const life = Math.min(seconds * 1000, MAX_LIFE); // setTimeout fires at once beyond 24 days
    const changed = token !== this.token || this.error;
    Object.assign(this, { token, requestedAt: start, life, failures: 0, error: undefined });
    this.schedule(life * RENEW_AT - since(start), true);
    clearTimeout(this.expiryTimer);
    this.expiryTimer = setTimeout(() => this.error && this.onTokenMissing.raiseEvent(this.error), life - since(start));
    if (changed) this.onAccessTokenChanged.raiseEvent(token);
    return token;
  }

  private failed = (error: TokenError): never => {
    if (this.disposed) throw this.disposed;
    const backoff = Math.min(MIN_BACKOFF * 2 ** this.failures++, MAX_BACKOFF);
    const pause = Math.min(error.retryAfter * 1000, MAX_RETRY_AFTER);
    this.error = error;
    this.schedule(Math.max(backoff, pause), error.code === "unreachable" || error.code === "unavailable");
    if (this.expired()) this.onTokenMissing.raiseEvent(error);
    throw error;
  };

  /** Sets when the next fetch is due, for getAccessToken, and starts it by itself if automatic. */
  private schedule(ms: number, automatic: boolean) {
    this.scheduledAt = now();
    this.wait = Math.max(ms, MIN_BACKOFF);
    clearTimeout(this.fetchTimer);
    if (automatic) this.fetchTimer = setTimeout(this.fetchIfWanted, this.wait);
  }

  private async request(): Promise<{ access_token: string; expires_in: number }> {
    let { response, body } = await this.send(false);
    if (response.status === 401) ({ response, body } = await this.send(true));
    const reason = body.error_description ?? `status ${response.status}`;
    if (response.status === 401 || response.status === 403) throw new TokenError("refused", reason);
    if (!response.ok) throw new TokenError("unavailable", reason, retryAfterSeconds(response.headers.get("Retry-After")));
    if (typeof body.access_token === "string" && body.access_token && body.expires_in > 0) return body;
    throw new TokenError("unavailable", "the answer contains no token: is tokenUrl the token server's /getToken?");
  }

  private async send(fresh: boolean) {
    const headers = { Authorization: `Bearer ${await this.userToken(fresh)}`, Accept: "application/json" };
    const { tokenUrl = "http://localhost:3001/getToken", targetAddressSpace } = this.options;
    const init = { headers, cache: "no-store", credentials: "omit", redirect: "error" } as const;
    return this.within(new TokenError("unreachable", "no answer within 20 s"), async (signal) => {
      const response = await fetch(tokenUrl, { ...init, signal, ...(targetAddressSpace && { targetAddressSpace }) });
      const body = await response.json().catch((error) => (error instanceof SyntaxError ? {} : Promise.reject(error)));
      return { response, body: body ?? {} };
    }).catch((error) => { throw asTokenError(error, "unreachable"); });
  }

  private async userToken(fresh: boolean): Promise<string> {
    const late = new TokenError("unavailable", "getUserToken did not return within 20 s");
    const token: unknown = await this.within(late, async () => this.options.getUserToken(fresh)).catch((error) => {
      if (NEEDS_USER.includes(error?.error)) throw asTokenError(error, "signed-out");
      throw asTokenError(error, "unavailable", "getUserToken failed: ");
    });
    if (typeof token === "string" && /^[\w.~+/-]+=*$/.test(token)) return token; // RFC 6750 §2.1
    const text = token ? "a string with a space or another character that no token contains" : "an empty string";
    const got = typeof token === "string" ? text : typeof token;
    throw new TokenError("unavailable", `getUserToken must return the user's token and nothing else, got ${got}`);
  }

  /** After 20 s rejects with late, and aborts the signal: callers share one fetch, so it has to end. */
  private async within<T>(late: TokenError, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.disposed) throw this.disposed;
    const controller = (this.controller = new AbortController());
    const timeout = new Promise<never>((_, reject) => (controller.signal.onabort = () => reject(late)));
    const timer = setTimeout(() => controller.abort(), TIMEOUT);
    return Promise.race([timeout, work(controller.signal)]).finally(() => clearTimeout(timer));
  }
}

function asTokenError(error: unknown, code: TokenErrorCode, prefix = ""): TokenError {
  return error instanceof TokenError ? error : new TokenError(code, prefix + (error instanceof Error ? error.message : error));
}

/** Reads Retry-After: seconds or an HTTP date (RFC 9110 §10.2.3). */
function retryAfterSeconds(header: string | null): number {
  const seconds = Number(header ?? 0);
  return Math.max(0, (Number.isNaN(seconds) ? (Date.parse(header!) - Date.now()) / 1000 : seconds) || 0);
}
