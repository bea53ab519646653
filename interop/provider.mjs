// oidc-provider, a certified OpenID provider, in the two roles that the token server meets: the tenant that signs users
// in (Auth0's place) and IMS, which grants iTwin tokens (Bentley's place). Both over TLS on loopback, keys made afresh.

import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import https from 'node:https';

import { createLocalJWKSet, jwtVerify } from 'jose';
import Provider from 'oidc-provider';

import { ask } from './ask.mjs';

/** The API that the sample apps name as audience; a token for it is an RS256 at+jwt (RFC 9068). */
export const AUDIENCE = 'http://tokenserver.sample.bentley.com';
/** The same API by another name, for which the tenant signs with ES256: genuine, but not an algorithm we take. */
export const AUDIENCE_ES256 = 'http://es256.sample.bentley.com';
/** The app's client id: the `aud` of ID tokens. */
export const APP = 'interop-app';
/** The scope of the API that a token may or may not have. */
export const API_SCOPE = 'itwin:read';
/** The one user. The token server may log the subject; it must never log the other two. */
export const USER = { sub: 'auth0|5f7c8ec7c33c6c004bbafe82', name: 'Augusta Byron', email: 'augusta@analytical.example' };
/** What grants are for, and a scope that IMS knows but does not give to this client: `invalid_scope`. */
export const IMS_SCOPE = 'itwin-platform';
export const OLD_SCOPE = 'itwinjs';
/** The client at IMS: id and secret hold what form-encoding changes (RFC 6749 §2.3.1). */
export const SERVICE = { id: 'service:interop+1', secret: 'Zm9v+/bar=:100%25&q=1~' };

/**
 * Starts the tenant. `domain` is what ITM_TOKEN_SERVER_AUTH0_DOMAIN takes, `issuer` what its tokens say. `redirectURI`
 * is the app's, where sign-ins end. `rotate({ keep })` signs with a new key from now on and publishes the old ones if
 * `keep`, as restarting the provider with other `jwks` does. `keyFetches()` counts the answers its JWKS path has given.
 */
export async function startTenant(certificates, redirectURI = 'http://localhost/') {
  const listener = await listen(certificates);
  const issuer = `${listener.url}/`;
  let keys = [signingKey('RS256')];
  const neighbour = signingKey('ES256');
  const serve = () => listener.serve(makeProvider(issuer, tenantSettings(redirectURI, [...keys, neighbour])));
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
    routes: { jwks: '/.well-known/jwks.json' }, // where Auth0 has it
    clients: [{
      client_id: APP,
      token_endpoint_auth_method: 'none', // an app on a phone or in a page holds no secret: PKCE instead
      application_type: 'native',
      redirect_uris: [redirectURI],
    }],
    clientBasedCORS: () => true,
    conformIdTokenClaims: false, // name and e-mail in the ID token, as Auth0 puts them there
    claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ ...USER, sub: id }) }),
    features: {
      devInteractions: { enabled: true }, // the provider's own sign-in and consent pages
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
 * Starts IMS. `url` is what ITM_TOKEN_SERVER_AUTHORITY takes. `format` is that of the tokens granted, `jwt` or `opaque`.
 * `grants()` counts the tokens granted; `check` resolves to a token's claims if this provider granted it and it still
 * lives, and rejects or is undefined otherwise: a JWT by signature and `jti`, an opaque one by introspection.
 */
export async function startIMS(certificates, format = 'jwt') {
  const listener = await listen(certificates);
  const provider = makeProvider(listener.url, imsSettings(format));
  const granted = new Set();
  provider.on('client_credentials.issued', ({ jti }) => granted.add(jti)); // a JWT
  provider.on('client_credentials.saved', ({ jti }) => granted.add(jti)); // an opaque one
  listener.serve(provider);

  async function checkJWT(token) {
    const { body } = await ask(`${listener.url}/jwks`, certificates);
    const { payload } = await jwtVerify(token, createLocalJWKSet(JSON.parse(body)), {
      issuer: listener.url, typ: 'at+jwt', algorithms: ['RS256'],
    });
    return granted.has(payload.jti) ? payload : undefined;
  }
  async function introspect(token) {
    const { body } = await ask(`${listener.url}/token/introspection`, { ...certificates, form: { token }, ...basic(SERVICE) });
    const answer = JSON.parse(body);
    return answer.active ? answer : undefined;
  }
  return {
    url: listener.url,
    grants: () => granted.size,
    check: format === 'jwt' ? checkJWT : introspect,
    /** The provider's own words to a client with a wrong secret: `{ error, error_description }`. */
    refusal: async () => JSON.parse((await ask(`${listener.url}/connect/token`, {
      ...certificates, form: { grant_type: 'client_credentials' }, ...basic({ ...SERVICE, secret: 'wrong' }),
    })).body),
    close: listener.close,
  };
}

function imsSettings(format) {
  return {
    ...commonSettings([signingKey('RS256')]),
    routes: { token: '/connect/token' }, // where IMS has it
    scopes: [IMS_SCOPE, OLD_SCOPE],
    clients: [{
      client_id: SERVICE.id,
      client_secret: SERVICE.secret,
      token_endpoint_auth_method: 'client_secret_basic', // the only way in: a secret in the form is refused
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
        defaultResource: () => 'urn:itwin-platform', // a grant names none, as at Bentley's
        getResourceServerInfo: () => ({
          scope: IMS_SCOPE, accessTokenFormat: format, accessTokenTTL: 3600, jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  };
}

/** A provider without its warnings that sign-in pages and storage of this kind are not for production: so they are. */
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

/** A fresh private key as JWK, with a `kid` of its own, for one algorithm. */
function signingKey(alg) {
  const { privateKey } = alg === 'RS256'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: randomUUID() };
}

/** HTTP Basic as RFC 6749 §2.3.1 wants it, written here anew so that it does not lean on the server's. */
function basic({ id, secret }) {
  const encoded = [id, secret].map((half) => new URLSearchParams({ '': half }).toString().slice(1));
  return { headers: { authorization: `Basic ${Buffer.from(encoded.join(':')).toString('base64')}` } };
}

/**
 * Listens over TLS on a free port of 127.0.0.1 before there is a provider, since an issuer's name holds the port.
 * `serve` puts a provider behind it, at once and in place of the one before; `count` tells a path's requests so far.
 */
async function listen({ key, cert }) {
  let answer;
  const counts = new Map();
  const server = https.createServer({ key, cert }, (request, response) => {
    const { pathname } = new URL(request.url, 'https://localhost');
    counts.set(pathname, (counts.get(pathname) ?? 0) + 1);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://127.0.0.1:${server.address().port}`,
    serve: (provider) => {
      provider.on('server_error', (_, error) => console.error(error));
      answer = provider.callback();
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
