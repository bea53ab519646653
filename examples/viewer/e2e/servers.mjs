// What the browser tests need beside the browser: the page's build, its web server, and the token server.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { extname, join } from "node:path";
import { build, createLogger } from "vite";

/** Calls check until it returns something truthy, for at most seconds, and returns that. */
export async function until(what, check, seconds = 20) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(0.1)) {
    const found = await check();
    if (found) return found;
  }
  throw new Error(`not within ${seconds} s: ${what}`);
}

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export async function freePort() {
  const server = http.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const UNSET = ["DOMAIN", "CLIENT_ID", "AUDIENCE"].map((name) => [`VITE_AUTH0_${name}`, ""]);

/** Builds the page with these settings only, whatever a developer's .env.local contains. Returns Vite's warnings. */
export async function buildPage(outDir, settings) {
  Object.assign(process.env, { VITE_ITWIN_ID: "", VITE_IMODEL_ID: "", ...Object.fromEntries(UNSET), ...settings });
  const warnings = [];
  const customLogger = Object.assign(createLogger("error"), { warn: (text) => warnings.push(text) });
  await build({ customLogger, build: { outDir, emptyOutDir: true } });
  return warnings;
}

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".svg": "image/svg+xml",
};

/** Serves a folder on http://localhost, which is a secure context as Auth0's library requires; or over TLS. */
export async function serveFolder(folder, tls) {
  const { createServer } = tls ? https : http;
  const server = createServer(tls ?? {}, async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    const body = await readFile(join(folder, path === "/" ? "index.html" : path)).catch(() => undefined);
    response.writeHead(body ? 200 : 404, { "Content-Type": TYPES[extname(path) || ".html"] ?? "application/octet-stream" });
    response.end(body);
  }).listen(0, "localhost");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  return { port, url: `http://localhost:${port}/`, close: () => (server.closeAllConnections(), server.close()) };
}

/** Runs `itwin-token-server demo`: the real server, with a stand-in tenant and a stand-in IMS in its process. */
export function demoServer(binary, port, tokenLife) {
  const server = { log: "", process: undefined, start, stop };
  const url = `http://127.0.0.1:${port}`;

  async function start() {
    const env = { ...process.env, ITM_TOKEN_SERVER_HOST: "127.0.0.1", ITM_TOKEN_SERVER_PORT: String(port) };
    server.process = spawn(binary, ["demo", "-token-life", tokenLife], { env, stdio: ["ignore", "ignore", "pipe"] });
    server.process.stderr.on("data", (data) => (server.log += data));
    await until("the token server is ready", () => fetch(`${url}/readyz`).then((answer) => answer.ok, () => false));
  }

  /** Stops the server with SIGTERM, as a deployment does. Returns the exit code. */
  async function stop() {
    const { process } = server;
    if (!process || process.exitCode !== null || process.signalCode) return process?.exitCode;
    const exit = new Promise((resolve) => process.once("exit", resolve));
    process.kill("SIGTERM");
    return exit;
  }

  return server;
}
