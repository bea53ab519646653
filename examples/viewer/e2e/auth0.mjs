// The sign-in through Auth0's own library. The test stands in for the tenant's pages; the access token is one that the
// token server's stand-in tenant has signed.
import assert from "node:assert/strict";
import { join } from "node:path";
import { apiStandIn, recordedContext } from "./browser.mjs";
import { buildPage, serveFolder, until } from "./servers.mjs";

const TENANT = "https://tenant.auth0.test";
const SETTINGS = {
  VITE_AUTH0_DOMAIN: "tenant.auth0.test",
  VITE_AUTH0_CLIENT_ID: "spa-client",
  VITE_AUTH0_AUDIENCE: "https://tokens.test",
};

/** Signs in, in a new context, and checks that the page returns to the iModel that was in the address. */
export async function signInAtAuth0({ browser, folder, tokenUrl, model }) {
  await buildPage(join(folder, "auth0"), { VITE_TOKEN_URL: tokenUrl, ...SETTINGS });
  const site = await serveFolder(join(folder, "auth0"));
  const { context, record } = await recordedContext(browser, tokenUrl);
  const [tenant, api] = [new Tenant(tokenUrl), apiStandIn()];
  try {
    await context.route(`${TENANT}/**`, (route) => tenant.answer(route));
    await context.route("https://api.bentley.com/**", (route) => {
      const request = route.request();
      const { status, body } = api.answer({ method: request.method(), url: request.url(), headers: request.headers() });
      return route.fulfill({ status, json: body ?? {}, headers: { "Access-Control-Allow-Origin": "*" } });
    });
    const page = await context.newPage();
    tenant.offline = true;
    await page.goto(site.url + model);
    await page.getByText("getUserToken failed: Timeout").waitFor({ timeout: 60_000 }); // not "signed out"
    tenant.offline = false; // retried automatically
    await page.getByText("You are signed out").waitFor({ timeout: 60_000 });
    await page.getByRole("button", { name: "Sign in" }).click();
    await until("requests to /imodels/", () => api.requests.filter(({ url }) => url.includes("/imodels/")).length >= 2, 60);
    assert.ok(page.url().endsWith(model), `back at ${page.url()}`);
    assert.ok(api.requests.every(({ authorization }) => authorization === `Bearer ${record.issued.at(-1)}`));
    assert.equal(tenant.query.get("audience"), SETTINGS.VITE_AUTH0_AUDIENCE);
    assert.equal(tenant.query.get("code_challenge_method"), "S256");
    for (const { url, headers, body } of record.requests) {
      const content = [url, JSON.stringify(headers), body].join("\n");
      assert.equal(content.includes(tenant.userToken), url === tokenUrl, `the user's token and ${url}`);
    }
  } finally {
    await context.close();
    site.close();
  }
}

class Tenant {
  constructor(tokenUrl) {
    this.userTokenUrl = new URL("/demo/userToken", tokenUrl);
  }

  async answer(route) {
    if (this.offline) return route.abort();
    const url = new URL(route.request().url());
    const query = url.searchParams;
    if (url.pathname === "/authorize" && query.get("prompt") === "none") return route.fulfill(loginRequired(query));
    if (url.pathname === "/authorize") {
      this.query = query;
      const answer = new URLSearchParams({ code: "c0de", state: query.get("state") });
      return route.fulfill({ status: 302, headers: { Location: `${query.get("redirect_uri")}?${answer}` } });
    }
    if (url.pathname !== "/oauth/token") return route.fulfill({ status: 404 });
    this.userToken = await (await fetch(this.userTokenUrl)).text();
    const tokens = { access_token: this.userToken, id_token: this.idToken(), refresh_token: "r1" };
    const json = { ...tokens, token_type: "Bearer", expires_in: 3600, scope: "openid profile email offline_access" };
    return route.fulfill({ json, headers: { "Access-Control-Allow-Origin": "*" } });
  }

  idToken() {
    const now = Math.floor(Date.now() / 1000);
    const identity = { iss: `${TENANT}/`, aud: SETTINGS.VITE_AUTH0_CLIENT_ID, sub: "auth0|user" };
    const claims = { ...identity, nonce: this.query.get("nonce"), iat: now, exp: now + 3600 };
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    return `${part({ alg: "RS256", typ: "JWT" })}.${part(claims)}.c2lnbmF0dXJl`;
  }
}

/** Auth0's answer in the hidden frame when no user is signed in. */
function loginRequired(query) {
  const response = { error: "login_required", error_description: "Login required", state: query.get("state") };
  const message = JSON.stringify({ type: "authorization_response", response });
  const origin = JSON.stringify(new URL(query.get("redirect_uri")).origin);
  return { contentType: "text/html", body: `<script>parent.postMessage(${message}, ${origin})</script>` };
}
