package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
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

	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A process is a program that runs until the test stops it.
type process struct {
	stdout, stderr *standin.Log
	stop           func() error // as Ctrl-C does; returns run's error
}

func startProgram(t *testing.T, p program) *process {
	t.Helper()
	l := &process{stdout: new(standin.Log), stderr: new(standin.Log)}
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

// runOnce runs a command that ends by itself.
func runOnce(p program) (stdout, stderr string, err error) {
	out, log := new(standin.Log), new(standin.Log)
	p.stdout, p.stderr = out, log
	if p.stdin == nil {
		p.stdin = strings.NewReader("")
	}
	err = run(context.Background(), p)
	return out.String(), log.String(), err
}

// settingsOf is the environment of a server that uses the stand-ins; more wins.
func settingsOf(s *standin.Standin, more ...string) []string {
	return append([]string{
		prefix + "CLIENT_ID=" + s.IMS.ClientID(), prefix + "CLIENT_SECRET=" + s.IMS.ClientSecret(),
		prefix + "AUTH0_DOMAIN=" + s.Tenant.Domain(), prefix + "AUTH0_AUDIENCE=" + testAudience,
		prefix + "AUTHORITY=" + s.IMS.URL(), prefix + "HOST=127.0.0.1", prefix + "PORT=0",
	}, more...)
}

func fetch(t *testing.T, url, token string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// golden compares with a file under testdata, or with -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
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

func TestHelp(t *testing.T) {
	for _, command := range []string{"help", "-h", "--help"} {
		stdout, stderr, err := runOnce(program{args: []string{command}})
		if stdout != usage || stderr != "" || err != nil {
			t.Errorf("%s: %q, %q, %v; want the usage on standard output", command, stdout, stderr, err)
		}
	}
	for _, command := range []string{"demo", "check", "version", "check TOKEN"} {
		if !strings.Contains(usage, command) {
			t.Errorf("the usage has no example of %s", command)
		}
	}
}

func TestVersion(t *testing.T) {
	stdout, _, err := runOnce(program{args: []string{"version"}})
	if want := "itwin-token-server dev " + telemetry.Commit() + " " + runtime.Version() + "\n"; stdout != want || err != nil {
		t.Errorf("version: %q, %v; want %q", stdout, err, want)
	}
}

func TestUsageErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"start", "usage: unknown command: want serve, demo, check, version or help"},
		{"serve --port 80", "usage: serve takes no arguments: its settings are variables"},
		{"check a b", "usage: check takes one user token, or - to read it from standard input"},
		{"demo now", "usage: demo takes only -token-life"},
		{"demo -token-life forever", "usage: demo takes only -token-life"},
	}
	for _, test := range tests {
		_, _, err := runOnce(program{args: strings.Fields(test.args)})
		if !errors.Is(err, errUsage) || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.args, err, test.want)
		}
	}
	if _, stderr, err := runOnce(program{args: []string{"demo", "-h"}}); err != nil || !strings.Contains(stderr, "-token-life") {
		t.Errorf("demo -h: %q, %v; want its flag explained", stderr, err)
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
		{"serve", 1, "", "itwin-token-server: the settings cannot be used:\n  ITM_TOKEN_SERVER_CLIENT_ID: want "},
		{"check", 1, "    ITM_TOKEN_SERVER_CLIENT_ID ", ""},
	}
	for _, test := range tests {
		var stdout, stderr bytes.Buffer
		cmd := exec.Command(binary, test.command)
		cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &stdout, &stderr
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

func TestServeWithMissingSettings(t *testing.T) {
	sample, err := os.ReadFile(".env")
	if err != nil {
		t.Fatal(err)
	}
	missing := []string{prefix + "CLIENT_ID: ", prefix + "CLIENT_SECRET: ", prefix + "AUTH0_DOMAIN: "}
	for name, tt := range map[string]struct {
		p    program
		want []string
		demo bool // mentioned, since something is missing
	}{
		"nothing set":               {program{dir: t.TempDir()}, missing, true},
		"placeholders not replaced": {program{dir: folder(t, ".env", string(sample), ".env.local", string(sample))}, missing, true},
		"a name misspelt":           {program{environ: complete("CLIENT_ID=", "CLIENTID=x"), dir: t.TempDir()}, []string{prefix + "CLIENT_ID: ", "did you mean " + prefix + "CLIENT_ID?"}, true},
		"a wrong port":              {program{environ: complete("PORT=x"), dir: t.TempDir()}, []string{prefix + "PORT: "}, false},
	} {
		_, _, err := runOnce(tt.p)
		if err == nil {
			t.Fatalf("%s: serve ended without an error", name)
		}
		lines := strings.Split(strings.TrimSuffix(err.Error(), "\n"), "\n")
		for _, want := range tt.want {
			if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
				t.Errorf("%s: the error lacks %s:\n%v", name, want, err)
			}
		}
		if last := lines[len(lines)-1]; strings.Contains(last, "go run . demo") != tt.demo {
			t.Errorf("%s: the last line is %q, mentions the demo: want %v", name, last, tt.demo)
		}
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	s := standin.ForTest(t)
	for _, command := range []string{"serve", "demo"} {
		_, _, err := runOnce(program{args: []string{command}, environ: settingsOf(s, prefix+"PORT="+port), transport: s.Transport()})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "port "+port) || !strings.Contains(err.Error(), prefix+"PORT") {
			t.Errorf("%s on a taken port: %v, want one line that says what to do", command, err)
		}
	}
}

