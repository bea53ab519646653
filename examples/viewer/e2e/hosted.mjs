// The auth client on a page that a public https site serves, with the token server on http on this machine or in the
// local network: what Chromium's Local Network Access allows. Chromium is told which address space each server is in.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "vite";
import { makeCertificates } from "../../../interop/certs.mjs";
import { launch } from "./browser.mjs";
import { serveFolder } from "./servers.mjs";

const ORIGIN = "https://app.example.com";
const CASES = {
  loopback: [
    { host: "localhost", permission: true, works: true },
    { host: "localhost", permission: false, works: false },
    { host: "localhost", permission: true, targetAddressSpace: "local", works: false },
  ],
  local: [
    { host: "192.168.1.20", permission: true, works: true },
    { host: "my-mac.local", permission: true, works: true },
    { host: "my-mac.local", permission: false, works: false },
    { host: "tokens.lan", permission: true, works: false }, // mixed content
    { host: "tokens.lan", permission: true, targetAddressSpace: "local", works: true },
  ],
};

/** Tries each case with the token server, which listens on port of 127.0.0.1. */
export async function hostedPage({ folder, port }) {
  const outDir = join(folder, "hosted");
  const lib = { entry: "src/TokenServerAuthClient.ts", formats: ["es"], fileName: "client" };
  const define = { "process.env.NODE_ENV": JSON.stringify("production") };
  await build({ configFile: false, logLevel: "error", define, build: { outDir, lib } });
  await writeFile(join(outDir, "index.html"), "<!doctype html>");
  const certificates = makeCertificates();
  const site = await serveFolder(outDir, certificates);
  const userToken = await (await fetch(`http://127.0.0.1:${port}/demo/userToken`)).text();
  for (const [space, cases] of Object.entries(CASES)) {
    const hosts = cases.map(({ host }) => `MAP ${host} 127.0.0.1`);
    const browser = await launch({
      hosts: [`MAP app.example.com 127.0.0.1:${site.port}`, ...hosts],
      flags: [
        `--ip-address-space-overrides=127.0.0.1:${site.port}=public,127.0.0.1:${port}=${space}`,
        `--ignore-certificate-errors-spki-list=${certificates.pin}`,
      ],
    });
    try {
      for (const { host, permission, targetAddressSpace, works } of cases) {
        const context = await browser.newContext();
        if (permission) await context.grantPermissions(["local-network-access"], { origin: ORIGIN });
        const page = await context.newPage();
        await page.goto(ORIGIN);
        const options = { tokenUrl: `http://${host}:${port}/getToken`, targetAddressSpace };
        const result = await page.evaluate(getToken, { options, userToken });
        assert.equal(result, works, `${space} ${JSON.stringify({ host, permission, targetAddressSpace })}`);
      }
    } finally {
      await browser.close();
    }
  }
  site.close();
  certificates.remove();
}

/** Runs in the page. Returns true for a token, false where the browser blocks the request. */
async function getToken({ options, userToken }) {
  const { TokenServerAuthClient } = await import("/client.js");
  const client = new TokenServerAuthClient({ ...options, getUserToken: async () => userToken });
  return client.getAccessToken().then(
    (token) => token.startsWith("Bearer "),
    (error) => (error.code === "unreachable" ? false : error.message),
  );
}
