// A user's sign-in as the apps do it: the authorization code flow with PKCE (RFC 7636), without a browser.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';

import { send } from './request.mjs';
import { API_SCOPE, APP, AUDIENCE, USER } from './provider.mjs';

/**
 * Begins a sign-in: `authorize` is the address to send the user to, and `redeem(callback)` the form that exchanges the
 * address they return to for tokens. Without a `resource` (null) the access token is opaque, as Auth0's without an audience.
 */
export function beginSignIn(tenant, { resource = AUDIENCE, scope = API_SCOPE } = {}) {
  const verifier = randomBytes(32).toString('base64url');
  const audience = resource ? { resource } : {};
  const authorize = new URL(`${tenant.issuer}auth`);
  authorize.search = new URLSearchParams({
    client_id: APP,
    response_type: 'code',
    redirect_uri: tenant.redirectURI,
    scope: `openid profile email ${scope}`.trim(),
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    ...audience,
  });
  const redeem = (callback) => ({
    grant_type: 'authorization_code',
    client_id: APP,
    redirect_uri: tenant.redirectURI,
    code: new URL(callback).searchParams.get('code'),
    code_verifier: verifier,
    ...audience,
  });
  return { authorize: authorize.href, redeem, token: `${tenant.issuer}token` };
}

/** Signs USER in at the tenant and returns its answer, with `access_token` and `id_token`. */
export async function signIn(tenant, certificates, options) {
  const { authorize, redeem, token } = beginSignIn(tenant, options);
  const callback = await followSignIn(authorize, tenant.redirectURI, certificates);
  const answer = await send(token, { ...certificates, form: redeem(callback) });
  assert.equal(answer.status, 200, answer.body);
  return JSON.parse(answer.body);
}

/** Follows the provider from `url`, submitting its sign-in and consent pages, until it redirects to `end`. */
async function followSignIn(url, end, { ca }) {
  const cookies = new Map();
  let form;
  for (let steps = 0; steps < 12; steps++) {
    const headers = { cookie: [...cookies].map((pair) => pair.join('=')).join('; ') };
    const answer = await send(url, { ca, form, headers });
    form = undefined;
    for (const cookie of answer.headers['set-cookie'] ?? []) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      cookies.set(name, value);
    }
    if (answer.headers.location) {
      url = new URL(answer.headers.location, url).href;
      if (url.startsWith(end)) return url;
    } else {
      assert.equal(answer.status, 200, answer.body);
      url = new URL(/<form[^>]* action="([^"]+)"/.exec(answer.body)[1], url).href;
      const [, prompt] = /name="prompt" value="([^"]+)"/.exec(answer.body);
      form = { prompt, login: USER.sub, password: 'any' };
    }
  }
  throw new Error(`no redirect to ${end}, last at ${url}`);
}
