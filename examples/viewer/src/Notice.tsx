import { useState } from "react";
import { tokenUrl } from "./settings";
import type { TokenError } from "./TokenServerAuthClient";

interface Props {
  error: TokenError;
  retry: () => Promise<unknown>;
  signIn?: (() => Promise<void>) | undefined;
}

/** Says why there is no token, and what the user can do. */
export function Notice({ error, retry, signIn }: Props) {
  const [busy, setBusy] = useState(false);
  const tryAgain = () => {
    setBusy(true);
    retry().catch(() => {}).finally(() => setBusy(false)); // a failure arrives as the next `error`
  };
  return (
    <div role="alert" data-token-error={error.code}>
      <p>{sentence(error)}</p>
      {error.code === "signed-out" && signIn && <button onClick={() => void signIn()}>Sign in</button>}
      <button onClick={tryAgain} disabled={busy}>{busy ? "Trying…" : "Try again"}</button>
    </div>
  );
}

function sentence({ code, message }: TokenError): string {
  switch (code) {
    case "unreachable":
      return `The token server at ${tokenUrl} does not answer (${message}). Is it running, and do it and this browser allow requests from ${location.origin}?`;
    case "signed-out":
      return `You are signed out (${message}).`;
    case "refused":
      return `The token server refused your sign-in: ${message}.`;
    case "unavailable":
      return `There is no iTwin token at the moment: ${message}.`;
  }
}
