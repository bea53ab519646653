package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A process is a program that runs until the test stops it.
type process struct {
	stdout, stderr *standintest.Log
	stop           func() error // as Ctrl-C does; returns run's error
}

func startProgram(t *testing.T, p program) *process {
	t.Helper()
	l := &process{stdout: new(standintest.Log), stderr: new(standintest.Log)}
	p.stdout, p.stderr = l.stdout, l.stderr
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, p) }()
	l.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { l.stop() })
	return l
}

// wantEnd stops the program, which must end well within ten seconds.
func (p *process) wantEnd(t *testing.T) {
	t.Helper()
	begun := time.Now()
	if err := p.stop(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("it ended with %v after %v, want nil within 10s", err, time.Since(begun))
	}
}

// runOnce runs a command that ends by itself.
func runOnce(p program) (stdout, stderr string, err error) {
	out, log := new(standintest.Log), new(standintest.Log)
	p.stdout, p.stderr = out, log
	if p.stdin == nil {
		p.stdin = strings.NewReader("")
	}
	err = run(context.Background(), p)
	return out.String(), log.String(), err
}

// settingsOf is the environment of a server that uses the stand-ins; more wins.
func settingsOf(s *standintest.Standin, more ...string) []string {
	return append([]string{
		prefix + "CLIENT_ID=" + s.IMS.ClientID(), prefix + "CLIENT_SECRET=" + s.IMS.ClientSecret(),
		prefix + "AUTH0_DOMAIN=" + s.Tenant.Domain(), prefix + "AUTH0_AUDIENCE=" + testAudience,
		prefix + "AUTHORITY=" + s.IMS.URL(), prefix + "HOST=127.0.0.1", prefix + "PORT=0",
	}, more...)
}

// fetch requests the text at the URL with a user token.
func fetch(t *testing.T, client *http.Client, url, token string) string {
	t.Helper()
	req := must(http.NewRequest(http.MethodGet, url, nil))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Close = true
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return string(must(io.ReadAll(resp.Body)))
}

// golden compares with a file under testdata, or with -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// git may check it out with Windows line ends.
	if want := strings.ReplaceAll(string(text), "\r\n", "\n"); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s\n(go test -update rewrites it)", path, got, want)
	}
}

func TestCommands(t *testing.T) {
	versions := "itwin-token-server dev " + telemetry.Commit() + " " + runtime.Version() + "\n"
	for _, tt := range []struct{ args, stdout, err string }{
		{"help", usage, ""},
		{"-h", usage, ""},
		{"--help", usage, ""},
		{"demo -h", usage, ""},
		{"check --help", usage, ""},
		{"version", versions, ""},
		{"hunter2", "", "want serve, demo, check, version or help"},
		{"serve hunter2", "", "serve takes no arguments"},
		{"check a hunter2", "", "check takes one user token"},
		{"demo hunter2", "", "demo takes only -token-life"},
		{"demo -token-life hunter2", "", "demo takes only -token-life"},
	} {
		stdout, stderr, err := runOnce(program{args: strings.Fields(tt.args)})
		if stdout != tt.stdout || stderr != "" || errors.Is(err, errUsage) != (tt.err != "") {
			t.Errorf("%s: %q, %q, %v", tt.args, stdout, stderr, err)
		}
		if text := fmt.Sprint(err); !strings.Contains(text, tt.err) || strings.Contains(text, "hunter2") { // it may be a secret
			t.Errorf("%s: %v, want %s", tt.args, err, tt.err)
		}
	}
	for _, command := range []string{"demo", "check", "version", "check -", "check TOKEN", "-token-life"} {
		if !strings.Contains(usage, command) {
			t.Errorf("the usage has no example of %s", command)
		}
	}
}

// The program as a user has it: what main adds to run is exit codes.
func TestExitCodes(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "itwin-token-server.exe") // a name that runs on Windows too
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	tests := []struct {
		command        string
		code           int
		stdout, stderr string // how they begin; empty: nothing
	}{
		{"version", 0, "itwin-token-server dev ", ""},
		{"start", 2, "", "itwin-token-server: usage: unknown command: want "},
		{"serve", 1, "", "itwin-token-server: the settings cannot be used:\n  .env.local line 1: want "},
		{"check", 1, "    ITM_TOKEN_SERVER_CLIENT_ID ", ""},
	}
	for _, test := range tests {
		var stdout, stderr bytes.Buffer
		cmd := exec.Command(binary, test.command)
		cmd.Dir, cmd.Stdout, cmd.Stderr = folder(t, ".env.local", "A='"), &stdout, &stderr
		cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, prefix) })
		var failed *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != test.code || !begins(stdout.String(), test.stdout) || !begins(stderr.String(), test.stderr) {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q…, %q…", test.command, code, &stdout, &stderr, test.code, test.stdout, test.stderr)
		}
	}
}

func begins(text, with string) bool {
	return strings.HasPrefix(text, with) && (text == "") == (with == "")
}