func TestServeFromEnvLocal(t *testing.T) {
	t.Parallel()
	s := standin.ForTest(t)
	s.IMS.SetClient("service-x", awkward)
	dir := folder(t, ".env.local", "\ufeff"+strings.Join([]string{
		"# settings", "export " + prefix + "CLIENT_ID=service-x", prefix + "CLIENT_SECRET='" + awkward + "'",
		prefix + "AUTH0_DOMAIN=https://" + strings.ToUpper(s.Tenant.Domain()) + "/", prefix + "AUTHORITY=" + s.IMS.URL(),
		prefix + "HOST=127.0.0.1", prefix + "PORT=0", prefix + "COLOUR=red",
	}, "\r\n"))
	server := startProgram(t, program{dir: dir, transport: s.Transport()})
	addr := server.stderr.Await(t, `msg=listening addr=(127\.0\.0\.1:\d+)`)
	if got := fetch(t, "http://"+addr+"/getToken", s.Tenant.IDToken("any")); got != "Bearer "+s.IMS.Issued()[0] {
		t.Errorf("GET /getToken = %q, want the token that IMS issued", got)
	}
	server.stderr.Await(t, "msg=getToken status=200")
	start := time.Now()
	if err := server.stop(); err != nil || time.Since(start) > 10*time.Second {
		t.Errorf("it ended with %v after %v, want nil within 10s", err, time.Since(start))
	}
	_, port, _ := net.SplitHostPort(addr)
	log := server.stderr.String()
	for _, want := range []string{
		"level=INFO msg=reachable from=\"this machine\" url=http://localhost:" + port + "/getToken\n",
		"level=INFO msg=reachable from=\"the Android emulator\" url=http://10.0.2.2:" + port + "/getToken\n",
		`level=WARN msg="\"ITM_TOKEN_SERVER_COLOUR\" in .env.local is not a setting; did you mean `,
		`level=WARN msg="ITM_TOKEN_SERVER_AUTH0_AUDIENCE is not set`,
		"level=INFO msg=\"shutting down\"\n",
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("the log has not once %s:\n%s", want, log)
		}
	}
	for _, unwanted := range []string{"plain http", `from="the network"`, strings.TrimSpace(awkward), s.IMS.Issued()[0], "Jane", "jane.doe"} {
		if strings.Contains(log, unwanted) {
			t.Errorf("the log has %s:\n%s", unwanted, log)
		}
	}
}

