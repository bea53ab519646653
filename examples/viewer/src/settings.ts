// The settings of the build: VITE_… from the environment, .env.local or .env. All of them end up in the bundle, so
// none can be a secret.
const env = import.meta.env;

export const tokenUrl: string = env.VITE_TOKEN_URL || "http://localhost:3001/getToken";

/** With all three set, users sign in at Auth0; otherwise `go run . demo` provides the user. */
export const auth0 =
  env.VITE_AUTH0_DOMAIN && env.VITE_AUTH0_CLIENT_ID && env.VITE_AUTH0_AUDIENCE
    ? { domain: env.VITE_AUTH0_DOMAIN, clientId: env.VITE_AUTH0_CLIENT_ID, audience: env.VITE_AUTH0_AUDIENCE }
    : undefined;

/** The iModel to show: the address's #ITWIN_ID/IMODEL_ID, else the build's. Without an iModelId: a blank connection. */
export function chosenModel(): { iTwinId: string | undefined; iModelId: string | undefined } {
  const [iTwinId, iModelId] = location.hash.slice(1).split("/");
  return iModelId ? { iTwinId, iModelId } : { iTwinId: env.VITE_ITWIN_ID, iModelId: env.VITE_IMODEL_ID };
}
