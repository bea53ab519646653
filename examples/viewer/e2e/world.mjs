// What the proof needs around the page: the page's build and its web server, and the token server itself.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { build } from "vite";

/** Calls check until it gives something true, for at most seconds. */
export async function until(what, check, seconds = 20) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(0.1)) {
    const found = await check();
    if (found) return found;
  }
  throw new Error(`not within ${seconds} s: ${what}`);
}

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const UNSET = ["DOMAIN", "CLIENT_ID", "AUDIENCE"].map((name) => [`VITE_AUTH0_${name}`, ""]);

/** Builds the page with these settings only: what a developer's .env.local says doesn't count. */
export async function buildPage(outDir, settings) {
  Object.assign(process.env, { VITE_ITWIN_ID: "", VITE_IMODEL_ID: "", ...Object.fromEntries(UNSET), ...settings });
  await build({ logLevel: "error", build: { outDir, emptyOutDir: true } });
}

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".svg": "image/svg+xml",
};

/** Serves a folder on http://localhost, a secure context to browsers, as Auth0's library wants it. */
export async function serveFolder(folder) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    const body = await readFile(join(folder, path === "/" ? "index.html" : path)).catch(() => undefined);
    response.writeHead(body ? 200 : 404, { "Content-Type": TYPES[extname(path) || ".html"] ?? "application/octet-stream" });
    response.end(body);
  }).listen(0, "localhost");
  await new Promise((resolve) => server.once("listening", resolve));
  return { url: `http://localhost:${server.address().port}/`, close: () => (server.closeAllConnections(), server.close()) };
}

/** `itwin-token-server demo`: the real server, with a stand-in tenant and a stand-in IMS in its process. */
export function demoServer(binary, port, tokenLife) {
  const server = { log: "", process: undefined, start, stop };
  const url = `http://127.0.0.1:${port}`;

  async function start() {
    const env = { ...process.env, ITM_TOKEN_SERVER_HOST: "127.0.0.1", ITM_TOKEN_SERVER_PORT: String(port) };
    server.process = spawn(binary, ["demo", "-token-life", tokenLife], { env, stdio: ["ignore", "ignore", "pipe"] });
    server.process.stderr.on("data", (data) => (server.log += data));
    await until("the token server is ready", () => fetch(`${url}/readyz`).then((answer) => answer.ok, () => false));
  }

  /** As a deployment would: SIGTERM. Gives the exit code. */
  async function stop() {
    const { process } = server;
    if (!process || process.exitCode !== null || process.signalCode) return process?.exitCode;
    const exit = new Promise((resolve) => process.once("exit", resolve));
    process.kill("SIGTERM");
    return exit;
  }

  return server;
}