func TestServeOnEveryInterface(t *testing.T) {
	t.Parallel()
	s := standin.ForTest(t)
	server := startProgram(t, program{environ: settingsOf(s, prefix+"HOST="), transport: s.Transport()})
	port := server.stderr.Await(t, `msg=listening addr=\S*:(\d+)`)
	server.stderr.Await(t, "plain http")
	if err := server.stop(); err != nil {
		t.Errorf("it ended with %v, want nil", err)
	}
	log := server.stderr.String()
	want := []string{"localhost", "10.0.2.2"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if ip := addr.(*net.IPNet).IP; ip.To4() != nil && ip.IsGlobalUnicast() {
			want = append(want, ip.String())
		}
	}
	for _, host := range want {
		if strings.Count(log, "url=http://"+host+":"+port+"/getToken\n") != 1 {
			t.Errorf("the log has not once that it can be reached at %s:\n%s", host, log)
		}
	}
	if strings.Count(log, "plain http") != 1 || strings.Contains(log, "AUTH0_AUDIENCE") {
		t.Errorf("the log has not just the one warning, of plain http:\n%s", log)
	}
}

func TestTakenMetricsAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := standin.ForTest(t)
	_, _, err = runOnce(program{environ: settingsOf(s, prefix+"METRICS_ADDR="+taken.Addr().String()), transport: s.Transport()})
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), prefix+"METRICS_ADDR: want a free address, got: ") {
		t.Errorf("serve with a taken metrics address: %v, want one line that names the setting", err)
	}
}

// steady replaces what differs from run to run.
func steady(text string) string {
	text = regexp.MustCompile(`(localhost|127\.0\.0\.1):\d+`).ReplaceAllString(text, "$1:PORT")
	return regexp.MustCompile(`eyJ[\w-]+… \(\d+ bytes\)`).ReplaceAllString(text, "eyJ… (N bytes)")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	demo := startProgram(t, program{args: []string{"demo"}, environ: []string{prefix + "PORT=0", prefix + "CLIENT_ID=not-the-demos"}})
	command := demo.stdout.Await(t, `\n(curl .*)\n`)
	golden(t, "demo", steady(demo.stdout.String()))
	if log := demo.stderr.String(); log != "" {
		t.Errorf("log lines between the lines of the exchange:\n%s", log)
	}
	for line := range strings.Lines(demo.stdout.String()) {
		if !strings.HasPrefix(line, "curl ") && len([]rune(line)) > 100 {
			t.Errorf("wider than 100 columns: %s", line)
		}
	}
	if _, err := exec.LookPath("curl"); err == nil && runtime.GOOS != "windows" {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil || !regexp.MustCompile(`^Bearer eyJ[\w.-]+$`).Match(out) {
			t.Errorf("%s printed %q, %v; want Bearer … and nothing more", command, out, err)
		}
	}
	base := demo.stdout.Await(t, `token server +(http://localhost:\d+)/getToken`)
	user := fetch(t, base+"/demo/userToken", "")
	if got := fetch(t, base+"/getToken", user); !strings.HasPrefix(got, "Bearer eyJ") {
		t.Errorf("GET /getToken with the demo's user token = %q, want Bearer …", got)
	}
	start := time.Now()
	if err := demo.stop(); err != nil || time.Since(start) > 10*time.Second {
		t.Errorf("the demo ended with %v after %v, want nil within 10s", err, time.Since(start))
	}
}

func TestDemoTakesNothingFromEnvLocal(t *testing.T) {
	t.Parallel()
	dir := folder(t, ".env.local", prefix+"AUTH0_DOMAIN='")
	demo := startProgram(t, program{args: []string{"demo", "-token-life", "20s"}, environ: []string{prefix + "PORT=0", prefix + "HOST=127.0.0.1", prefix + "PROT=1"}, dir: dir})
	base := demo.stdout.Await(t, `token server +(http://localhost:\d+)/getToken`)
	demo.stdout.Await(t, "curl ")
	demo.stderr.Await(t, `level=WARN msg="\\"ITM_TOKEN_SERVER_PROT\\" in the environment is not a setting; did you mean ITM_TOKEN_SERVER_PORT\?"`)
	req, err := http.NewRequest(http.MethodGet, base+"/getToken", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fetch(t, base+"/demo/userToken", ""))
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !regexp.MustCompile(`"expires_in":(1\d|20)[,}]`).Match(body) {
		t.Errorf("-token-life 20s gives %s, %v; want at most 20 seconds", body, err)
	}
}
