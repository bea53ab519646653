package demo

import (
	"io"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The user's settings that would change what the demo connects to are replaced, all
// others are kept.
func TestSettings(t *testing.T) {
	d := start(t)
	replaced := map[string]string{
		"CLIENT_ID": d.IMS.ClientID(), "CLIENT_SECRET": d.IMS.ClientSecret(), "CLIENT_SECRET_FILE": "",
		"AUTH0_DOMAIN": d.Tenant.Domain(), "AUTH0_AUDIENCE": audience, "AUTH0_REQUIRED_SCOPE": "", "AUTH0_ORGANIZATION": "",
		"AUTHORITY": d.IMS.URL(), "SCOPE": "", "TLS_CERT_FILE": "", "TLS_KEY_FILE": "",
	}
	want := map[string]string{ // kept
		"PORT": "8080", "P_PORT": "1", "P_HOST": "::1", "P_LOG_LEVEL": "debug", "P_METRICS_ADDR": ":2", "CLIENT_ID": "x", "P_PROT": "3",
	}
	var environ []string
	for name, value := range want {
		environ = append(environ, name+"="+value)
	}
	for name, value := range replaced {
		environ = append(environ, "P_"+name+"=the user's")
		want["P_"+name] = value
	}
	got := make(map[string]string)
	for _, entry := range d.Settings("P_", environ) {
		name, value, _ := strings.Cut(entry, "=")
		got[name] = value
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func start(t *testing.T) *Demo {
	t.Helper()
	d, err := Start(MinTokenLife)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestTokenLife(t *testing.T) {
	for _, life := range []time.Duration{-time.Minute, 0, MinTokenLife - time.Second, MinTokenLife + 1} {
		if _, err := Start(life); err == nil || !strings.Contains(err.Error(), "whole seconds, at least "+MinTokenLife.String()) {
			t.Errorf("Start(%v) = %v, want an error with the least life, in whole seconds", life, err)
		}
	}
}

// The exchange itself is shown by the transcript of the whole program, testdata/demo.golden.
func TestRunWithoutAServer(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	if err := start(t).Run(t.Context(), io.Discard, server.URL); err == nil {
		t.Error("Run without a server = nil, want an error")
	}
}