func TestServeWithWrongSettings(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		want    []string
		demo    bool // mentioned at the end, since something is missing
	}{
		{nil, []string{prefix + "CLIENT_ID: ", prefix + "CLIENT_SECRET: ", prefix + "AUTH0_DOMAIN: "}, true},
		{complete("CLIENT_ID=", "CLIENTID=x"), []string{prefix + "CLIENT_ID: ", "did you mean " + prefix + "CLIENT_ID?"}, true},
		{complete("PORT=x"), []string{prefix + "PORT: "}, false},
	} {
		_, _, err := runOnce(program{environ: tt.environ, dir: t.TempDir()})
		text := fmt.Sprint(err)
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q: the error lacks %s:\n%v", tt.environ, want, err)
			}
		}
		if last := text[strings.LastIndexByte(text, '\n')+1:]; strings.Contains(last, "go run . demo") != tt.demo {
			t.Errorf("%q: the last line is %q, mentions the demo: want %v", tt.environ, last, tt.demo)
		}
	}
}

func TestAddressesInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	s := standintest.New(t)
	for _, tt := range []struct{ command, setting, value string }{
		{"serve", prefix + "PORT", port}, {"demo", prefix + "PORT", port}, {"serve", prefix + "METRICS_ADDR", taken.Addr().String()},
	} {
		_, _, err := runOnce(program{args: []string{tt.command}, environ: settingsOf(s, tt.setting+"="+tt.value), transport: s.Transport()})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), tt.setting) {
			t.Errorf("%s with %s taken: %v, want one line that names the setting", tt.command, tt.setting, err)
		}
	}
}

// The settings are from a file as a Windows editor writes it.
func TestServe(t *testing.T) {
	t.Parallel()
	s := standintest.New(t)
	s.IMS.SetClient("service-x", awkward)
	dir := folder(t, ".env.local", "\ufeff"+strings.Join([]string{
		"# settings", "export " + prefix + "CLIENT_ID=service-x", prefix + "CLIENT_SECRET='" + awkward + "'",
		prefix + "AUTH0_DOMAIN=https://" + strings.ToUpper(s.Tenant.Domain()) + "/", prefix + "AUTHORITY=" + s.IMS.URL(),
		prefix + "PORT=0", prefix + "COLOUR=red", prefix + "CORS_ORIGINS=https://app.example.com",
	}, "\r\n"))
	server := startProgram(t, program{dir: dir, transport: s.Transport()})
	url := server.stderr.Await(t, `url=(http://localhost:\d+/getToken)`)
	if got := fetch(t, http.DefaultClient, url, s.Tenant.IDToken("any")); got != "Bearer "+s.IMS.Issued()[0] {
		t.Errorf("GET /getToken = %q, want the token that IMS issued", got)
	}
	conn := must(net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/getToken")))
	fmt.Fprint(conn, "no HTTP\r\n\r\n")
	if got := string(must(io.ReadAll(conn))); !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Contains(got, "Allow-Origin") {
		t.Errorf("a request that is no HTTP gets %s, want 400 that no page may read", got)
	}
	server.wantEnd(t)
	log := server.stderr.String()
	for _, want := range []string{
		"msg=listening ", "msg=getToken status=200 ", `from="the Android emulator" url=http://10.0.2.2:`, "plain http",
		prefix + `COLOUR\" in .env.local is not a setting; did you mean `, prefix + "AUTH0_AUDIENCE is not set", `msg="shutting down"`,
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("the log has not once %s:\n%s", want, log)
		}
	}
	for _, secret := range []string{strings.TrimSpace(awkward), s.IMS.Issued()[0], "Jane", "jane.doe"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %s:\n%s", secret, log)
		}
	}
}

// Plain http is warned about, except on loopback.
func TestAnnounce(t *testing.T) {
	for _, test := range []struct {
		addr     string
		tls      bool
		url      string
		warnings int
	}{
		{"127.0.0.1:3001", false, "http://127.0.0.1:3001/getToken", 0},
		{"[::1]:3001", false, "http://[::1]:3001/getToken", 0},
		{"192.0.2.7:3001", false, "http://192.0.2.7:3001/getToken", 1},
		{"0.0.0.0:3001", false, "http://localhost:3001/getToken", 1},
		{"0.0.0.0:443", true, "https://localhost:443/getToken", 0},
	} {
		addr, log := must(net.ResolveTCPAddr("tcp", test.addr)), new(standintest.Log)
		announce(telemetry.NewLog(log, "text", slog.LevelInfo), addr, test.tls, "PORT")
		text := log.String()
		if strings.Count(text, "WARN") != test.warnings || !strings.Contains(text, "url="+test.url+"\n") ||
			!strings.Contains(text, "addr="+test.addr+" port_from=PORT\n") {
			t.Errorf("announce(%s, %v) logged %q", test.addr, test.tls, text)
		}
	}
}

