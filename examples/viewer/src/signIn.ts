import { type Auth0Client, createAuth0Client } from "@auth0/auth0-spa-js";
import { auth0, tokenUrl } from "./settings";
import { TokenError } from "./TokenServerAuthClient";

/** The user: getToken returns their token for the token server, signIn opens Auth0's page if there is one. */
export interface User {
  getToken: (fresh: boolean) => Promise<string | undefined>;
  signIn?: () => Promise<void>;
}

export const findUser = (): Promise<User> => (auth0 ? auth0User(auth0) : Promise.resolve({ getToken: demoToken }));

async function auth0User({ domain, clientId, audience }: NonNullable<typeof auth0>): Promise<User> {
  const client = await createAuth0Client({
    domain,
    clientId,
    // Without an audience Auth0 issues an opaque token, which the token server refuses.
    authorizationParams: { audience, redirect_uri: location.origin + location.pathname },
    // Browsers that block third-party cookies can renew a token without the user in no other way.
    useRefreshTokens: true,
    useRefreshTokensFallback: true,
    authorizeTimeoutInSeconds: 10,
  });
  const signInError = await finishSignIn(client);
  return {
    getToken: (fresh) =>
      client.getTokenSilently({ cacheMode: fresh ? "off" : "on" }).catch((error) => {
        throw signInError && error.error === "login_required" ? new TokenError("signed-out", signInError.message) : error;
      }),
    signIn: () => client.loginWithRedirect({ appState: { hash: location.hash } }),
  };
}

/** After Auth0's page: completes the sign-in, and restores the iModel that was in the address before. */
async function finishSignIn(client: Auth0Client): Promise<Error | undefined> {
  const query = new URLSearchParams(location.search);
  if (!query.has("state") || !(query.has("code") || query.has("error"))) return undefined;
  try {
    const { appState } = await client.handleRedirectCallback<{ hash: string }>();
    history.replaceState({}, "", location.pathname);
    if (appState?.hash) location.replace(appState.hash); // unlike replaceState, this raises hashchange
    return undefined;
  } catch (error) {
    history.replaceState({}, "", location.pathname);
    return error as Error;
  }
}

/** `go run . demo` provides user tokens without a sign-in. */
async function demoToken(): Promise<string> {
  const url = new URL("/demo/userToken", tokenUrl);
  const response = await fetch(url).catch((error) => {
    throw new TokenError("unreachable", error.message);
  });
  if (response.ok) return response.text();
  throw new TokenError("signed-out", "the token server is not the demo: set the VITE_AUTH0_… settings, or run `go run . demo`");
}
