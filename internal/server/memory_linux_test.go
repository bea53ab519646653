package server

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
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
)

// program starts the built program, with TLS and upstreams that refuse connections. It returns the address,
// and a function that reads how much memory it had at most, in MiB.
func program(t *testing.T, binary string) (addr string, peak func() int) {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	defer log.Close()
	cmd := exec.Command(binary)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	certFile, keyFile := valid(t, 1).write(t, dir)
	settings := []string{"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + keyFile,
		"CLIENT_ID=service-x", "CLIENT_SECRET=x", "AUTH0_DOMAIN=127.0.0.1:1", "AUTHORITY=https://127.0.0.1:1", "HOST=127.0.0.1", "PORT=0"}
	for _, setting := range settings {
		cmd.Env = append(cmd.Env, "ITM_TOKEN_SERVER_"+setting)
	}
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return find(t, log.Name(), `addr=([0-9.:]+)`), func() int {
		kib, err := strconv.Atoi(find(t, fmt.Sprintf("/proc/%d/status", cmd.Process.Pid), `VmHWM:\s+(\d+)`))
		must(t, err)
		return kib >> 10
	}
}

// find waits until a file has a match of the pattern, and returns its group.
func find(t *testing.T, name, pattern string) string {
	t.Helper()
	for range 10_000 {
		text, err := os.ReadFile(name)
		must(t, err)
		if found := regexp.MustCompile(pattern).FindSubmatch(text); found != nil {
			return string(found[1])
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("no %s in %s", pattern, name)
	return ""
}

// frame is one of HTTP/2 (RFC 9113 §4.1).
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	return append(binary.BigEndian.AppendUint32(append(head, kind, flags), stream), payload...)
}

// literal is a short string in HPACK, without Huffman coding (RFC 7541 §5.2).
func literal(s string) []byte { return append([]byte{byte(len(s))}, s...) }

// streams opens HTTP/2 streams whose answers cannot be sent (window 0), each with
// the same indexed cookie, which takes 4 KB and one byte on the wire.
func streams(count, cookies int) []byte {
	all := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, []byte{0, 4, 0, 0, 0, 0})...)
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

// send opens connections and sends data on each. They stay open until the test ends.
func send(t *testing.T, addr string, connections int, data []byte) {
	var senders sync.WaitGroup
	for range connections {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(2 * time.Second)) // the server may stop reading
		senders.Go(func() { conn.Write(data) })
	}
	senders.Wait()
}

// Compressed headers take a hundred times the memory that they take on the wire.
func TestMemoryForCompressedHeaders(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "itwin-token-server")
	if out, err := exec.Command("go", "build", "-o", binary, "itwin-token-server").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	addr, peak := program(t, binary)
	send(t, addr, 40, streams(240, 7))
	time.Sleep(100 * time.Millisecond) // for what is still being read; without it the test sees less, and never fails for it
	got := peak()
	t.Logf("40 connections: %d MiB", got)
	if got > 100 {
		t.Errorf("%d MiB of memory, want at most 100", got)
	}
}