func TestItServesBeforeItHasFetched(t *testing.T) {
	t.Parallel()
	s := standintest.New(t)
	s.Tenant.Misbehave(standintest.Hang())
	s.IMS.Misbehave(standintest.Hang())
	server := startProgram(t, program{environ: settingsOf(s), transport: s.Transport()})
	url := server.stderr.Await(t, `url=(http://127\.0\.0\.1:\d+)/getToken`)
	if got := fetch(t, &http.Client{Timeout: 8 * time.Second}, url+"/healthz", ""); got != "ok\n" {
		t.Errorf("GET /healthz = %q, want ok", got)
	}
	server.wantEnd(t)
}

// With a certificate it serves https, and its metrics have the certificate's end.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	s := standintest.New(t)
	dir, web := tlsFiles(t)
	free := must(net.Listen("tcp", "127.0.0.1:0"))
	free.Close()
	environ := settingsOf(s, prefix+"TLS_CERT_FILE="+dir+"/cert", prefix+"TLS_KEY_FILE="+dir+"/key", prefix+"METRICS_ADDR="+free.Addr().String(),
		prefix+"LOG_FORMAT=json", prefix+"LOG_LEVEL=debug")
	server := startProgram(t, program{environ: environ, transport: s.Transport()})
	port := server.stderr.Await(t, `"addr":"127\.0\.0\.1:(\d+)"`)
	if got := fetch(t, web.Client(), "https://127.0.0.1:"+port+"/getToken", s.Tenant.AccessToken(testAudience)); got != "Bearer "+s.IMS.Issued()[0] {
		t.Errorf("GET /getToken = %q, want the token that IMS issued", got)
	}
	fetch(t, web.Client(), "https://127.0.0.1:"+port+"/hunter2", "")
	server.stderr.Await(t, `"level":"DEBUG","msg":"not found"`)
	if strings.Contains(server.stderr.String(), "hunter2") { // it may be a token
		t.Errorf("the log has the path:\n%s", server.stderr)
	}
	metrics := fetch(t, http.DefaultClient, "http://"+free.Addr().String()+"/metrics", "")
	for _, want := range []string{fmt.Sprintf("tls_certificate_expiry_timestamp_seconds %d\n", web.Certificate().NotAfter.Unix()), `reason="ok"} 1`, `build_info{version="dev",`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s:\n%s", want, metrics)
		}
	}
	server.wantEnd(t)
}

// A signal that comes while the demo shows its exchange ends it as one that comes later.
func TestDemoEndsDuringTheExchange(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if err := run(ctx, program{args: []string{"demo"}, environ: []string{prefix + "PORT=0"}, stdout: io.Discard, stderr: io.Discard}); err != nil {
		t.Errorf("the demo ended with %v, want nil", err)
	}
}

// steady replaces what differs from run to run.
func steady(text string) string {
	text = regexp.MustCompile(`(localhost|127\.0\.0\.1):\d+`).ReplaceAllString(text, "$1:PORT")
	return regexp.MustCompile(`eyJ[\w-]+… \(\d+ bytes\)`).ReplaceAllString(text, "eyJ… (N bytes)")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	dir := folder(t, ".env.local", prefix+"AUTH0_DOMAIN='") // which the demo does not read
	demo := startProgram(t, program{
		args: []string{"demo", "-token-life", "20s"}, environ: []string{prefix + "PORT=0", prefix + "CLIENT_ID=not-the-demos", prefix + "PROT=1"}, dir: dir,
	})
	command := demo.stdout.Await(t, `\n(curl .*)\n`)
	golden(t, "demo", steady(demo.stdout.String()))
	for line := range strings.Lines(demo.stdout.String()) {
		if !strings.HasPrefix(line, "curl ") && len([]rune(line)) > 100 {
			t.Errorf("wider than 100 columns: %s", line)
		}
	}
	demo.stderr.Await(t, prefix+`PROT.* is not a setting; did you mean `+prefix+`PORT\?`)
	if log := demo.stderr.String(); strings.Contains(log, "level=INFO") {
		t.Errorf("log lines of the exchange, which is shown:\n%s", log)
	}
	if _, err := exec.LookPath("curl"); err == nil && runtime.GOOS != "windows" {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil || !regexp.MustCompile(`^Bearer eyJ[\w.-]+$`).Match(out) {
			t.Errorf("%s printed %q, %v; want Bearer … and nothing more", command, out, err)
		}
	}
	base := demo.stdout.Await(t, `token server +(http://localhost:\d+)/getToken`)
	token := fetch(t, http.DefaultClient, base+"/getToken", fetch(t, http.DefaultClient, base+"/demo/userToken", ""))
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(token+"..", ".")[1])
	var life struct{ Iat, Exp int64 }
	if json.Unmarshal(claims, &life) != nil || life.Exp-life.Iat != 20 || err != nil {
		t.Errorf("GET /getToken with the demo's user token = %q, want Bearer and a token that lives 20s", token)
	}
	demo.stderr.Await(t, "msg=getToken status=200")
	demo.wantEnd(t)
}
