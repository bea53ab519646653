// Bench measures what a request costs the token server, beside what it costs
// others: CPU time of the target's process, memory, and the time to start. It
// runs on Linux, stays on loopback, and takes the binaries that make bench has
// put into .bin.
//
//	go run . [flags] [BINARY]
//
// BINARY is another build of the server, to be compared with the one in .bin.
package main

import (
	"context"
	crand "crypto/rand"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"itwin-token-server/internal/standin"
)

const audience = "http://tokenserver.sample.bentley.com"

// bench is what all measurements share.
type bench struct {
	*standin.Standin // its CPU time is not counted
	dir              string
	rounds, requests int
	env              []string // of every target
	tokens           []string // all distinct, the last three bad
	lastPort         int
	results          results
}

func main() {
	b := &bench{lastPort: 20000, results: results{}}
	flag.IntVar(&b.rounds, "rounds", 5, "how often each target is measured")
	flag.IntVar(&b.requests, "requests", 3000, "requests to each target, workload and round")
	readme := flag.String("readme", "", "a `file` whose section Figures is replaced")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := b.run(ctx, flag.Arg(0))
	fmt.Print(text)
	if err == nil && *readme != "" {
		err = replaceFigures(*readme, text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// replaceFigures writes text in the place of the file's last section.
func replaceFigures(file, text string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, _, _ := strings.Cut(string(content), "## Figures\n")
	return os.WriteFile(file, []byte(before+text), 0o644)
}

// run measures all targets, or only the server and another binary of it, and
// returns the tables.
func (b *bench) run(ctx context.Context, binary string) (text string, err error) {
	if b.Standin, err = standin.New(); err != nil {
		return "", err
	}
	defer b.Close()
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return "", err
	}
	defer os.RemoveAll(b.dir)
	if err := b.setup(ctx); err != nil {
		return "", err
	}
	targets := b.targets()
	if binary != "" {
		targets = []target{b.server("this server"), b.server("the other")}
		targets[1].command[0] = binary
	}
	if err := b.measure(ctx, targets); err != nil {
		return "", err
	}
	return b.tables(targets)
}

// setup starts the stand-ins, and makes the targets' files and settings, and the tokens.
func (b *bench) setup(ctx context.Context) error {
	public, err := x509.MarshalPKIXPublicKey(b.Tenant.Key().Private.Public())
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	caFile, keyFile := filepath.Join(b.dir, "ca.pem"), filepath.Join(b.dir, "key.pem")
	err = errors.Join(err, b.Start(), os.WriteFile(caFile, b.CACert(), 0o600),
		os.WriteFile(keyFile, key, 0o600))
	if err != nil {
		return err
	}
	b.env = []string{
		"SSL_CERT_FILE=" + caFile, "KEY_FILE=" + keyFile, "ISSUER=" + b.Tenant.Issuer(),
		"OAUTH2_PROXY_OIDC_ISSUER_URL=" + b.Tenant.Issuer(),
		"OAUTH2_PROXY_OIDC_JWKS_URL=" + b.Tenant.Issuer() + ".well-known/jwks.json",
		"ITM_TOKEN_SERVER_AUTH0_DOMAIN=" + b.Tenant.Domain(),
		"ITM_TOKEN_SERVER_AUTH0_AUDIENCE=" + audience,
		"ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE=openid",
		"ITM_TOKEN_SERVER_AUTHORITY=" + b.IMS.URL(),
		"ITM_TOKEN_SERVER_CLIENT_ID=" + b.IMS.ClientID(),
		"ITM_TOKEN_SERVER_CLIENT_SECRET=" + b.IMS.ClientSecret(),
	}
	b.tokens = make([]string, 1+max(warmUp, manyConnections)+b.requests)
	var wg sync.WaitGroup
	// A signature takes a millisecond, so each core makes a part of them.
	for part := range slices.Chunk(b.tokens, 1+len(b.tokens)/runtime.NumCPU()) {
		wg.Go(func() {
			for i := range part {
				part[i] = b.Tenant.AccessToken(audience, standin.Claims{"sub": "auth0|" + crand.Text()})
			}
		})
	}
	wg.Wait()
	forger := b.Tenant.NextKey()
	forger.ID = b.Tenant.Key().ID
	b.tokens = append(b.tokens, b.Tenant.SignWith(forger, nil, b.Tenant.Claims(audience)),
		b.Tenant.AccessToken(audience, standin.Claims{"iss": "https://other.auth0.test/"}),
		b.Tenant.AccessToken(audience, standin.Claims{"exp": time.Now().Add(-time.Hour).Unix()}))
	return b.record(ctx)
}

// record asks the server for the answer that bare, floor and HAProxy give.
func (b *bench) record(ctx context.Context) error {
	l, err := b.start(ctx, b.server("server"), workload{Connections: 1})
	if err != nil {
		return err
	}
	defer l.stop()
	header := l.last.Headers
	header.Del("Date") // net/http writes these two, as it does for the server
	header.Del("Content-Length")
	text, err := json.Marshal(header)
	b.env = append(b.env, "ANSWER_HEADER="+string(text), "ANSWER_BODY="+string(l.last.Body))
	return err
}

const (
	settle = 50 * time.Millisecond // before a target's clock or memory is read
	warmUp = 1000                  // requests, at least
	turns  = 6                     // parts in which the counted requests are sent
)

// measure measures the targets. In each round, each has a fresh process for each
// workload.
func (b *bench) measure(ctx context.Context, targets []target) error {
	for _, t := range targets {
		if err := b.refuses(ctx, t); err != nil {
			return err
		}
	}
	for round := range b.rounds {
		for _, w := range workloads {
			if err := b.round(ctx, w, targets); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, b.rounds)
	}
	return nil
}

// round measures the targets under one workload. They take turns, so that what
// else the machine does affects all alike.
func (b *bench) round(ctx context.Context, w workload, targets []target) error {
	var lives []*life
	for _, i := range rand.Perm(len(targets)) {
		l, err := b.start(ctx, targets[i], w)
		if err != nil {
			return err
		}
		defer l.stop()
		time.Sleep(settle)
		l.noteMemory("idle", "VmRSS")
		lives = append(lives, l)
	}
	before := map[*life]time.Duration{}
	for _, l := range lives {
		if err := l.send(max(warmUp, w.Connections)); err != nil {
			return err
		}
		time.Sleep(settle)
		l.noteMemory(w.String()+" idle", "VmRSS")
		before[l] = l.cpu()
	}
	for range turns {
		for _, i := range rand.Perm(len(lives)) {
			if err := lives[i].send(b.requests / turns); err != nil {
				return err
			}
		}
	}
	time.Sleep(settle)
	for _, l := range lives {
		counted := float64(b.requests / turns * turns)
		l.note(w.String()+" busy", float64(l.cpu()-before[l])/1e3/counted)
		l.noteMemory(w.String()+" most", "VmHWM")
	}
	return ctx.Err()
}

//go:embed tables.md
var tablesText string

var tablesTemplate = template.Must(template.New("").Parse(tablesText))

// tables writes the figures of the targets. The first is compared with the others.
func (b *bench) tables(targets []target) (string, error) {
	versions, err := exec.Command("sh", "-c", "uname -sr; go version; haproxy -v | head -1; "+
		"go version -m .bin/oauth2-proxy | grep -m1 mod").Output()
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = tablesTemplate.Execute(&text, map[string]any{
		"First": targets[0].Name, "Others": targets[1:], "Targets": targets,
		"Workloads": workloads, "Few": workloads[0], "Many": workloads[1],
		"Results": b.results, "Rounds": b.rounds, "Requests": b.requests,
		"Cores": runtime.NumCPU(), "Versions": string(versions),
	})
	return text.String(), err
}

// results are the values of a target's figures, one from each round.
type results map[key][]float64

type key struct{ target, figure string }

// Median is that of a figure.
func (r results) Median(target, figure string) float64 {
	return quantile(r[key{target, figure}], 0.5)
}

// Ratio is a figure of one target over another's, round by round: the median, and
// the bounds of the middle half.
func (r results) Ratio(target, other, figure string) string {
	ratios := slices.Clone(r[key{target, figure}])
	for i, value := range r[key{other, figure}] {
		ratios[i] /= value
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)",
		quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
}

// quantile is the value that the share q of the values does not exceed.
func quantile(values []float64, q float64) float64 {
	return slices.Sorted(slices.Values(values))[int(q*float64(len(values)-1)+0.5)]
}
