// The certificates of one run: a new CA, and a leaf for this machine's loopback names.

import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];

/**
 * Creates the CA and the leaf in a new temporary folder.
 * `caFile`, `certFile` and `keyFile` are paths (for SSL_CERT_FILE and the server's TLS settings), `ca`, `cert` and `key`
 * their contents in PEM, and `pin` the SHA-256 hash of the leaf's public key, for Chromium. `remove` deletes the folder.
 */
export function makeCertificates() {
  const folder = mkdtempSync(join(tmpdir(), 'interop-certs-'));
  const path = (name) => join(folder, name);
  const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });

  openssl('req', '-x509', ...KEY, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Interop CA',
    '-addext', 'keyUsage=critical,keyCertSign');
  openssl('req', ...KEY, '-keyout', 'leaf.key', '-out', 'leaf.csr', '-subj', '/CN=Interop leaf',
    '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost', '-addext', 'extendedKeyUsage=serverAuth');
  openssl('x509', '-req', '-in', 'leaf.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2',
    '-copy_extensions', 'copy', '-out', 'leaf.pem');

  const [ca, cert, key] = ['ca.pem', 'leaf.pem', 'leaf.key'].map((name) => readFileSync(path(name), 'utf8'));
  const spki = new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
  return {
    ca, cert, key,
    caFile: path('ca.pem'), certFile: path('leaf.pem'), keyFile: path('leaf.key'),
    pin: createHash('sha256').update(spki).digest('base64'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
