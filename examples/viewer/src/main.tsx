import "@itwin/itwinui-react/styles.css";
import "./style.css";
import { ThemeProvider } from "@itwin/itwinui-react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { auth0, tokenUrl } from "./settings";
import { findUser } from "./signIn";
import { TokenServerAuthClient } from "./TokenServerAuthClient";

globalThis.IMJS_URL_PREFIX = ""; // read by the Viewer; "qa-" for Bentley's test environment

const user = findUser();
const authClient = new TokenServerAuthClient({
  tokenUrl,
  getUserToken: async (fresh) => (await user).getToken(fresh),
});

createRoot(document.getElementById("root")!).render(
  <ThemeProvider theme="light">
    <App authClient={authClient} signIn={auth0 && (async () => (await user).signIn?.())} />
  </ThemeProvider>,
);
