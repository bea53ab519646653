// The clients of the TypeScript token server (iTwin/mobile-samples 0.32.3), unchanged: what each sends, and how it parses
// the answer.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { makeCertificates } from './certs.mjs';
import { APP, AUDIENCE, startIMS, startTenant } from './provider.mjs';
import { buildServer, settings, startServer } from './server.mjs';
import { signIn } from './signin.mjs';

let certificates, built, tenant, ims, user, server;

before(async () => {
  certificates = makeCertificates();
  built = buildServer();
  tenant = await startTenant(certificates);
  ims = await startIMS(certificates);
  user = await signIn(tenant, certificates);
  server = await startServer(built, settings(tenant, ims, certificates, { AUTH0_AUDIENCE: `${APP},${AUDIENCE}` }));
});

after(async () => {
  await server?.stop();
  await tenant?.close();
  await ims?.close();
  built?.remove();
  certificates?.remove();
});

const decode = (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));

async function assertGranted(token) {
  assert.ok(decode(token).exp > Date.now() / 1000, 'exp is in the future');
  assert.ok(await ims.check(token), 'IMS granted it');
}

test('the iOS sample', async () => {
  const parse = (body) => body.split(' ')[1]; // Swift: token.components(separatedBy: " ")[1]
  await server.getToken(); // at its start, for the prompt of iOS; the answer is not read
  const { body } = await server.getToken(user.id_token);
  await assertGranted(parse(body));
  assert.equal(body, `Bearer ${parse(body)}`, 'the sample hands on the whole body');

  // It ignores the status. A second word that is no JWT is an error to it, but without a second word the app crashes.
  for (const refused of [await server.getToken('undefined'), await server.getToken(`${user.id_token}x`)]) {
    assert.equal(refused.status, 401);
    assert.match(parse(refused.body) ?? '', /^[a-z]+$/, refused.body);
  }
});

test('the Android sample', async () => {
  const { body } = await server.getToken(user.access_token);
  await assertGranted(body.substring('Bearer '.length));
});

test('a web client with axios, which accepts JSON and text alike', async () => {
  const accept = 'application/json, text/plain, */*'; // axios's default, and Angular's
  const { headers, body } = await server.getToken(user.access_token, { accept });
  assert.match(headers['content-type'], /^text\/plain/);
  assert.ok(body.startsWith('Bearer '), 'it uses the whole body');
  await assertGranted(body.slice('Bearer '.length));

  const refused = await server.getToken(undefined, { accept }); // the TypeScript server's own web client sends no token
  assert.equal(refused.status, 401);
  assert.match(refused.headers['content-type'], /^text\/plain/);
  assert.ok(!refused.body.startsWith('Bearer '), 'nothing that could pass for a token');
});
