import { useState } from "react";
import { tokenUrl } from "./settings";
import type { TokenError } from "./TokenServerAuthClient";

interface Props {
  why: TokenError;
  retry: () => Promise<unknown>;
  signIn?: () => Promise<void>;
}

/** Says in a sentence why there is no token, and offers what may help. */
export function Notice({ why, retry, signIn }: Props) {
  const [busy, setBusy] = useState(false);
  const tryAgain = () => {
    setBusy(true);
    retry().catch(() => {}).finally(() => setBusy(false)); // what comes of it arrives as `why`
  };
  return (
    <div role="alert" data-trouble={why.trouble}>
      <p>{sentence(why)}</p>
      {why.trouble === "signed-out" && signIn && <button onClick={() => void signIn()}>Sign in</button>}
      <button onClick={tryAgain} disabled={busy}>{busy ? "Trying…" : "Try again"}</button>
    </div>
  );
}

function sentence({ trouble, message }: TokenError): string {
  switch (trouble) {
    case "unreachable":
      return `The token server at ${tokenUrl} does not answer (${message}). Is it running, and may ${location.origin} ask it?`;
    case "signed-out":
      return `You are signed out (${message}).`;
    case "refused":
      return `The token server refused your sign-in: ${message}.`;
    case "unavailable":
      return `The iTwin Platform is not available just now: ${message}.`;
  }
}
