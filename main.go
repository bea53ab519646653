// Command itwin-token-server gives apps an access token of the iTwin Platform in
// exchange for their user's Auth0 token, so that no app holds the client secret.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"itwin-token-server/internal/check"
	"itwin-token-server/internal/demo"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/server"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/upstream"
)

var version = "dev" // set by release builds

// usage is the help text; PROGRAM stands for the program's name.
const usage = `itwin-token-server gives apps an iTwin token for their user's Auth0 token.

PROGRAM demo [-token-life 20s]
        see it work, with nothing configured
PROGRAM [serve]
        serve until Ctrl-C
PROGRAM check [TOKEN|-]
        try the settings, Auth0's keys and a grant at IMS; with a user token, or - to read
        one from standard input, say whether the server would accept it, and if not, why
PROGRAM ready
        exit with status 0 if the server with these settings is ready on this machine,
        else with 1 and the reason
PROGRAM version
PROGRAM help

Settings are variables of the environment, or lines of .env.local or .env in the current
folder; check lists them all. The repository's .env explains each.
`

// endTimeout is how long the program may take to end. [server.Run] takes at most 9 s.
const endTimeout = 11 * time.Second

var (
	errUsage       = errors.New("usage")                 // the command line is wrong
	errReported    = errors.New("check found a problem") // the output has described it
	errInterrupted = errors.New("check: interrupted")
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // the live heap is 4 MB: the default would collect it all the time
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// Unfinished headers can hold 234 MiB: with less, the collector would work in vain.
		debug.SetMemoryLimit(320 << 20)
	}
	log.SetOutput(io.Discard)      // net/http would write upstream's text to it
	signal.Ignore(syscall.SIGPIPE) // a log whose reader has gone away must not end the server
	err := run(untilSignal(), program{
		name: programName(), args: os.Args[1:], environ: os.Environ(), dir: ".",
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		transport: upstream.Transport(nil, version),
	})
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintln(os.Stderr, "itwin-token-server:", err)
	}
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	if err != nil {
		os.Exit(1)
	}
}

// untilSignal returns a context that ends with the first signal. A second one ends the
// program at once, and so does endTimeout, whatever hangs, such as a log that is not read.
func untilSignal() context.Context {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup starts a program with SIGHUP ignored: keep it so
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, func() {
		stop()
		time.AfterFunc(endTimeout, func() { os.Exit(1) })
	})
	return ctx
}

// programName is how to start this program again: go run builds it in a folder of Go's.
func programName() string {
	if path, _ := os.Executable(); strings.Contains(path, "go-build") {
		return "go run ."
	}
	return "itwin-token-server"
}

// A program is what a command runs with.
type program struct {
	name      string // as it was started, for messages
	args      []string
	environ   []string // NAME=value
	dir       string   // of .env.local and .env; empty: none are read
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer         // the log
	transport http.RoundTripper // to Auth0 and IMS
}

type command struct {
	run     func(context.Context, program) error
	maxArgs int
	takes   string // what it takes, for the error if there are more
}

// commands are those that the first word of a command line names.
var commands = map[string]command{
	"serve":   {runServe, 0, "no arguments: its settings are variables"},
	"demo":    {runDemo, 2, "only -token-life 20s"},
	"check":   {runCheck, 1, "one user token, or - for standard input"},
	"ready":   {runReady, 0, "no arguments: its settings are variables"},
	"version": {runVersion, 0, "no arguments"},
	"help":    {runHelp, 1, "no more than a command"},
}

// run runs the command that the arguments name, until it is done or ctx ends.
func run(ctx context.Context, p program) error {
	name := "serve"
	if slices.Contains(p.args, "-h") || slices.Contains(p.args, "--help") {
		name, p.args = "help", nil
	} else if len(p.args) > 0 {
		name, p.args = p.args[0], p.args[1:]
	}
	command, known := commands[name]
	if !known {
		// Not the word itself: it may be a secret in the wrong place.
		return fmt.Errorf("%w: want serve, demo, check, ready, version or help", errUsage)
	}
	if len(p.args) > command.maxArgs {
		return fmt.Errorf("%w: %s takes %s", errUsage, name, command.takes)
	}
	return command.run(ctx, p)
}

