import { type Auth0Client, createAuth0Client } from "@auth0/auth0-spa-js";
import { auth0, tokenUrl } from "./settings";
import { TokenError } from "./TokenServerAuthClient";

/** Who the user is: their token for the token server, and, where there is a sign-in, the way to it. */
export interface User {
  getToken: (fresh: boolean) => Promise<string>;
  signIn?: () => Promise<void>;
}

export const findUser = (): Promise<User> => (auth0 ? auth0User(auth0) : Promise.resolve({ getToken: demoToken }));

async function auth0User({ domain, clientId, audience }: NonNullable<typeof auth0>): Promise<User> {
  const client = await createAuth0Client({
    domain,
    clientId,
    // Without an audience Auth0 gives an opaque token, which no server can check.
    authorizationParams: { audience, redirect_uri: location.origin + location.pathname },
    // Browsers that block third-party cookies leave no other way to renew without asking the user.
    useRefreshTokens: true,
    useRefreshTokensFallback: true,
    authorizeTimeoutInSeconds: 10,
  });
  const signInError = await finishSignIn(client);
  return {
    getToken: async (fresh) => {
      const token = await client.getTokenSilently({ cacheMode: fresh ? "off" : "on" }).catch((error) => {
        throw signInError ?? error;
      });
      if (!token) throw new Error("Auth0 gave no access token");
      return token;
    },
    signIn: () => client.loginWithRedirect({ appState: { hash: location.hash } }),
  };
}

/** On the way back from Auth0's page: takes up its answer, and the iModel that was in the address before. */
async function finishSignIn(client: Auth0Client): Promise<Error | undefined> {
  const query = new URLSearchParams(location.search);
  if (!query.has("state") || !(query.has("code") || query.has("error"))) return undefined;
  try {
    const { appState } = await client.handleRedirectCallback<{ hash: string }>();
    history.replaceState({}, "", location.pathname);
    if (appState?.hash) location.replace(appState.hash); // unlike replaceState, the page hears of this
    return undefined;
  } catch (error) {
    history.replaceState({}, "", location.pathname);
    return error as Error;
  }
}

/** `demo` signs a user in by itself. */
async function demoToken(): Promise<string> {
  const url = new URL("/demo/userToken", tokenUrl);
  const response = await fetch(url).catch((error) => {
    throw new TokenError("unreachable", error.message);
  });
  if (response.ok) return response.text();
  throw new TokenError("signed-out", "this token server makes up no users: set the VITE_AUTH0_… settings, or run its demo");
}
