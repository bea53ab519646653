package server

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// program starts the built program, with TLS and upstreams that refuse connections.
// It returns its process and its address.
func program(t *testing.T) (process *os.Process, addr string) {
	t.Helper()
	dir, log := t.TempDir(), new(standintest.Log)
	binary := filepath.Join(dir, "itwin-token-server")
	if out, err := exec.Command("go", "build", "-o", binary, "itwin-token-server").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(binary)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	certFile, keyFile := valid(t, 1).write(t, dir)
	for _, setting := range []string{
		"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + keyFile, "HOST=127.0.0.1", "PORT=0",
		"CLIENT_ID=service-x", "CLIENT_SECRET=x", "AUTH0_DOMAIN=127.0.0.1:1", "AUTHORITY=https://127.0.0.1:1",
	} {
		cmd.Env = append(cmd.Env, "ITM_TOKEN_SERVER_"+setting)
	}
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process, log.Await(t, `addr=([0-9.:]+)`)
}

// literal is a short string in HPACK, without Huffman coding (RFC 7541 §5.2).
func literal(s string) []byte { return append([]byte{byte(len(s))}, s...) }

// streams opens HTTP/2 streams whose answers cannot be sent (window 0), each with
// the same indexed cookie, which takes 4 KB and one byte on the wire.
func streams(count, cookies int) []byte {
	all := append([]byte(preface), frame(4, 0, 0, []byte{0, 4, 0, 0, 0, 0})...)
	for i := range count {
		block := bytes.Join([][]byte{{0x82, 0x87, 0x04}, literal("/getToken"), {0x01}, literal("x")}, nil)
		if i == 0 { // add to the table: cookie, 4000 bytes
			block = append(append(block, 0x60, 0x7f, 0xa1, 0x1e), strings.Repeat("c", 4000)...)
		}
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, cookies)...)
		all = append(all, frame(1, 5, uint32(2*i+1), block)...)
	}
	return all
}

// Compressed headers take a hundred times the memory that they take on the wire.
func TestMemoryForCompressedHeaders(t *testing.T) {
	for connections, limit := range map[int]int{40: 100, 400: 256} { // in MiB
		measureCompressedHeaders(t, connections, limit)
	}
}

func measureCompressedHeaders(t *testing.T, connections, limit int) {
	process, addr := program(t)
	var senders sync.WaitGroup
	for range connections {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		must(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second)) // the server may stop reading
		senders.Go(func() { conn.Write(streams(240, 7)) })
	}
	senders.Wait()
	time.Sleep(100 * time.Millisecond) // for what is still being read; without it the test sees less, and never fails for it
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Pid))
	must(t, err)
	kib, err := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1]))
	must(t, err)
	t.Logf("%d connections: %d MiB", connections, kib>>10)
	if kib > limit<<10 {
		t.Errorf("%d connections: %d MiB of memory, want at most %d", connections, kib>>10, limit)
	}
}
