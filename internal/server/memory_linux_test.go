package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"itwin-token-server/internal/standin/standintest"
)

// 5,000 clients send a header without an end to the built program, in the form that takes most
// memory: many names, as short as possible. Its memory is measured when the first client has
// been cut off, after 10 s: on a slow machine the server has read less by then, and never more.
func TestMemoryForUnfinishedHeaders(t *testing.T) {
	t.Parallel()
	header := "GET / HTTP/1.1\nHost:x\n"
	for name := int64(0); len(header) < maxHeaderBytes; name++ {
		header += strconv.FormatInt(name, 36) + ":\n"
	}
	chain, key, _ := newPair(1)
	certFile, keyFile := writePair(t.TempDir(), chain, key)
	program := filepath.Join(t.TempDir(), "itwin-token-server")
	out, err := exec.Command("go", "build", "-o", program, "itwin-token-server").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, settings := range map[string][]string{
		"plain http": nil, "TLS": {"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + keyFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, log := exec.Command(program), new(standintest.Log)
			cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), log, log
			for _, setting := range append(settings, "CLIENT_ID=service-x", "CLIENT_SECRET=x", "PORT=0",
				"AUTH0_DOMAIN=127.0.0.1:1", "AUTHORITY=https://127.0.0.1:1", "HOST=127.0.0.1") {
				cmd.Env = append(cmd.Env, "ITM_TOKEN_SERVER_"+setting)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			addr, closed := log.Await(t, `addr=([0-9.:]+)`), make(chan bool, 5000)
			for range 5000 {
				go func() {
					conn, err := net.Dial("tcp", addr)
					if err != nil {
						return
					}
					if name == "TLS" {
						conn = tls.Client(conn, insecure)
					}
					defer conn.Close()
					if _, err := io.WriteString(conn, header[:maxHeaderBytes-1]); err == nil {
						io.Copy(io.Discard, conn) // until it is closed
						closed <- true
					}
				}()
			}
			<-closed
			status := must(os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)))
			var kib int
			_, peak, _ := strings.Cut(string(status), "VmHWM:")
			fmt.Sscan(peak, &kib)
			if kib == 0 || kib > 400<<10 {
				t.Errorf("the peak of the memory was %d MiB, want at most 400", kib>>10)
			}
		})
	}
}
