package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const oauth2ProxyVersion = "v7.15.4"

// target is one server to be measured.
type target struct {
	name    string
	binary  string
	folder  string // of its main package, where it is built here
	want    string // what the body of its good answers begins with
	command func(addr string) (args, env []string)
	env     []string // beside the command's
	logs    string   // what the line that it logs for each request holds, if it is to be counted
}

// with is the target under another name, with one more setting.
func (t target) with(name, setting string) target {
	t.name, t.env = name, append(slices.Clone(t.env), setting)
	return t
}

// targets are all that can be measured, in the order of the tables.
func targets(w *world, before string) []target {
	bin := func(name string) string { return filepath.Join(w.dir, name) }
	ours := func(addr string) ([]string, []string) { return nil, w.settings(addr) }
	all := []target{
		{"bare", bin("bare"), "targets/bare", "Bearer ", ours, nil, ""},
		{"floor", bin("floor"), "targets/floor", "Bearer ", ours, nil, ""},
		{"server", bin("server"), "..", "Bearer ", w.server, nil, "msg=getToken"},
		{"naive", bin("naive"), "targets/naive", "Bearer ", ours, nil, ""},
		{"oauth2-proxy", filepath.Join(w.bin, "oauth2-proxy-"+oauth2ProxyVersion), "", "Authenticated", w.oauth2Proxy, nil, ""},
	}
	if before != "" {
		all = slices.Insert(all, 2, target{"before", before, "", "Bearer ", w.server, nil, "msg=getToken"})
	}
	return all
}

// find returns the target of that name, which is one of all.
func find(all []target, name string) target {
	return all[slices.IndexFunc(all, func(t target) bool { return t.name == name })]
}

// server is the command of the token server, with an audience and a scope to
// check, and everything else as it comes, its log too.
func (w *world) server(addr string) (args, env []string) {
	host, port, _ := net.SplitHostPort(addr)
	return nil, []string{
		"SSL_CERT_FILE=" + w.ca,
		"ITM_TOKEN_SERVER_HOST=" + host,
		"ITM_TOKEN_SERVER_PORT=" + port,
		"ITM_TOKEN_SERVER_AUTH0_DOMAIN=" + w.Tenant.Domain(),
		"ITM_TOKEN_SERVER_AUTH0_AUDIENCE=" + audience,
		"ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE=" + scope,
		"ITM_TOKEN_SERVER_AUTHORITY=" + w.IMS.URL(),
		"ITM_TOKEN_SERVER_CLIENT_ID=" + w.IMS.ClientID(),
		"ITM_TOKEN_SERVER_CLIENT_SECRET=" + w.IMS.ClientSecret(),
	}
}

// oauth2Proxy is the command of oauth2-proxy as a guard of bearer tokens, with
// a static answer behind it. It asks IMS for nothing. Its log is as it comes.
func (w *world) oauth2Proxy(addr string) (args, env []string) {
	issuer := w.Tenant.Issuer()
	return []string{
		"--http-address=" + addr,
		"--provider=oidc",
		"--skip-jwt-bearer-tokens",
		"--skip-oidc-discovery",
		"--oidc-issuer-url=" + issuer,
		"--oidc-jwks-url=" + issuer + ".well-known/jwks.json",
		"--oidc-email-claim=sub", // an access token has no email
		"--login-url=" + issuer + "authorize",
		"--redeem-url=" + issuer + "oauth/token",
		"--redirect-url=http://" + addr + "/oauth2/callback",
		"--client-id=" + audience,
		"--client-secret=unused",
		"--cookie-secret=0123456789abcdef0123456789abcdef",
		"--email-domain=*",
		"--upstream=static://200",
	}, []string{"SSL_CERT_FILE=" + w.ca}
}

// choose keeps the targets named in the comma list, or all where it is empty.
func choose(all []target, only string) ([]target, error) {
	if only == "" {
		return all, nil
	}
	names := strings.Split(only, ",")
	chosen := slices.DeleteFunc(slices.Clone(all), func(t target) bool { return !slices.Contains(names, t.name) })
	if len(chosen) != len(names) {
		return nil, fmt.Errorf("-only=%s holds a name that is no target's, or one twice", only)
	}
	return chosen, nil
}

// build makes the target's binary as a release is made: stripped, trimmed.
func (t target) build(ctx context.Context, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w"}, flags...)
	switch {
	case t.folder != "":
		// -C, so that each main package is built as its own module says.
		return run(exec.CommandContext(ctx, "go", append([]string{"-C", t.folder}, append(args, "-o", t.binary, ".")...)...))
	case t.name == "oauth2-proxy":
		return installOAuth2Proxy(ctx, t.binary)
	}
	return nil // before: brought along
}

// installOAuth2Proxy builds the released module with the dependencies of its own
// go.mod, which takes minutes, unless an earlier run did.
func installOAuth2Proxy(ctx context.Context, binary string) error {
	if _, err := os.Stat(binary); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	bin, err := filepath.Abs(filepath.Dir(binary))
	if err != nil {
		return err
	}
	install := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags=-s -w",
		"github.com/oauth2-proxy/oauth2-proxy/v7@"+oauth2ProxyVersion)
	install.Env = append(os.Environ(), "GOBIN="+bin)
	if err := run(install); err != nil {
		return err
	}
	return os.Rename(filepath.Join(bin, "oauth2-proxy"), binary)
}

// run runs a command, and shows what it wrote where it fails.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return nil
}
