// The proof: the built page, in Chromium, on the real token server. usage: node e2e/proof.mjs SERVER_BINARY
// With VIEWER_SCREENSHOT=file the blank connection's picture is kept there.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { signInAtAuth0 } from "./auth0.mjs";
import { answerFor, apiStandIn, launch, recordedContext } from "./browser.mjs";
import { buildPage, demoServer, freePort, pause, serveFolder, until } from "./world.mjs";

const LIFE = 20; // seconds that the stand-in's iTwin tokens live
const id = (digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000`;
const MODELS = ["1", "2", "3"].map((digit) => `#${id("0")}/${id(digit)}`);

const folder = await mkdtemp(join(tmpdir(), "viewer-proof-"));
const port = await freePort();
const tokenUrl = `http://127.0.0.1:${port}/getToken`;
const server = demoServer(process.argv[2], port, `${LIFE}s`);
const api = apiStandIn();
const canary = randomBytes(16).toString("hex");
let browser, site, page, record, passed = 0;

async function step(name, work) {
  const started = Date.now();
  await work();
  passed++;
  console.log(`ok  ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

const notice = () => page.getByRole("alert").filter({ has: page.getByRole("button") });
const noticeText = () => notice().innerText({ timeout: 30_000 });
const expiry = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url")).exp * 1000;
/** What the Viewer asked of api.bentley.com from now on, read when called. */
const askedFromNow = (part) => ((from) => () => api.asked.slice(from).filter(({ url }) => url.includes(part)))(api.asked.length);
const carries = (token) => ({ authorization }) => authorization === `Bearer ${token}`;
const newest = () => record.issued.at(-1);

/** Each request carried a token that /getToken had issued, and that was alive. */
async function assertIssuedAndAlive(requests) {
  await pause(0.5); // an answer is in the page a moment before it is in the record
  for (const { url, authorization, at } of requests) {
    const token = authorization.replace(/^Bearer /, "");
    assert.ok(record.issued.includes(token), `${url} carried ${authorization.slice(0, 30)}…, which /getToken never issued`);
    assert.ok(at < expiry(token), `${url} carried a token that had died ${(at - expiry(token)) / 1000} s before`);
  }
}

const assertSameDocument = async () =>
  assert.equal(await page.evaluate(() => window.sameDocument), true, "the page was reloaded");

async function run() {
  // A secret where a careless build would take one from.
  process.env.ITM_TOKEN_SERVER_CLIENT_SECRET = canary;
  await step("the page builds", () => buildPage(join(folder, "page"), { VITE_TOKEN_URL: tokenUrl }));
  delete process.env.ITM_TOKEN_SERVER_CLIENT_SECRET;
  site = await serveFolder(join(folder, "page"));
  browser = await launch();
  const recorded = await recordedContext(browser, tokenUrl);
  record = recorded.record;
  page = await recorded.context.newPage();
  await answerFor(page, [["https://api.bentley.com/*", api.answer]]);

  await step("without a token server, the page says so", async () => {
    await page.goto(site.url);
    await page.evaluate(() => (window.sameDocument = true)); // gone after a reload
    assert.match(await noticeText(), new RegExp(`^The token server at ${tokenUrl} does not answer`));
    assert.equal(await page.locator("canvas").count(), 0);
  });

  await step("once it runs, the page goes on by itself, and a blank connection renders", async () => {
    await server.start();
    await page.waitForSelector("canvas", { timeout: 60_000 });
    assert.equal(await notice().count(), 0);
    await page.mouse.move(900, 200); // the toolbars hide from a mouse at rest
    const picture = await until("coloured blocks in the view", async () => {
      const png = await page.screenshot();
      return (await colouredPart(png)) > 0.15 && png;
    }, 60);
    assert.ok(picture.length < 200_000, `the picture has ${picture.length} bytes`);
    if (process.env.VIEWER_SCREENSHOT) await writeFile(process.env.VIEWER_SCREENSHOT, picture);
  });

  await step("an iModel's requests carry exactly the token that /getToken gave", async () => {
    const asked = askedFromNow("/imodels/");
    const expected = newest();
    await openModel(MODELS[0]);
    await until("requests to /imodels/", () => asked().length >= 2);
    if (newest() === expected) for (const { authorization } of asked()) assert.equal(authorization, `Bearer ${expected}`);
    await assertIssuedAndAlive(asked()); // a renewal may fall in between
    const fingerprint = createHash("sha256").update(newest()).digest("hex").slice(0, 12);
    await until("the server's log tells of that token", () => server.log.includes(`token=${fingerprint}`), 5);
  });

  await step("later requests carry a newer token, without a reload", async () => {
    const first = newest();
    const rpc = askedFromNow("/imodel/rpc/");
    const newer = (request) => request.authorization && !carries(first)(request);
    await until("a request with a newer token", () => rpc().some(newer), LIFE + 10);
    const asked = askedFromNow("/imodels/");
    await openModel(MODELS[1]);
    await until("requests to /imodels/", () => asked().length >= 2);
    assert.ok(!asked().some(carries(first)));
    await assertIssuedAndAlive(api.asked);
    await assertSameDocument();
  });

  await step("the server stopped and started again passes unnoticed", async () => {
    await page.evaluate(() => {
      window.notices = 0;
      const count = () => (window.notices += document.querySelectorAll("[data-trouble]").length);
      new MutationObserver(count).observe(document, { childList: true, subtree: true });
    });
    const count = record.issued.length;
    await until("a fresh token", () => record.issued.length > count, LIFE + 10);
    const asked = askedFromNow("/imodel");
    const before = newest();
    assert.equal(await server.stop(), 0);
    await openModel(MODELS[0]);
    await until("requests meanwhile", () => asked().length >= 2, 10);
    const failed = () => record.unanswered.filter((url) => url.startsWith(new URL(tokenUrl).origin)).length;
    const failedBefore = failed();
    await until("a renewal that fails", () => failed() > failedBefore, LIFE);
    assert.ok(Date.now() < expiry(before), "the token lives on");
    assert.equal(await page.evaluate(() => window.notices), 0);
    assert.ok(asked().every(carries(before)));
    await server.start();
    await until("a request with the new server's token", () => newest() !== before && asked().some(carries(newest())), LIFE + 10);
    await assertIssuedAndAlive(asked().filter(({ at }) => at < expiry(before))); // past it, only a slow start counts
  });

  await step("an outage longer than a token's life is told, and ends by itself", async () => {
    const before = newest();
    await server.stop();
    await until("the notice", async () => (await notice().count()) > 0, LIFE + 15);
    assert.match(await noticeText(), /does not answer/);
    await server.start();
    await until("a new token", () => newest() !== before, 15);
    const asked = askedFromNow("/imodel/rpc/");
    await until("a request with it", () => asked().some(carries(newest())), 15);
    assert.equal(await notice().count(), 0);
    await assertSameDocument();
    await page.close();
  });

  await step("a refused sign-in is told with the server's reason", async () => {
    page = await recorded.context.newPage();
    await answerFor(page, [["*/demo/userToken", () => ({ status: 200, body: "no.such.token" })]]);
    const before = record.requests.length;
    await page.goto(site.url);
    const text = await noticeText();
    const { error, error_description } = await until("the record of the refusal", () => record.refusals.at(-1), 5);
    assert.equal(error, "invalid_token");
    assert.ok(error_description && text.startsWith(`The token server refused your sign-in: ${error_description}`), text);
    const asked = record.requests.slice(before).filter(({ url }) => url === tokenUrl);
    assert.equal(asked.length, 2, "the second with a fresh user token");
    await page.close();
  });

  await step("iTwin unavailable is told, and the button tries again", async () => {
    page = await recorded.context.newPage();
    let down = true;
    const body = { error: "temporarily_unavailable", error_description: "IMS does not answer" };
    const answer = { status: 503, body, headers: { "Retry-After": "120" } };
    await answerFor(page, [[tokenUrl, ({ method }) => (down && method === "GET" ? answer : undefined)]]);
    await page.goto(site.url);
    assert.match(await noticeText(), /^The iTwin Platform is not available just now: IMS does not answer/);
    down = false;
    await page.getByRole("button", { name: "Try again" }).click();
    await page.waitForSelector("canvas", { timeout: 60_000 });
    assert.equal(await notice().count(), 0);
    await page.close();
  });

  await step("a user signs in at Auth0, and gets to their iModel", () =>
    signInAtAuth0({ browser, folder, tokenUrl, model: MODELS[2] }));

  await step("the user's token went to the token server alone, the iTwin token to api.bentley.com alone", () => {
    const toServer = record.requests.filter(({ url }) => url === tokenUrl);
    assert.ok(toServer.some(({ headers }) => record.userTokens.some((token) => headers.authorization === `Bearer ${token}`)));
    assertOnlyTo(record, record.userTokens, tokenUrl);
    assertOnlyTo(record, record.issued, "https://api.bentley.com/");
    assert.deepEqual(record.crashes, []);
  });

  await step("no secret is in the bundle", async () => {
    const bundle = await readAll(join(folder, "page"));
    assert.ok(bundle.includes(tokenUrl), "the bundle was not read");
    const aJwt = /eyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}/;
    for (const secret of [canary, /ITM_TOKEN_SERVER/, /client_?secret["']?\s*[:=]\s*["']/i, /PRIVATE KEY/, aJwt]) {
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

/** By the address alone: the document stays. */
const openModel = (hash) => page.evaluate((hash) => void (location.hash = hash), hash);

/** None of the tokens is in anything that went elsewhere. */
function assertOnlyTo({ requests }, tokens, place) {
  for (const { url, headers, body } of requests) {
    const { authorization = "", ...others } = headers; // its place, at the one place that it is for
    const sent = [url, body, ...Object.values(others), url.startsWith(place) ? "" : authorization].join("\n");
    assert.ok(!tokens.some((token) => sent.includes(token)), `a token went to ${url}`);
  }
}

/** The part of a picture's pixels that are neither white, grey nor black: what the blocks give, and an empty view doesn't. */
const colouredPart = (png) =>
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
