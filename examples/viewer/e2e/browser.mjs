// Chromium, a record of every request of its pages, and a stand-in for api.bentley.com.
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
  "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** Starts Chromium, which can reach only this machine; hosts are further host-resolver-rules, flags further flags. */
export const launch = ({ hosts = [], flags = [] } = {}) => {
  const rules = [...hosts, "MAP * ~NOTFOUND", "EXCLUDE localhost", "EXCLUDE 127.0.0.1"].join(", ");
  const args = [...FLAGS, `--host-resolver-rules=${rules}`, ...flags];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
};

/**
 * Returns a browser context and a record of its traffic:
 * requests (all), unanswered (URLs), errors (URLs answered with 400 or more), issued (tokens from /getToken),
 * userTokens (from /demo/userToken), refusals (JSON of /getToken), exceptions (uncaught in a page).
 */
export async function recordedContext(browser, tokenUrl) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 750 } });
  const record = { requests: [], unanswered: [], issued: [], userTokens: [], refusals: [], errors: [], exceptions: [] };
  context.on("request", (request) => {
    record.requests.push({ url: request.url(), headers: request.headers(), body: request.postData() ?? "" });
  });
  context.on("requestfailed", (request) => record.unanswered.push(request.url()));
  context.on("weberror", (error) => record.exceptions.push(error.error().message));
  context.on("response", async (response) => {
    if (response.status() >= 400) record.errors.push(response.url());
    if (response.request().method() !== "GET") return;
    const body = async () => response.text().catch(() => ""); // the page may be closed
    if (response.url() === new URL("/demo/userToken", tokenUrl).href) record.userTokens.push(await body());
    if (response.url() !== tokenUrl) return;
    const answer = JSON.parse((await body()) || "{}");
    if (response.ok()) record.issued.push(answer.access_token);
    else record.refusals.push(answer);
  });
  return { context, record };
}

const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "*, Authorization",
  "Access-Control-Allow-Methods": "*",
  "Access-Control-Expose-Headers": "Retry-After",
};

/**
 * Answers a page's requests in place of other hosts. handlers: [URL pattern, function of the request], which returns
 * { status, body, headers }, or nothing to let the request through.
 * Playwright's own routes don't serve here: while they are on, it answers every CORS preflight itself.
 */
export async function answerFor(page, handlers) {
  const devtools = await page.context().newCDPSession(page);
  devtools.on("Fetch.requestPaused", async ({ requestId, request }) => {
    const [, handle] = handlers.find(([pattern]) => matches(pattern, request.url));
    const answer = handle(request);
    const done = answer
      ? devtools.send("Fetch.fulfillRequest", { requestId, ...fulfilment(answer) })
      : devtools.send("Fetch.continueRequest", { requestId });
    await done.catch(() => {}); // the page may be closed
  });
  await devtools.send("Fetch.enable", { patterns: handlers.map(([urlPattern]) => ({ urlPattern })) });
}

const matches = (pattern, url) => new RegExp(`^${pattern.replaceAll(".", "\\.").replaceAll("*", ".*")}$`).test(url);

function fulfilment({ status, body = "", headers = {} }) {
  const all = { ...CORS, "Content-Type": "application/json", ...headers };
  return {
    responseCode: status,
    responseHeaders: Object.entries(all).map(([name, value]) => ({ name, value })),
    body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)).toString("base64"),
  };
}

/** A stand-in for api.bentley.com that never finishes opening an iModel: it answers 202, and the Viewer keeps retrying. */
export function apiStandIn() {
  const requests = [];
  const answer = ({ method, url, headers }) => {
    if (method === "OPTIONS") return { status: 204 };
    requests.push({ url, authorization: headers.Authorization ?? headers.authorization ?? "", at: Date.now() });
    if (url.includes("/namedversions")) return { status: 200, body: { namedVersions: [] } };
    if (url.includes("/changesets")) return { status: 200, body: { changesets: [], _links: {} } };
    return { status: 202 };
  };
  return { requests, answer };
}
