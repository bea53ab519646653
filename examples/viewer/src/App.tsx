import { Cartographic, ColorDef, RenderMode } from "@itwin/core-common";
import { IModelApp } from "@itwin/core-frontend";
import { Range3d, Vector3d } from "@itwin/core-geometry";
import {
  Viewer,
  ViewerContentToolsProvider,
  ViewerNavigationToolsProvider,
  ViewerStatusbarItemsProvider,
} from "@itwin/web-viewer-react";
import { useEffect, useState } from "react";
import { Notice } from "./Notice";
import { Scene } from "./scene";
import { chosenModel } from "./settings";
import type { TokenError, TokenServerAuthClient } from "./TokenServerAuthClient";

const blank = {
  location: Cartographic.fromDegrees({ longitude: -75.69, latitude: 40.06, height: 0 }),
  extents: new Range3d(-42, -42, -20, 42, 42, 30),
  blankConnectionViewState: {
    displayStyle: { backgroundColor: ColorDef.create("#eef2f5") },
    viewFlags: { renderMode: RenderMode.SmoothShade },
    lookAt: {
      eyePoint: { x: 85, y: -115, z: 88 },
      targetPoint: { x: -1, y: 0, z: 2 },
      upVector: Vector3d.unitZ(),
    },
  },
};

// Created once: the Viewer starts again when these change.
const common = {
  enablePerformanceMonitors: false,
  i18nUrlTemplate: "locales/en/{{ns}}.json", // the only language that the packages have
  onIModelAppInit: () => void IModelApp.viewManager.addDecorator(new Scene()),
  uiProviders: [
    new ViewerNavigationToolsProvider(),
    new ViewerContentToolsProvider(),
    new ViewerStatusbarItemsProvider(),
  ],
};

interface Props {
  authClient: TokenServerAuthClient;
  signIn?: (() => Promise<void>) | undefined;
}

export function App({ authClient, signIn }: Props) {
  const { started, error } = useToken(authClient);
  const { iTwinId, iModelId } = useChosenModel();
  return (
    <>
      {error && <Notice error={error} retry={() => authClient.retry()} signIn={signIn} />}
      {started && (
        <Viewer
          key={iModelId}
          authClient={authClient}
          {...common}
          {...(iTwinId && iModelId ? { iTwinId, iModelId } : blank)}
        />
      )}
    </>
  );
}

/** Once started the Viewer stays, with or without a token; only the notice changes. */
function useToken(authClient: TokenServerAuthClient) {
  const [started, setStarted] = useState(false);
  const [error, setError] = useState<TokenError>();
  useEffect(() => {
    const received = () => {
      setStarted(true);
      setError(undefined);
    };
    const removers = [authClient.onAccessTokenChanged.addListener(received), authClient.onTokenMissing.addListener(setError)];
    authClient.getAccessToken().then(received, setError);
    return () => removers.forEach((remove) => remove());
  }, [authClient]);
  return { started, error };
}

function useChosenModel() {
  const [model, setModel] = useState(chosenModel);
  useEffect(() => {
    const changed = () => setModel(chosenModel());
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return model;
}
