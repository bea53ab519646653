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
	"strings"
	"syscall"
	"time"

	"itwin-token-server/internal/demo"
	"itwin-token-server/internal/server"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/upstream"
)

// version is set by release builds.
var version = "dev"

// usage is the help text; PROGRAM stands for the program's name.
const usage = `itwin-token-server gives apps an iTwin token for their user's Auth0 token.

PROGRAM demo [-token-life 20s]
        see it work, with nothing configured; with iTwin tokens that live for so long
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

// endTimeout is how long the program may take to end. A shutdown takes at most 10 s.
const endTimeout = 11 * time.Second

var (
	errUsage       = errors.New("usage")                 // the command line is wrong
	errReported    = errors.New("check found a problem") // the output has described it
	errInterrupted = errors.New("check: interrupted")
)

func main() {
	if os.Getenv("GOGC") == "" {
		// The live heap is 4 MB: by default it would be collected hundreds of times a second.
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// Above this, garbage is collected more often. It is more than clients can take (see
		// internal/server): with less the collector would work in vain, and slow down callers.
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
// program at once, and so does endTimeout, whatever hangs, such as a log that nobody reads.
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

// A command is what a command line runs.
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
	"-h":      {runHelp, 1, "no more than a command"},
	"--help":  {runHelp, 1, "no more than a command"},
}

// run runs the command that the arguments name, until it is done or ctx ends.
func run(ctx context.Context, p program) error {
	name := "serve"
	if len(p.args) > 0 {
		name, p.args = p.args[0], p.args[1:]
	}
	if len(p.args) > 0 && (p.args[0] == "-h" || p.args[0] == "--help") {
		name, p.args = "help", nil
	}
	command, known := commands[name]
	if !known {
		// Not the word itself: it may be a secret in the wrong place.
		return fmt.Errorf("%w: unknown command: want serve, demo, check, ready, version or help",
			errUsage)
	}
	if len(p.args) > command.maxArgs {
		return fmt.Errorf("%w: %s takes %s", errUsage, name, command.takes)
	}
	return command.run(ctx, p)
}

func runVersion(_ context.Context, p program) error {
	commit, golang := telemetry.Commit(), runtime.Version()
	_, err := fmt.Fprintln(p.stdout, "itwin-token-server", version, commit, golang)
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
	announce(s.log, open.tokens.Addr(), c.Certificate != nil, found.Setting(prefix+"PORT").Source)
	s.warn(found)
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
	announce(s.log, open.tokens.Addr(), false, found.Setting(prefix+"PORT").Source)
	s.warn(found)
	return <-ended
}
