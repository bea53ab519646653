// HTTP requests with Node's own client, which unlike fetch accepts a CA and follows no redirects.

import http from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';

/** The timeout of a request in milliseconds: more than the 10 s that callers wait at a cold start. */
const TIMEOUT = 15_000;

/**
 * Sends a request and returns `{ status, headers, body }`, the body as text; throws when the connection fails.
 * A `form` is sent as a form POST. `bearer` becomes the Authorization header.
 */
export async function send(url, { method, headers = {}, form, bearer, ca } = {}) {
  const body = form && new URLSearchParams(form).toString();
  const request = (url.startsWith('https:') ? https : http).request(url, {
    method: method ?? (form ? 'POST' : 'GET'),
    ca,
    agent: false, // one connection per request: a server that stops has no idle ones to wait for
    signal: AbortSignal.timeout(TIMEOUT),
    headers: {
      ...(form && { 'content-type': 'application/x-www-form-urlencoded' }),
      ...(bearer && { authorization: `Bearer ${bearer}` }),
      ...headers,
    },
  });
  request.end(body);
  const response = await new Promise((resolve, reject) => {
    request.once('response', resolve).once('error', reject);
  });
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}