func runVersion(_ context.Context, p program) error {
	_, err := fmt.Fprintln(p.stdout, "itwin-token-server", version,
		telemetry.Commit(), runtime.Version())
	return err
}

func runHelp(_ context.Context, p program) error {
	_, err := io.WriteString(p.stdout, strings.ReplaceAll(usage, "PROGRAM", p.name))
	return err
}

// runServe serves with the user's settings.
func runServe(ctx context.Context, p program) error {
	c, found, err := loadConfig(p.environ, p.dir)
	if err != nil {
		return settingsError(found, err, p)
	}
	open, err := openPorts(c)
	if err != nil {
		return err
	}
	s := newService(c, p.transport, telemetry.NewLog(p.stderr, c.LogFormat, c.LogLevel))
	s.announce(open.tokens.Addr(), found)
	return s.run(ctx, open, s.routes(nil))
}

// runDemo serves with stand-ins for Auth0 and IMS.
func runDemo(ctx context.Context, p program) error {
	tokenLife, err := demo.ParseArgs(p.args)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	d, err := demo.Start(tokenLife)
	if err != nil {
		return err
	}
	defer d.Close()
	c, found, err := loadConfig(d.Settings(prefix, p.environ), "")
	if err != nil {
		return settingsError(found, err, p)
	}
	open, err := openPorts(c)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar) // the exchange is shown without log lines between
	level.Set(max(c.LogLevel, slog.LevelWarn))
	transport := upstream.Transport(d.Pool(), version)
	s := newService(c, transport, telemetry.NewLog(p.stderr, c.LogFormat, level))
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, open, s.routes(d.UserToken)) }()
	base := "http://" + server.Addresses(open.tokens.Addr())[0].HostPort
	if err := d.Run(ctx, p.stdout, base); err != nil && ctx.Err() == nil {
		return err
	}
	level.Set(c.LogLevel)
	s.announce(open.tokens.Addr(), found)
	return <-ended
}

// runReady asks the server that these settings describe: only those of its address matter.
// A host that is refused is not even looked up: it may be a misplaced secret.
func runReady(_ context.Context, p program) error {
	c, found, _ := loadConfig(p.environ, p.dir)
	refused := found.Setting(prefix+"HOST").Refused || found.Setting(prefix+"PORT").Refused
	if refused || c.Port == "0" {
		return fmt.Errorf("not ready: %[1]sHOST, %[1]sPORT: want where the server listens: "+
			"%[2]s check shows what they are", prefix, p.name)
	}
	return check.Ready(c.Host, c.Port, c.CertFile != "")
}

// runCheck checks a set-up. If ctx ends it returns at once, whatever the check waits for.
func runCheck(ctx context.Context, p program) error {
	ended := make(chan error, 1)
	go func() { ended <- checkAll(p) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errInterrupted
	}
}

// checkAll checks the settings, Auth0's keys, a grant and perhaps a user token.
func checkAll(p program) error {
	given, err := check.ReadToken(p.args, p.stdin, p.stderr)
	if err != nil {
		return err
	}
	c, found, err := loadConfig(p.environ, p.dir)
	if c.Certificate != nil && time.Now().After(c.Certificate.Expiry()) {
		err = errors.Join(err, fmt.Errorf("%sTLS_CERT_FILE: want a certificate that is valid, "+
			"got one that has expired", prefix))
	}
	report := check.Report{W: p.stdout, Program: p.name, Issuer: c.issuer(), Authority: c.Authority}
	report.Settings(found, err, adviceIfIncomplete(found, p))
	if err == nil {
		checkUpstream(c, p.transport, &report, given)
	}
	if report.Failed {
		return errReported
	}
	return nil
}

// checkUpstream does what the server would do: fetch keys, make a grant, verify the token. A
// fetch that ends with the command's context would be reported as a failure, so it has its own.
func checkUpstream(c config, transport http.RoundTripper, report *check.Report, given string) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	users := newVerifier(c, transport, nil)
	go users.keys.Run(ctx)
	_, err := users.keys.Get(ctx) // waits for the fetch, and returns its error
	report.Keys(err)
	_, lifetime, err := grant(ctx, c, transport)
	report.Grant(lifetime, err)
	report.Token(given, func(header string) *problem.Problem {
		if _, err := users.authorize(ctx, []string{header}); err != nil {
			return problemOf(err)
		}
		return nil
	})
}
