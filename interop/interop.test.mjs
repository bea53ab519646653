// The token server between two real OpenID providers: a tenant where users sign in, and IMS.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { makeCertificates } from './certs.mjs';
import { API_SCOPE, APP, AUDIENCE, AUDIENCE_ES256, IMS_SCOPE, OLD_SCOPE, SERVICE, USER, startIMS, startTenant } from './provider.mjs';
import { assertNoSecrets, buildServer, settings, startServer, tokenIn } from './server.mjs';
import { signIn } from './signin.mjs';

let certificates, built, tenant, ims, user;

before(async () => {
  certificates = makeCertificates();
  built = buildServer();
  tenant = await startTenant(certificates);
  ims = await startIMS(certificates);
  user = await signIn(tenant, certificates);
});

after(async () => {
  await tenant?.close();
  await ims?.close();
  built?.remove();
  certificates?.remove();
});

/** Starts the server for one test; `more` are settings without their prefix. */
async function start(t, more = {}, providers = {}) {
  const server = await startServer(built, settings(providers.tenant ?? tenant, providers.ims ?? ims, certificates, more));
  t.after(server.stop);
  return server;
}

/** Asserts a refusal with its challenge, which matches `words`. */
function assertRefused(answer, status, error, words) {
  const challenge = answer.headers['www-authenticate'] ?? '';
  assert.equal(answer.status, status, answer.body);
  assert.match(challenge, new RegExp(`^Bearer .*error="${error}"`));
  assert.match(challenge, words);
}

/** Asserts a temporary failure: the status, and Retry-After in whole seconds. */
function assertUnavailable(answer, status) {
  assert.equal(answer.status, status, answer.body);
  assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/, 'Retry-After in seconds');
}

test('an access token (at+jwt) is exchanged for a token that IMS granted', async (t) => {
  const before = ims.grants();
  const server = await start(t);
  const answers = await Promise.all(Array.from({ length: 20 }, () => server.getToken(user.access_token)));
  for (const answer of answers) {
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.headers['content-type'], 'text/plain; charset=utf-8');
    const claims = await ims.check(tokenIn(answer));
    assert.deepEqual([claims?.client_id, claims?.scope], [SERVICE.id, IMS_SCOPE]);
  }
  assert.equal(ims.grants() - before, 1, 'grants for 20 callers at once');
  await server.logged(USER.sub);
});

test('JSON contains the seconds until the token expires', async (t) => {
  const server = await start(t);
  const answer = await server.getToken(user.access_token, { accept: 'application/json' });
  assert.equal(answer.status, 200, answer.body);
  const { access_token, token_type, expires_in, ...rest } = JSON.parse(answer.body);
  const { exp } = await ims.check(access_token);
  assert.deepEqual([token_type, rest], ['Bearer', {}]);
  const left = exp - Date.now() / 1000;
  assert.ok(Math.abs(expires_in - left) < 5, `expires_in = ${expires_in}, want about ${left}`);
});

test('an ID token is accepted only if the audience setting contains the app', async (t) => {
  const strict = await start(t);
  assertRefused(await strict.getToken(user.id_token), 401, 'invalid_token', /audience/);
  const server = await start(t, { AUTH0_AUDIENCE: `${APP},${AUDIENCE}` });
  assert.equal((await server.getToken(user.id_token)).status, 200);
  assert.equal((await server.getToken(user.access_token)).status, 200);
});

test('an opaque access token is refused as what it is, no JWT', async (t) => {
  const server = await start(t);
  const { access_token } = await signIn(tenant, certificates, { resource: null });
  assert.equal(access_token.split('.').length, 1, 'opaque');
  assertRefused(await server.getToken(access_token), 401, 'invalid_token', /not a well-formed JWT/);
});

test('a token signed with ES256 is refused', async (t) => {
  const server = await start(t);
  const { access_token } = await signIn(tenant, certificates, { resource: AUDIENCE_ES256 });
  assertRefused(await server.getToken(access_token), 401, 'invalid_token', /error_description="[^"]+"/);
});

test('a token of another tenant is refused without a key fetch', async (t) => {
  const other = await startTenant(certificates);
  t.after(other.close);
  const server = await start(t);
  assert.equal((await server.getToken(user.access_token)).status, 200);
  const fetches = tenant.keyFetches();
  const { access_token } = await signIn(other, certificates);
  assertRefused(await server.getToken(access_token), 401, 'invalid_token', /issuer/);
  assert.deepEqual([tenant.keyFetches() - fetches, other.keyFetches()], [0, 0]);
});

test('a required scope must be in the token', async (t) => {
  const server = await start(t, { AUTH0_REQUIRED_SCOPE: API_SCOPE });
  assert.equal((await server.getToken(user.access_token)).status, 200);
  const { access_token } = await signIn(tenant, certificates, { scope: '' });
  assertRefused(await server.getToken(access_token), 403, 'insufficient_scope', new RegExp(`scope="${API_SCOPE}"`));
});

