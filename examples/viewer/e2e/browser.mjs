// Debian's Chromium, a record of every request that its pages make, and api.bentley.com as the pages see it.
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
  "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  // The page has this machine, and nothing else, to talk to.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

/**
 * A browser context whose traffic is written down:
 * requests (all), unanswered (URLs), issued (tokens that /getToken gave), userTokens (that /demo/userToken gave),
 * refusals (JSON of /getToken), crashes (the page's own).
 */
export async function recordedContext(browser, tokenUrl) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 750 } });
  const record = { requests: [], unanswered: [], issued: [], userTokens: [], refusals: [], crashes: [] };
  context.on("request", (request) => {
    record.requests.push({ url: request.url(), headers: request.headers(), body: request.postData() ?? "" });
  });
  context.on("requestfailed", (request) => record.unanswered.push(request.url()));
  context.on("weberror", (error) => record.crashes.push(error.error().message));
  context.on("response", async (response) => {
    if (response.request().method() !== "GET") return;
    const body = async () => response.text().catch(() => ""); // the page may have gone
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
 * Answers a page's requests in the place of other hosts. handlers: [URL pattern, function of the request], which gives
 * { status, body, headers }, or nothing to let the request through.
 * Not by Playwright's own routes: while those are on, it answers every CORS preflight itself, the token server's too.
 */
export async function answerFor(page, handlers) {
  const devtools = await page.context().newCDPSession(page);
  devtools.on("Fetch.requestPaused", async ({ requestId, request }) => {
    const [, handle] = handlers.find(([pattern]) => matches(pattern, request.url));
    const answer = handle(request);
    const done = answer
      ? devtools.send("Fetch.fulfillRequest", { requestId, ...fulfilment(answer) })
      : devtools.send("Fetch.continueRequest", { requestId });
    await done.catch(() => {}); // the page may have gone
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

/** api.bentley.com with an iModel that is forever being opened: "202, ask again", at which the Viewer asks again and again. */
export function apiStandIn() {
  const asked = [];
  const answer = ({ method, url, headers }) => {
    if (method === "OPTIONS") return { status: 204 };
    asked.push({ url, authorization: headers.Authorization ?? headers.authorization ?? "", at: Date.now() });
    if (url.includes("/namedversions")) return { status: 200, body: { namedVersions: [] } };
    if (url.includes("/changesets")) return { status: 200, body: { changesets: [], _links: {} } };
    return { status: 202 };
  };
  return { asked, answer };
}
