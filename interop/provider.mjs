// oidc-provider, a certified OpenID provider, in both roles: the tenant where users sign in (in place of Auth0), and IMS,
// which grants iTwin tokens (in place of Bentley's). Both use TLS on loopback, and new keys.

import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import https from 'node:https';

import { createLocalJWKSet, jwtVerify } from 'jose';
import Provider from 'oidc-provider';

import { send } from './request.mjs';

/** The API that the sample apps request as audience; a token for it is an RS256 at+jwt (RFC 9068). */
export const AUDIENCE = 'http://tokenserver.sample.bentley.com';
/** The same API by another name, for which the tenant signs with ES256, which the server refuses. */
export const AUDIENCE_ES256 = 'http://es256.sample.bentley.com';
/** The app's client id: the `aud` of ID tokens. */
export const APP = 'interop-app';
/** A scope of the API, which a token may or may not have. */
export const API_SCOPE = 'itwin:read';
/** The one user. The token server logs the subject, and must never log the name or the e-mail address. */
export const USER = { sub: 'auth0|5f7c8ec7c33c6c004bbafe82', name: 'Augusta Byron', email: 'augusta@analytical.example' };
/** The scope of grants, and one that IMS knows but does not grant to this client: `invalid_scope`. */
export const IMS_SCOPE = 'itwin-platform';
export const OLD_SCOPE = 'itwinjs';
/** The client at IMS: id and secret contain characters that form-encoding changes (RFC 6749 §2.3.1). */
export const SERVICE = { id: 'service:interop+1', secret: 'Zm9v+/bar=:100%25&q=1~' };

/**
 * Starts the tenant. `domain` is for ITM_TOKEN_SERVER_AUTH0_DOMAIN, `issuer` is in its tokens. `redirectURI` is the
 * app's, where sign-ins end. `rotate({ keep })` makes it sign with a new key, and still publish the old ones if `keep`.
 * `keyFetches()` is the number of JWKS requests so far.
 */
export async function startTenant(certificates, redirectURI = 'http://localhost/') {
  const listener = await listen(certificates);
  const issuer = `${listener.url}/`;
  let keys = [signingKey('RS256')];
  const otherKey = signingKey('ES256');
  const serve = () => listener.serve(makeProvider(issuer, tenantSettings(redirectURI, [...keys, otherKey])));
  serve();
  return {
    domain: new URL(issuer).host,
    issuer,
    redirectURI,
    keyFetches: () => listener.count('/.well-known/jwks.json'),
    rotate: ({ keep = true } = {}) => {
      keys = [signingKey('RS256'), ...(keep ? keys : [])];
      serve();
    },
    close: listener.close,
  };
}

function tenantSettings(redirectURI, keys) {
  const audiences = {
    [AUDIENCE]: { alg: 'RS256' },
    [AUDIENCE_ES256]: { alg: 'ES256' },
  };
  return {
    ...commonSettings(keys),
    routes: { jwks: '/.well-known/jwks.json' }, // as at Auth0
    clients: [{
      client_id: APP,
      token_endpoint_auth_method: 'none', // a public client, which uses PKCE
      application_type: 'native',
      redirect_uris: [redirectURI],
    }],
    clientBasedCORS: () => true,
    conformIdTokenClaims: false, // name and e-mail in the ID token, as at Auth0
    claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ ...USER, sub: id }) }),
    features: {
      devInteractions: { enabled: true }, // the provider's built-in sign-in and consent pages
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          audience: AUDIENCE,
          scope: API_SCOPE,
          accessTokenFormat: 'jwt',
          jwt: { sign: audiences[resource] },
        }),
      },
    },
  };
}

/**
 * Starts IMS. `url` is for ITM_TOKEN_SERVER_AUTHORITY. `format` is the format of its tokens, `jwt` or `opaque`.
 * `grants()` is the number of tokens granted. `check` returns a token's claims if this provider granted it and it has
 * not expired, and throws or returns undefined otherwise: a JWT by signature and `jti`, an opaque one by introspection.
 */
