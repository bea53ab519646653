interface ImportMetaEnv {
  readonly VITE_TOKEN_URL?: string;
  readonly VITE_AUTH0_DOMAIN?: string;
  readonly VITE_AUTH0_CLIENT_ID?: string;
  readonly VITE_AUTH0_AUDIENCE?: string;
  readonly VITE_ITWIN_ID?: string;
  readonly VITE_IMODEL_ID?: string;
}

declare module "*.scss";
