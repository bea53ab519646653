// The token server: built from this repository, run as a child process, configured by its environment only.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { send } from './request.mjs';
import { AUDIENCE, SERVICE, USER } from './provider.mjs';

/** How long the server may take to listen and to stop, in milliseconds. */
const TIMEOUT = 15_000;

/** Builds the server into a new folder, which is also the working directory of each run and contains no `.env`. */
export function buildServer() {
  const folder = mkdtempSync(join(tmpdir(), 'interop-server-'));
  const binary = join(folder, 'itwin-token-server');
  execFileSync('go', ['build', '-o', binary, '.'], { cwd: join(import.meta.dirname, '..'), stdio: 'inherit' });
  return { folder, binary, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Returns the environment of a server; `more` adds or replaces ITM_TOKEN_SERVER_… settings. */
export function settings(tenant, ims, { caFile }, more = {}) {
  const values = {
    HOST: '127.0.0.1',
    PORT: '0',
    CLIENT_ID: SERVICE.id,
    CLIENT_SECRET: SERVICE.secret,
    AUTHORITY: ims.url,
    AUTH0_DOMAIN: tenant.domain,
    AUTH0_AUDIENCE: AUDIENCE,
    ...more,
  };
  const named = Object.entries(values).map(([name, value]) => [`ITM_TOKEN_SERVER_${name}`, value]);
  return { PATH: process.env.PATH, HOME: process.env.HOME, SSL_CERT_FILE: caFile, ...Object.fromEntries(named) };
}

/**
 * Starts the server and returns once it listens. `url` is its address, `log()` its output so far, `logged(text)` waits
 * for a text in it, and `getToken` sends a user's token to /getToken. `stop` stops it, and asserts a clean exit and that
 * the log contains none of `secrets`: the settings' secret, the user's name and e-mail address, every token that went
 * through `getToken`, and what a test adds.
 */
export async function startServer({ folder, binary }, env) {
  const child = spawn(binary, [], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { log += text; });
  const exited = once(child, 'exit');
  const secrets = new Set([...secretForms(), USER.name, USER.email]);

  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    const [code, signal] = await within(exited, 'exit').catch((error) => child.kill('SIGKILL') && Promise.reject(error));
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `the server's exit:\n${log}`);
    assertNoSecrets(log, secrets);
  };

  const listening = new Promise((resolve, reject) => {
    child.stderr.on('data', () => {
      const [, address] = /msg=listening .*?addr="?([^\s"]+)/.exec(log) ?? [];
      if (address) resolve(address);
    });
    exited.then(() => reject(new Error(`the server exited:\n${log}`)), reject);
  });
  const address = await within(listening, 'listen').catch(async (error) => {
    child.kill('SIGKILL');
    throw error;
  });
  const url = `${env.ITM_TOKEN_SERVER_TLS_CERT_FILE ? 'https' : 'http'}://${address}`;

  const getToken = async (bearer, headers) => {
    if (bearer) secrets.add(bearer);
    const answer = await send(`${url}/getToken`, { bearer, headers });
    if (answer.status === 200) secrets.add(tokenIn(answer));
    return answer;
  };
  async function logged(text) {
    const end = Date.now() + 5_000;
    while (!log.includes(text) && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.ok(log.includes(text), `the log lacks ${text}:\n${log}`);
  }
  return { url, secrets, getToken, stop, log: () => log, logged };
}

/** Returns the iTwin token in a 200, text or JSON. */
export function tokenIn({ headers, body }) {
  if (headers['content-type'].startsWith('application/json')) return JSON.parse(body).access_token;
  assert.match(body, /^Bearer \S+$/, 'exactly "Bearer <token>"');
  return body.slice('Bearer '.length);
}

/** Returns the client secret in every encoding in which a log could contain it. */
function secretForms() {
  const { id, secret } = SERVICE;
  const encoded = encodeURIComponent(secret);
  const pairs = [`${id}:${secret}`, `${encodeURIComponent(id)}:${encoded}`];
  return [secret, encoded, ...pairs.map((pair) => Buffer.from(pair).toString('base64'))];
}

/** Asserts that `text` contains none of the secrets, nor the claims or the signature of those that are JWTs. */
export function assertNoSecrets(text, secrets) {
  for (const secret of secrets) {
    for (const part of [secret, ...secret.split('.').slice(1)]) {
      assert.ok(part.length < 8 || !text.includes(part), `the log contains ${part}:\n${text}`);
    }
  }
}

async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the server did not ${what} within ${TIMEOUT} ms`)), TIMEOUT);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
