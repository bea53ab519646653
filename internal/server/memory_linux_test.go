package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"itwin-token-server/internal/standin/standintest"
)

// startProgram starts the built program, with upstreams that refuse connections, and
// returns its process and its address.
func startProgram(t *testing.T, program string, settings ...string) (*os.Process, string) {
	t.Helper()
	cmd, log := exec.Command(program), new(standintest.Log)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), log, log
	for _, setting := range append(settings, "CLIENT_ID=service-x", "CLIENT_SECRET=x",
		"AUTH0_DOMAIN=127.0.0.1:1", "AUTHORITY=https://127.0.0.1:1", "HOST=127.0.0.1", "PORT=0") {
		cmd.Env = append(cmd.Env, "ITM_TOKEN_SERVER_"+setting)
	}
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process, log.Await(t, `addr=([0-9.:]+)`)
}

// unfinishedHeader returns a header that is one byte shorter than the bound, in the form
// that takes most memory: many names, as short as possible.
func unfinishedHeader() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
	header := "GET / HTTP/1.1\nHost:x\n"
	for size := 0; len(header) < maxHeaderBytes; size++ {
		for _, first := range letters {
			for _, second := range letters {
				header += fmt.Sprintf("%c%c%s:\n", first, second, strings.Repeat("a", size))
			}
		}
	}
	return header[:maxHeaderBytes-1]
}

// 5,000 clients send such a header. It is measured when the first one has been closed for
// it, after 10 s: on a slow machine the server has read less by then, and never more.
func TestMemoryForUnfinishedHeaders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := newPair(t, 1).write(t, dir)
	program := filepath.Join(dir, "itwin-token-server")
	out, err := exec.Command("go", "build", "-o", program, "itwin-token-server").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, test := range []struct {
		name     string
		settings []string
		dial     func(addr string) (net.Conn, error)
	}{
		{"plain http", nil, func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }},
		{"TLS", []string{"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + keyFile},
			func(addr string) (net.Conn, error) { return tls.Dial("tcp", addr, insecure) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			process, addr := startProgram(t, program, test.settings...)
			header, closed := unfinishedHeader(), make(chan bool, 5000)
			for range 5000 {
				go func() {
					if conn, err := test.dial(addr); err == nil {
						defer conn.Close()
						io.WriteString(conn, header)
						io.Copy(io.Discard, conn) // until it is closed
						closed <- true
					}
				}()
			}
			<-closed
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Pid))
			must(t, err)
			peak := regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1]
			kib, err := strconv.Atoi(string(peak))
			must(t, err)
			t.Logf("peak of the memory: %d MiB", kib>>10)
			if kib > 400<<10 {
				t.Errorf("peak of the memory: %d MiB, want at most 400", kib>>10)
			}
		})
	}
}
