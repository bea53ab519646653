// One HTTP request at a time over node's own client: unlike `fetch` it takes a CA, and follows no redirect.

import http from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';

/** How long any one answer may take, in milliseconds: above the server's own 10 s for a cold start. */
const PATIENCE = 15_000;

/**
 * Asks `url` and resolves to `{ status, headers, body }`, the body as text; rejects when the connection fails.
 * A `form` is sent as a form POST. `bearer` becomes the Authorization header.
 */
export async function ask(url, { method, headers = {}, form, bearer, ca } = {}) {
  const body = form && new URLSearchParams(form).toString();
  const request = (url.startsWith('https:') ? https : http).request(url, {
    method: method ?? (form ? 'POST' : 'GET'),
    ca,
    agent: false, // no connection outlives its request, so that a stopped server has none to wait for
    signal: AbortSignal.timeout(PATIENCE),
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