export async function startIMS(certificates, format = 'jwt') {
  const listener = await listen(certificates);
  const provider = makeProvider(listener.url, imsSettings(format));
  const granted = new Set();
  provider.on('client_credentials.issued', ({ jti }) => granted.add(jti)); // a JWT
  provider.on('client_credentials.saved', ({ jti }) => granted.add(jti)); // an opaque one
  listener.serve(provider);

  async function checkJWT(token) {
    const { body } = await send(`${listener.url}/jwks`, certificates);
    const { payload } = await jwtVerify(token, createLocalJWKSet(JSON.parse(body)), {
      issuer: listener.url, typ: 'at+jwt', algorithms: ['RS256'],
    });
    return granted.has(payload.jti) ? payload : undefined;
  }
  async function introspect(token) {
    const { body } = await send(`${listener.url}/token/introspection`, { ...certificates, form: { token }, ...basic(SERVICE) });
    const answer = JSON.parse(body);
    return answer.active ? answer : undefined;
  }
  return {
    url: listener.url,
    grants: () => granted.size,
    check: format === 'jwt' ? checkJWT : introspect,
    /** The provider's answer to a client with a wrong secret: `{ error, error_description }`. */
    refusal: async () => JSON.parse((await send(`${listener.url}/connect/token`, {
      ...certificates, form: { grant_type: 'client_credentials' }, ...basic({ ...SERVICE, secret: 'wrong' }),
    })).body),
    close: listener.close,
  };
}

function imsSettings(format) {
  return {
    ...commonSettings([signingKey('RS256')]),
    routes: { token: '/connect/token' }, // as at IMS
    scopes: [IMS_SCOPE, OLD_SCOPE],
    clients: [{
      client_id: SERVICE.id,
      client_secret: SERVICE.secret,
      token_endpoint_auth_method: 'client_secret_basic', // a secret in the form is refused
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      scope: IMS_SCOPE,
    }],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:itwin-platform', // the server's grants name none
        getResourceServerInfo: () => ({
          scope: IMS_SCOPE, accessTokenFormat: format, accessTokenTTL: 3600, jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  };
}

/** Creates a provider, without its warnings that the sign-in pages and the storage are not for production. */
function makeProvider(issuer, settings) {
  const { warn } = console;
  console.warn = () => {};
  try {
    return new Provider(issuer, settings);
  } finally {
    console.warn = warn;
  }
}

function commonSettings(keys) {
  const hour = 3600;
  return {
    jwks: { keys },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    ttl: {
      AccessToken: hour, AuthorizationCode: 60, ClientCredentials: hour, Grant: hour, IdToken: hour, Interaction: hour, Session: hour,
    },
  };
}

/** Creates a private key for one algorithm, as a JWK with a new `kid`. */
function signingKey(alg) {
  const { privateKey } = alg === 'RS256'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: randomUUID() };
}

/** HTTP Basic by RFC 6749 §2.3.1, independent of the server's implementation. */
function basic({ id, secret }) {
  const encoded = [id, secret].map((half) => new URLSearchParams({ '': half }).toString().slice(1));
  return { headers: { authorization: `Basic ${Buffer.from(encoded.join(':')).toString('base64')}` } };
}

/**
 * Listens with TLS on a free port of 127.0.0.1 before there is a provider, since an issuer's name contains the port.
 * `serve` replaces the provider behind it; `count` is the number of requests for a path so far.
 */
async function listen({ key, cert }) {
  let handler;
  const counts = new Map();
  const server = https.createServer({ key, cert }, (request, response) => {
    const { pathname } = new URL(request.url, 'https://localhost');
    counts.set(pathname, (counts.get(pathname) ?? 0) + 1);
    handler(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://127.0.0.1:${server.address().port}`,
    serve: (provider) => {
      provider.on('server_error', (_, error) => console.error(error));
      handler = provider.callback();
    },
    count: (path) => counts.get(path) ?? 0,
    close: async () => {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