test('a new signing key is accepted, a removed one is refused', async (t) => {
  const rotating = await startTenant(certificates);
  t.after(rotating.close);
  const server = await start(t, {}, { tenant: rotating });
  const status = async (token) => (await server.getToken(token)).status;
  const first = (await signIn(rotating, certificates)).access_token;
  assert.equal(await status(first), 200);

  // An unknown kid causes a key fetch, unless there was one less than 10 s ago.
  const keysAreOld = () => sleep(10_500);
  rotating.rotate();
  await keysAreOld();
  const second = (await signIn(rotating, certificates)).access_token;
  assert.equal(await status(second), 200, 'signed with the new key');
  assert.equal(await status(first), 200, 'the old key is still published');

  rotating.rotate({ keep: false });
  await keysAreOld();
  const third = (await signIn(rotating, certificates)).access_token;
  assert.equal(await status(third), 200, 'signed with the third key');
  for (const token of [first, second]) {
    assertRefused(await server.getToken(token), 401, 'invalid_token', /key/);
  }
  assert.equal(await status(third), 200);
});

test('a wrong secret is a 502 without IMS\'s answer, and a corrected file needs no restart', async (t) => {
  const file = join(built.folder, 'secret');
  writeFileSync(file, 'wrong+/secret=:100%25\n');
  const server = await start(t, { CLIENT_SECRET: '', CLIENT_SECRET_FILE: file });
  server.secrets.add('wrong+/secret=:100%25');
  const answer = await server.getToken(user.access_token);
  assertUnavailable(answer, 502);

  const { error, error_description } = await ims.refusal();
  assert.ok(!answer.body.includes(error) && !answer.body.includes(error_description), answer.body);
  server.secrets.add(error_description);
  await server.logged(error);

  writeFileSync(file, `${SERVICE.secret}\n`);
  const deadline = Date.now() + 10_000; // twice the server's promise
  let status;
  while ((status = (await server.getToken(user.access_token)).status) !== 200 && Date.now() < deadline) await sleep(200);
  assert.equal(status, 200, `with the corrected secret:\n${server.log()}`);
});

test('a scope that IMS does not grant is a 502, and the log names invalid_scope', async (t) => {
  const server = await start(t, { SCOPE: OLD_SCOPE });
  assertUnavailable(await server.getToken(user.access_token), 502);
  await server.logged('invalid_scope');
});

test('opaque iTwin tokens are returned unchanged', async (t) => {
  const opaque = await startIMS(certificates, 'opaque');
  t.after(opaque.close);
  const server = await start(t, {}, { ims: opaque });
  const answer = await server.getToken(user.access_token);
  assert.equal(answer.status, 200, answer.body);
  const introspected = await opaque.check(tokenIn(answer));
  assert.deepEqual([introspected?.client_id, introspected?.scope], [SERVICE.id, IMS_SCOPE]);
});

test('a provider that is down or has an untrusted certificate causes a 503', async (t) => {
  const stopped = await startIMS(certificates);
  await stopped.close();
  assertUnavailable(await (await start(t, {}, { ims: stopped })).getToken(user.access_token), 503);

  const { SSL_CERT_FILE, ...withoutCA } = settings(tenant, ims, certificates);
  const server = await startServer(built, withoutCA);
  t.after(server.stop);
  const [grants, fetches] = [ims.grants(), tenant.keyFetches()];
  assertUnavailable(await server.getToken(user.access_token), 503);
  assert.deepEqual([ims.grants() - grants, tenant.keyFetches() - fetches], [0, 0]);
});

/** Runs `check` with a token, asserts that its output contains no secret, and returns exit `status` and `output`. */
async function check(token, more) {
  const options = { cwd: built.folder, env: settings(tenant, ims, certificates, more) };
  const [status, output] = await new Promise((resolve) => {
    execFile(built.binary, ['check', token], options, (error, stdout, stderr) => resolve([error?.code ?? 0, stdout + stderr]));
  });
  assertNoSecrets(output, [token, SERVICE.secret, USER.name, USER.email]);
  return { status, output };
}

test('check accepts both providers, and names what is wrong', async () => {
  const good = await check(user.access_token);
  assert.equal(good.status, 0, good.output);

  /** Returns the lines that are not in a good report. */
  const faults = ({ status, output }) => {
    assert.notEqual(status, 0, output);
    const lines = good.output.split('\n');
    return output.split('\n').filter((line) => !lines.includes(line)).join('\n');
  };
  const assertNamed = (words, text) => words.forEach((word) => assert.ok(text.includes(word), `${word} in:\n${text}`));
  assertNamed(['audience', APP, AUDIENCE], faults(await check(user.id_token)));
  const wrongSecret = await check(user.access_token, { CLIENT_SECRET: 'wrong+/secret=' });
  assertNamed(['invalid_client', 'ITM_TOKEN_SERVER_CLIENT_SECRET'], faults(wrongSecret));
});
