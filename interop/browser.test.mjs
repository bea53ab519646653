// A page of another origin in Chromium: what it can read of the token server's answers, and what CORS blocks.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { chromium } from 'playwright-core';

import { makeCertificates } from './certs.mjs';
import { USER, startIMS, startTenant } from './provider.mjs';
import { buildServer, settings, startServer, tokenIn } from './server.mjs';
import { beginSignIn, signIn } from './signin.mjs';

let certificates, built, app, otherSite, pages, tenant, ims, user, browser;

before(async () => {
  certificates = makeCertificates();
  built = buildServer();
  pages = http.createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>An app</title>'));
  pages.listen(0, '127.0.0.1');
  await once(pages, 'listening');
  app = `http://localhost:${pages.address().port}`;
  otherSite = `http://other.localhost:${pages.address().port}`; // Chromium resolves *.localhost to this machine
  tenant = await startTenant(certificates, `${app}/`);
  ims = await startIMS(certificates);
  user = await signIn(tenant, certificates);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await tenant?.close();
  await ims?.close();
  pages?.close();
  pages?.closeAllConnections();
  built?.remove();
  certificates?.remove();
});

/** Starts a Chromium that trusts this run's leaf, and resolves no host but this machine. */
function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
      `--ignore-certificate-errors-spki-list=${certificates.pin}`,
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1',
    ],
  });
}

async function start(t, more = {}) {
  const server = await startServer(built, settings(tenant, ims, certificates, more));
  t.after(server.stop);
  return server;
}

/**
 * Opens a page of `origin`. `fetch` runs in its script, and returns what the script could read: `{ status, type,
 * challenge, retryAfter, body }`, or `{ rejected }`, the error's name. `traffic` lists the answers from /getToken,
 * preflights too, as "METHOD status protocol"; `console` lists the messages of the browser's console.
 */
async function open(t, origin) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(`${origin}/`);
  const console = [];
  page.on('console', (message) => console.push(message.text()));
  const traffic = await recordTraffic(page);
  return { page, console, traffic, fetch: (url, init) => page.evaluate(fetchInPage, { url, init }) };
}

/** Runs in the page. */
async function fetchInPage({ url, init }) {
  try {
    const answer = await fetch(url, init);
    const read = (name) => answer.headers.get(name);
    return {
      status: answer.status,
      type: read('Content-Type'),
      challenge: read('WWW-Authenticate'),
      retryAfter: read('Retry-After'),
      body: await answer.text(),
    };
  } catch (error) {
    return { rejected: error.name };
  }
}

async function recordTraffic(page) {
  const devtools = await page.context().newCDPSession(page);
  const methods = new Map();
  const traffic = [];
  devtools.on('Network.requestWillBeSent', ({ requestId, request }) => methods.set(requestId, request.method));
  devtools.on('Network.responseReceived', ({ requestId, response }) => {
    if (!response.url.endsWith('/getToken')) return; // the page, its icon
    traffic.push(`${methods.get(requestId)} ${response.status} ${response.protocol}`);
  });
  await devtools.send('Network.enable');
  return traffic;
}

const bearer = (token, more = {}) => ({ headers: { Authorization: `Bearer ${token}`, ...more } });

test('a user signs in on the page, and the page gets an iTwin token', async (t) => {
  const server = await start(t);
  const { page, fetch } = await open(t, app);
  const flow = beginSignIn(tenant);
  await page.goto(flow.authorize);
  await page.fill('[name=login]', USER.sub);
  await page.fill('[name=password]', 'any');
  await page.click('[type=submit]');
  await page.click('[type=submit]'); // consent
  await page.waitForURL(`${app}/?code=*`);
  const form = new URLSearchParams(flow.redeem(page.url())).toString();
  const redeemed = await fetch(flow.token, {
    method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: form,
  });
  const { access_token } = JSON.parse(redeemed.body);
  server.secrets.add(access_token);

  const answer = await fetch(`${server.url}/getToken`, bearer(access_token));
  assert.equal(answer.status, 200, answer.body);
  const token = tokenIn({ headers: { 'content-type': answer.type }, body: answer.body });
  server.secrets.add(token);
  assert.ok(await ims.check(token), 'IMS granted it');
});

