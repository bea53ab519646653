package demo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin"
)

const prefix = "ITM_TOKEN_SERVER_"

func start(t *testing.T) *Demo {
	t.Helper()
	d, err := Start(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// The user's settings that would change what the demo connects to are replaced, all
// others are kept.
func TestSettings(t *testing.T) {
	d := start(t)
	kept := []string{
		"PORT=8080", prefix + "PORT=1", prefix + "HOST=::1", prefix + "LOG_LEVEL=debug", prefix + "LOG_FORMAT=json",
		prefix + "METRICS_ADDR=:2", prefix + "CORS_ORIGINS=https://a.example", prefix + "PROT=3", "CLIENT_ID=x", "SCOPE",
	}
	environ := slices.Clone(kept)
	for _, name := range []string{
		"CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "AUTH0_DOMAIN", "AUTH0_AUDIENCE", "AUTH0_REQUIRED_SCOPE",
		"AUTH0_ORGANIZATION", "AUTHORITY", "SCOPE", "TLS_CERT_FILE", "TLS_KEY_FILE",
	} {
		environ = append(environ, prefix+name+"=the user's", prefix+name+"=")
	}
	want := append(kept,
		prefix+"CLIENT_ID="+d.standin.IMS.ClientID(), prefix+"CLIENT_SECRET="+d.standin.IMS.ClientSecret(),
		prefix+"AUTH0_DOMAIN="+d.standin.Tenant.Domain(), prefix+"AUTH0_AUDIENCE="+audience, prefix+"AUTHORITY="+d.standin.IMS.URL())
	if got := d.Settings(prefix, environ); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTokenLife(t *testing.T) {
	for _, life := range []time.Duration{-time.Minute, 0, time.Second, MinTokenLife - 1, MinTokenLife + 1, 4500 * time.Millisecond} {
		if _, err := Start(life); err == nil || !strings.Contains(err.Error(), "whole seconds") || !strings.Contains(err.Error(), MinTokenLife.String()) {
			t.Errorf("Start(%v) = %v, want an error with the least life, in whole seconds", life, err)
		}
	}
	d, err := Start(MinTokenLife)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestRun(t *testing.T) {
	d := start(t)
	keys, err := keyfunc.NewJWKSetJSON(d.standin.Tenant.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /demo/userToken", d.UserToken)
	mux.HandleFunc("GET /getToken", func(w http.ResponseWriter, r *http.Request) {
		userToken, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := jwt.Parse(userToken, keys.Keyfunc, jwt.WithAudience(audience)); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		io.WriteString(w, "Bearer iTwin")
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	out := new(standin.Log)
	if err := d.Run(t.Context(), out, server.URL); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Not for production", d.standin.Tenant.Issuer(), d.standin.IMS.URL(), server.URL + "/getToken",
		"that token +200  Bearer iTwin\n", "forged token +401  .*signature is invalid", "without a token +401  ",
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
	command := out.Await(t, `\n(curl .*)\n$`)
	if _, err := exec.LookPath("curl"); err == nil && runtime.GOOS != "windows" {
		if got, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil || string(got) != "Bearer iTwin" {
			t.Errorf("%s printed %q, %v; want Bearer iTwin", command, got, err)
		}
	}
	server.Close()
	if err := d.Run(t.Context(), out, server.URL); err == nil {
		t.Error("Run without a server = nil, want an error")
	}
}
