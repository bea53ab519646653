// Tests the built page in Chromium with the real token server. Usage: node e2e/viewer.mjs SERVER_BINARY
// VIEWER_SCREENSHOT=file saves a picture of the blank connection.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { signInAtAuth0 } from "./auth0.mjs";
import { answerFor, apiStandIn, launch, recordedContext } from "./browser.mjs";
import { hostedPage } from "./hosted.mjs";
import { buildPage, demoServer, freePort, pause, serveFolder, until } from "./servers.mjs";

const LIFE = 20; // seconds that an iTwin token of the stand-in lives
const id = (digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000`;
const MODELS = ["1", "2", "3"].map((digit) => `#${id("0")}/${id(digit)}`);

const folder = await mkdtemp(join(tmpdir(), "viewer-test-"));
const port = await freePort();
const tokenUrl = `http://127.0.0.1:${port}/getToken`;
const server = demoServer(process.argv[2], port, `${LIFE}s`);
const api = apiStandIn();
const canary = randomBytes(16).toString("hex");
let browser, site, page, record, passed = 0;

async function step(name, test) {
  const started = Date.now();
  await test();
  passed++;
  console.log(`ok  ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

const notice = () => page.getByRole("alert").filter({ has: page.getByRole("button") });
const noticeText = () => notice().innerText({ timeout: 30_000 });
const expiry = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url")).exp * 1000;
/** Returns a function that returns the requests to api.bentley.com made since now, with part in their URL. */
const requestsFromNow = (part) => {
  const start = api.requests.length;
  return () => api.requests.slice(start).filter(({ url }) => url.includes(part));
};
const hasToken = (token) => ({ authorization }) => authorization === `Bearer ${token}`;
const newest = () => record.issued.at(-1);

/** Each request had a token that /getToken had issued and that had not expired. */
async function assertIssuedAndValid(requests) {
  await pause(0.5); // the record is a moment later than the page
  for (const { url, authorization, at } of requests) {
    const token = authorization.replace(/^Bearer /, "");
    assert.ok(record.issued.includes(token), `${url} had ${authorization.slice(0, 30)}…, which /getToken never issued`);
    assert.ok(at < expiry(token), `${url} had a token that had expired ${(at - expiry(token)) / 1000} s before`);
  }
}

const assertSameDocument = async () =>
  assert.equal(await page.evaluate(() => window.sameDocument), true, "the page was reloaded");

async function run() {
  // A secret in the environment, where a careless build would pick it up.
  process.env.ITM_TOKEN_SERVER_CLIENT_SECRET = canary;
  await step("the page builds without warnings", async () =>
    assert.deepEqual(await buildPage(join(folder, "page"), { VITE_TOKEN_URL: tokenUrl }), []));
  delete process.env.ITM_TOKEN_SERVER_CLIENT_SECRET;
  site = await serveFolder(join(folder, "page"));
  browser = await launch();
  const recorded = await recordedContext(browser, tokenUrl);
  record = recorded.record;
  page = await recorded.context.newPage();
  await answerFor(page, [["https://api.bentley.com/*", api.answer]]);

  await step("without a token server the page shows why", async () => {
    await page.goto(site.url);
    await page.evaluate(() => (window.sameDocument = true)); // lost by a reload
    assert.match(await noticeText(), new RegExp(`^The token server at ${tokenUrl} does not answer`));
    assert.equal(await page.locator("canvas").count(), 0);
  });

  await step("once it runs the page recovers without a reload, and a blank connection renders", async () => {
    await server.start();
    await page.waitForSelector("canvas", { timeout: 60_000 });
    assert.equal(await notice().count(), 0);
    await page.mouse.move(900, 200); // the toolbars hide while the mouse is still
    const picture = await until("coloured blocks in the view", async () => {
      const png = await page.screenshot();
      return (await colouredFraction(png)) > 0.15 && png;
    }, 60);
    assert.ok(picture.length < 200_000, `the picture has ${picture.length} bytes`);
    if (process.env.VIEWER_SCREENSHOT) await writeFile(process.env.VIEWER_SCREENSHOT, picture);
  });

  await step("an iModel's requests have exactly the token from /getToken", async () => {
    const requests = requestsFromNow("/imodels/");
    const expected = newest();
    await openModel(MODELS[0]);
    await until("requests to /imodels/", () => requests().length >= 2);
    if (newest() === expected) for (const { authorization } of requests()) assert.equal(authorization, `Bearer ${expected}`);
    await assertIssuedAndValid(requests()); // there may be a renewal between
    const fingerprint = createHash("sha256").update(newest()).digest("hex").slice(0, 12);
    await until("the server's log line for that token", () => server.log.includes(`token=${fingerprint}`), 5);
  });

  await step("later requests have a newer token, without a reload", async () => {
    const first = newest();
    const rpc = requestsFromNow("/imodel/rpc/");
    const newer = (request) => request.authorization && !hasToken(first)(request);
    await until("a request with a newer token", () => rpc().some(newer), LIFE + 10);
    const requests = requestsFromNow("/imodels/");
    await openModel(MODELS[1]);
    await until("requests to /imodels/", () => requests().length >= 2);
    assert.ok(!requests().some(hasToken(first)));
    await assertIssuedAndValid(api.requests);
    await assertSameDocument();
  });

  await step("a restart of the server causes no notice", async () => {
    await page.evaluate(() => {
      window.notices = 0;
      const count = () => (window.notices += document.querySelectorAll("[data-token-error]").length);
      new MutationObserver(count).observe(document, { childList: true, subtree: true });
    });
    const count = record.issued.length;
    await until("a fresh token", () => record.issued.length > count, LIFE + 10);
    const requests = requestsFromNow("/imodel");
    const before = newest();
    assert.equal(await server.stop(), 0);
    await openModel(MODELS[0]);
    await until("requests while it is stopped", () => requests().length >= 2, 10);
    const failed = () => record.unanswered.filter((url) => url.startsWith(new URL(tokenUrl).origin)).length;
    const failedBefore = failed();
    await until("a renewal that fails", () => failed() > failedBefore, LIFE);
    assert.ok(Date.now() < expiry(before), "the token has not expired");
    assert.equal(await page.evaluate(() => window.notices), 0);
    assert.ok(requests().every(hasToken(before)));
    await server.start();
    await until("a request with the new server's token", () => newest() !== before && requests().some(hasToken(newest())), LIFE + 10);
    await assertIssuedAndValid(requests().filter(({ at }) => at < expiry(before))); // later ones only after a slow start
  });

  await step("an outage longer than a token's life causes a notice, and ends without a reload", async () => {
    const before = newest();
    await server.stop();
    await until("the notice", async () => (await notice().count()) > 0, LIFE + 15);
    assert.match(await noticeText(), /does not answer/);
    await server.start();
    await until("a new token", () => newest() !== before, 15);
    const requests = requestsFromNow("/imodel/rpc/");
    await until("a request with it", () => requests().some(hasToken(newest())), 15);
    assert.equal(await notice().count(), 0);
    await assertSameDocument();
    await page.close();
  });

  await step("a refused user token causes a notice with the server's reason", async () => {
    page = await recorded.context.newPage();
    await answerFor(page, [["*/demo/userToken", () => ({ status: 200, body: "no.such.token" })]]);
    const before = record.requests.length;
    await page.goto(site.url);
    const text = await noticeText();
    const { error, error_description } = await until("the record of the refusal", () => record.refusals.at(-1), 5);
    assert.equal(error, "invalid_token");
    assert.ok(error_description && text.startsWith(`The token server refused your sign-in: ${error_description}`), text);
    const requests = record.requests.slice(before).filter(({ url }) => url === tokenUrl);
    assert.equal(requests.length, 2, "the second with a fresh user token");
    await page.close();
  });

  await step("an unavailable IMS causes a notice, whose button retries", async () => {
    page = await recorded.context.newPage();
    let down = true;
    const body = { error: "temporarily_unavailable", error_description: "IMS does not answer" };
    const answer = { status: 503, body, headers: { "Retry-After": "120" } };
    await answerFor(page, [[tokenUrl, ({ method }) => (down && method === "GET" ? answer : undefined)]]);
    await page.goto(site.url);
    assert.match(await noticeText(), /^There is no iTwin token at the moment: IMS does not answer/);
    down = false;
    await page.getByRole("button", { name: "Try again" }).click();
    await page.waitForSelector("canvas", { timeout: 60_000 });
    assert.equal(await notice().count(), 0);
    await page.close();
  });

  await step("after an outage of Auth0 a user signs in there, and returns to their iModel", () =>
    signInAtAuth0({ browser, folder, tokenUrl, model: MODELS[2] }));

  await step("the client works from a public https page, with the user's permission", () => hostedPage({ folder, port }));

  await step("the user token went only to the token server, the iTwin token only to api.bentley.com", () => {
    const toServer = record.requests.filter(({ url }) => url === tokenUrl);
    assert.ok(toServer.some(({ headers }) => record.userTokens.some((token) => headers.authorization === `Bearer ${token}`)));
    assertOnlyTo(record, record.userTokens, tokenUrl);
    assertOnlyTo(record, record.issued, "https://api.bentley.com/");
    assert.deepEqual(record.exceptions, []);
    assert.deepEqual(record.errors.filter((url) => url.startsWith(site.url)), []);
  });

  await step("no secret is in the bundle", async () => {
    const bundle = await readAll(join(folder, "page"));
    assert.ok(bundle.includes(tokenUrl), "read the bundle");
    const jwt = /eyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}/;
    for (const secret of [canary, /ITM_TOKEN_SERVER/, /client_?secret["']?\s*[:=]\s*["']/i, /PRIVATE KEY/, jwt]) {
      const at = bundle.search(secret);
      assert.ok(at < 0, `${secret} is in the bundle: ${bundle.slice(at, at + 60)}`);
    }
  });
}

async function readAll(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, path, name }) => join(parentPath ?? path, name));
  return (await Promise.all(files.map((file) => readFile(file, "latin1")))).join("\n");
}

/** Opens an iModel by its address, without a reload. */
const openModel = (hash) => page.evaluate((hash) => void (location.hash = hash), hash);

/** None of the tokens is in any request but in the Authorization header of requests to this URL prefix. */
function assertOnlyTo({ requests }, tokens, prefix) {
  for (const { url, headers, body } of requests) {
    const { authorization = "", ...others } = headers;
    const content = [url, body, ...Object.values(others), url.startsWith(prefix) ? "" : authorization].join("\n");
    assert.ok(!tokens.some((token) => content.includes(token)), `a token went to ${url}`);
  }
}

/** The fraction of a picture's pixels that are not white, grey or black: the blocks, which an empty view lacks. */
const colouredFraction = (png) =>
  page.evaluate(async (data) => {
    const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
    const canvas = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    canvas.drawImage(picture, 0, 0);
    const { data: rgba } = canvas.getImageData(0, 0, picture.width, picture.height);
    let coloured = 0;
    for (let i = 0; i < rgba.length; i += 4) {
      const rgb = [rgba[i], rgba[i + 1], rgba[i + 2]];
      if (Math.max(...rgb) - Math.min(...rgb) > 40) coloured++;
    }
    return coloured / (rgba.length / 4);
  }, png.toString("base64"));

process.once("exit", () => {
  server.process?.kill();
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
try {
  await run();
  console.log(`${passed} browser checks passed`);
} catch (error) {
  console.error(error, `\nthe server's log ends:\n${server.log.split("\n").slice(-15).join("\n")}`);
  process.exitCode = 1;
} finally {
  await browser?.close();
  site?.close();
  await server.stop();
}