test('a page reads the token as text and as JSON, with other request headers, after one preflight', async (t) => {
  const server = await start(t);
  const { fetch, traffic } = await open(t, app);
  const tracing = {
    'X-Correlation-Id': '7d1c', traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', baggage: 'a=b',
  };
  const text = await fetch(`${server.url}/getToken`, bearer(user.access_token, tracing));
  await sleep(6000); // browsers cache a preflight without Access-Control-Max-Age for 5 s
  const json = await fetch(`${server.url}/getToken`, bearer(user.access_token, { ...tracing, Accept: 'application/json' }));
  for (const answer of [text, json]) {
    assert.equal(answer.status, 200, answer.rejected ?? answer.body);
    const token = tokenIn({ headers: { 'content-type': answer.type }, body: answer.body });
    server.secrets.add(token);
    assert.ok(await ims.check(token), 'IMS granted it');
  }
  const wire = traffic.map((line) => line.replace(/ \S+$/, ''));
  assert.deepEqual(wire.toSorted(), ['GET 200', 'GET 200', 'OPTIONS 204'], 'one preflight, cached');
});

test('a page reads why it was refused', async (t) => {
  const server = await start(t);
  const { fetch } = await open(t, app);
  const url = `${server.url}/getToken`;

  const none = await fetch(url);
  assert.equal(none.status, 401);
  assert.match(none.challenge, /^Bearer realm="[^"]+"$/);

  const text = await fetch(url, bearer(user.id_token));
  assert.equal(text.status, 401);
  assert.match(text.challenge, /error="invalid_token".*audience/);
  assert.match(text.body, /audience/);

  const json = await fetch(url, bearer(user.id_token, { Accept: 'application/json' }));
  const { error, error_description } = JSON.parse(json.body);
  assert.deepEqual([json.status, error], [401, 'invalid_token']);
  assert.match(error_description, /audience/);

  assert.equal((await fetch(url, { method: 'POST', ...bearer(user.access_token) })).status, 405);
  assert.equal((await fetch(`${server.url}/elsewhere`, bearer(user.access_token))).status, 404);
});

test('a page reads Retry-After', async (t) => {
  const stopped = await startIMS(certificates);
  await stopped.close();
  const unreachable = await start(t, { AUTHORITY: stopped.url });
  const refused = await start(t, { CLIENT_SECRET: 'wrong+/secret=' });
  const { fetch } = await open(t, app);
  for (const [server, status] of [[unreachable, 503], [refused, 502]]) {
    const answer = await fetch(`${server.url}/getToken`, bearer(user.access_token));
    assert.equal(answer.status, status, answer.rejected ?? answer.body);
    assert.match(answer.retryAfter ?? '', /^[1-9]\d*$/);
  }
});

test('an origin list blocks other origins and allows its own', async (t) => {
  const server = await start(t, { CORS_ORIGINS: `https://viewer.example,${app}` });
  const url = `${server.url}/getToken`;

  const outside = await open(t, otherSite);
  assert.deepEqual(await outside.fetch(url, bearer(user.access_token)), { rejected: 'TypeError' });
  assert.deepEqual(await outside.fetch(url), { rejected: 'TypeError' }, 'a 401 without a preflight is blocked too');
  assert.equal(outside.console.filter((line) => line.includes('blocked by CORS policy')).length, 2, outside.console.join('\n'));
  await server.logged('status=401'); // and so the lines before it
  assert.ok(!server.log().includes('status=200'), 'the preflight blocked the request with a good token');

  const inside = await open(t, app);
  const answer = await inside.fetch(url, bearer(user.access_token, { traceparent: '00-1-1-01' }));
  assert.equal(answer.status, 200, answer.rejected ?? answer.body);
  server.secrets.add(tokenIn({ headers: { 'content-type': answer.type }, body: answer.body }));
  const refused = await inside.fetch(url, bearer('nonsense'));
  assert.equal(refused.status, 401);
  assert.match(refused.challenge, /error="invalid_token"/);
});

test('over TLS a page uses HTTP/1.1, the only version that the server speaks', async (t) => {
  const server = await start(t, { TLS_CERT_FILE: certificates.certFile, TLS_KEY_FILE: certificates.keyFile });
  const { fetch, traffic } = await open(t, app);
  const answer = await fetch(`${server.url}/getToken`, bearer(user.access_token));
  assert.equal(answer.status, 200, answer.rejected ?? answer.body);
  assert.deepEqual(traffic.toSorted(), ['GET 200 http/1.1', 'OPTIONS 204 http/1.1']);
});
