package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"itwin-token-server/internal/dotenv"
)

// awkward holds what secrets have been broken by: URL and form syntax, shells'
// and .env files' syntax, and spaces at both ends.
const awkward = ` p+/=:%&$HOME#"q ü\nr `

// complete is an environment with nothing missing; more comes after it, and wins.
func complete(more ...string) []string {
	for i := range more {
		more[i] = prefix + more[i]
	}
	return append([]string{
		prefix + "CLIENT_ID=service-x", prefix + "CLIENT_SECRET=" + awkward,
		prefix + "AUTH0_DOMAIN=tenant.us.auth0.com", prefix + "AUTH0_AUDIENCE=" + testAudience,
	}, more...)
}

// folder is a new one with these files: name, text, name, text.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, dir, files[i], files[i+1])
	}
	return dir
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func TestDefaults(t *testing.T) {
	c, _, err := loadConfig(complete(), folder(t))
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		ClientID: "service-x", Domain: "tenant.us.auth0.com", Audiences: []string{testAudience}, RequiredScopes: []string{},
		Authority: "https://ims.bentley.com", Scope: "itwin-platform", Port: "3001", LogFormat: "text",
	}
	got := c.ClientSecret.reveal()
	c.ClientSecret = secret{}
	if fmt.Sprintf("%#v", c) != fmt.Sprintf("%#v", want) || got != awkward {
		t.Errorf("loadConfig = %+v, want %+v", c, want)
	}
	if got := c.issuer(); got != "https://tenant.us.auth0.com/" {
		t.Errorf("issuer() = %s, want it with a slash at the end", got)
	}
}

func TestGoodValues(t *testing.T) {
	tests := []struct {
		name, value string
		got         func(config) any
		want        any
	}{
		{"CLIENT_ID", "  service-x\t", func(c config) any { return c.ClientID }, "service-x"},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com", domainOf, "tenant.us.auth0.com"},
		{"AUTH0_DOMAIN", "https://tenant.us.auth0.com/", domainOf, "tenant.us.auth0.com"},
		{"AUTH0_DOMAIN", "https://tenant.us.auth0.com", domainOf, "tenant.us.auth0.com"},
		{"AUTH0_DOMAIN", "HTTPS://Tenant.US.Auth0.com/", domainOf, "tenant.us.auth0.com"},
		{"AUTH0_DOMAIN", " tenant.us.auth0.com ", domainOf, "tenant.us.auth0.com"},
		{"AUTH0_DOMAIN", "login.example.com", domainOf, "login.example.com"},
		{"AUTH0_DOMAIN", "my_tenant-1.eu.auth0.com", domainOf, "my_tenant-1.eu.auth0.com"},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com:8443", domainOf, "tenant.us.auth0.com:8443"},
		{"AUTH0_DOMAIN", "https://127.0.0.1:43211/", domainOf, "127.0.0.1:43211"},
		{"AUTH0_DOMAIN", "localhost:43211", domainOf, "localhost:43211"},
		{"AUTH0_DOMAIN", "[::1]:43211", domainOf, "[::1]:43211"},
		{"AUTH0_DOMAIN", "xn--tnant-wqa.example.com", domainOf, "xn--tnant-wqa.example.com"},
		{"AUTH0_AUDIENCE", "a, b ,,c", func(c config) any { return c.Audiences }, []string{"a", "b", "c"}},
		{"AUTH0_REQUIRED_SCOPE", " read:a  read:b ", func(c config) any { return c.RequiredScopes }, []string{"read:a", "read:b"}},
		{"AUTHORITY", "https://qa-ims.bentley.com/", authorityOf, "https://qa-ims.bentley.com"},
		{"AUTHORITY", "HTTPS://ims.bentley.com", authorityOf, "https://ims.bentley.com"},
		{"AUTHORITY", "https://127.0.0.1:8443/ims//", authorityOf, "https://127.0.0.1:8443/ims"},
		{"SCOPE", "  imodels:read   itwinjs ", func(c config) any { return c.Scope }, "imodels:read itwinjs"},
		{"HOST", "127.0.0.1", hostOf, "127.0.0.1"},
		{"HOST", "[::1]", hostOf, "::1"},
		{"HOST", "::", hostOf, "::"},
		{"HOST", "my-machine.local", hostOf, "my-machine.local"},
		{"PORT", "0", portOf, "0"},
		{"PORT", "65535", portOf, "65535"},
		{"PORT", " 8080 ", portOf, "8080"},
		{"CORS_ORIGINS", "*", originsOf, []string(nil)},
		{"CORS_ORIGINS", "https://app.example.com,*", originsOf, []string(nil)},
		{"CORS_ORIGINS", "https://app.example.com, http://localhost:3000", originsOf, []string{"https://app.example.com", "http://localhost:3000"}},
		{"LOG_LEVEL", "debug", levelOf, slog.LevelDebug},
		{"LOG_LEVEL", "WARN", levelOf, slog.LevelWarn},
		{"LOG_LEVEL", "error", levelOf, slog.LevelError},
		{"LOG_FORMAT", "JSON", func(c config) any { return c.LogFormat }, "json"},
		{"METRICS_ADDR", "127.0.0.1:9090", metricsOf, "127.0.0.1:9090"},
		{"METRICS_ADDR", ":0", metricsOf, ":0"},
		{"METRICS_ADDR", "[::1]:9090", metricsOf, "[::1]:9090"},
	}
	for _, test := range tests {
		c, _, err := loadConfig(complete(test.name+"="+test.value), "")
		if got := test.got(c); err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", test.want) {
			t.Errorf("%s=%q gives %#v, %v; want %#v", test.name, test.value, got, err, test.want)
		}
	}
}

func domainOf(c config) any    { return c.Domain }
func authorityOf(c config) any { return c.Authority }
func hostOf(c config) any      { return c.Host }
func portOf(c config) any      { return c.Port }
func originsOf(c config) any   { return c.Origins }
func levelOf(c config) any     { return c.LogLevel }
func metricsOf(c config) any   { return c.MetricsAddr }

func TestRefusedValues(t *testing.T) {
	const (
		domain    = "AUTH0_DOMAIN: want a host like tenant.us.auth0.com, without a path, got "
		authority = "AUTHORITY: want an https URL like https://ims.bentley.com, got "
		scopes    = ": want scopes separated by spaces (RFC 6749 §3.3), got "
		host      = "HOST: want an address or name of this machine, without a port, got "
		port      = "PORT: want a port from 1 to 65535, or 0 for any free one, got "
		origins   = "CORS_ORIGINS: want * or origins like https://app.example.com, without a path or a wildcard, got "
		level     = "LOG_LEVEL: want debug, info, warn or error, got "
		format    = "LOG_FORMAT: want text or json, got "
		metrics   = "METRICS_ADDR: want host:port, like 127.0.0.1:9090, got "
		pair      = "TLS_KEY_FILE: want set together with ITM_TOKEN_SERVER_TLS_CERT_FILE, or neither, got "
		hidden    = "one with an @ (not shown: it may hold a password)"
	)
	tests := []struct{ name, value, want string }{
		{"AUTH0_DOMAIN", "tenant", domain + `"tenant"`},
		{"AUTH0_DOMAIN", "localhost", domain + `"localhost"`},
		{"AUTH0_DOMAIN", "http://tenant.us.auth0.com", domain + `"http://tenant.us.auth0.com"`},
		{"AUTH0_DOMAIN", "https://tenant.us.auth0.com/authorize", domain + `"https://tenant.us.auth0.com/authorize"`},
		{"AUTH0_DOMAIN", "https://tenant.us.auth0.com//", domain + `"https://tenant.us.auth0.com//"`},
		{"AUTH0_DOMAIN", "https://https://tenant.us.auth0.com", domain + `"https://https://tenant.us.auth0.com"`},
		{"AUTH0_DOMAIN", "https://", domain + `"https://"`},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com/?x=1", domain + `"tenant.us.auth0.com/?x=1"`},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com#login", domain + `"tenant.us.auth0.com#login"`},
		{"AUTH0_DOMAIN", "my tenant.us.auth0.com", domain + `"my tenant.us.auth0.com"`},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com.", domain + `"tenant.us.auth0.com."`},
		{"AUTH0_DOMAIN", ".us.auth0.com", domain + `".us.auth0.com"`},
		{"AUTH0_DOMAIN", "tenant..auth0.com", domain + `"tenant..auth0.com"`},
		{"AUTH0_DOMAIN", "-tenant.us.auth0.com", domain + `"-tenant.us.auth0.com"`},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com:", domain + `"tenant.us.auth0.com:"`},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com:0", domain + `"tenant.us.auth0.com:0"`},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com:https", domain + `"tenant.us.auth0.com:https"`},
		{"AUTH0_DOMAIN", "tenant.us.auth0.com:70000", domain + `"tenant.us.auth0.com:70000"`},
		{"AUTH0_DOMAIN", "tenant:443", domain + `"tenant:443"`},
		{"AUTH0_DOMAIN", "::1", domain + `"::1"`},
		{"AUTH0_DOMAIN", "jane:hunter2@tenant.us.auth0.com", domain + hidden},
		{"AUTH0_DOMAIN", "ten\u0430nt.us.auth0.com", domain + `"ten\u0430nt.us.auth0.com"`},           // Cyrillic a
		{"AUTH0_DOMAIN", "\u212aeys.us.auth0.com", domain + `"\u212aeys.us.auth0.com"`},               // Kelvin sign, k in lower case
		{"AUTH0_DOMAIN", "tenant\uff0eus\uff0eauth0.com", domain + `"tenant\uff0eus\uff0eauth0.com"`}, // full-width dots
		{"AUTH0_DOMAIN", "tenant.us.auth0.com\x1b[2J", domain + `"tenant.us.auth0.com\x1b[2J"`},       // a terminal's escape
		{"AUTH0_DOMAIN", strings.Repeat("a", 300), domain + `"` + strings.Repeat("a", 100) + `"`},     // no flood either
		{"AUTHORITY", "http://ims.bentley.com", authority + `"http://ims.bentley.com"`},               // the secret would travel open
		{"AUTHORITY", "ims.bentley.com", authority + `"ims.bentley.com"`},
		{"AUTHORITY", "https://", authority + `"https://"`},
		{"AUTHORITY", "https://:443", authority + `"https://:443"`},
		{"AUTHORITY", "https:ims.bentley.com", authority + `"https:ims.bentley.com"`},
		{"AUTHORITY", "https://ims.bentley.com?", authority + `"https://ims.bentley.com?"`},
		{"AUTHORITY", "https://ims.bentley.com#a", authority + `"https://ims.bentley.com#a"`},
		{"AUTHORITY", "https://ims bentley.com", authority + `"https://ims bentley.com"`},
		{"AUTHORITY", "https://ims.bentl\u0435y.com", authority + `"https://ims.bentl\u0435y.com"`}, // Cyrillic e
		{"AUTHORITY", "https://jane:hunter2@ims.bentley.com", authority + hidden},
		{"SCOPE", `itwin"platform`, "SCOPE" + scopes + `"itwin\"platform"`},
		{"SCOPE", "itwin\tplatform", "SCOPE" + scopes + `"itwin\tplatform"`},
		{"AUTH0_REQUIRED_SCOPE", `read"`, "AUTH0_REQUIRED_SCOPE" + scopes + `"read\""`}, // it would end the challenge's string
		{"AUTH0_REQUIRED_SCOPE", "read\r\nx: y", "AUTH0_REQUIRED_SCOPE" + scopes + `"read\r\nx: y"`},
		{"HOST", "localhost:3001", host + `"localhost:3001"`},
		{"HOST", "http://localhost", host + `"http://localhost"`},
		{"PORT", "http", port + `"http"`},
		{"PORT", "-1", port + `"-1"`},
		{"PORT", "65536", port + `"65536"`},
		{"PORT", ":3001", port + `":3001"`},
		{"CORS_ORIGINS", "https://app.example.com/", origins + `"https://app.example.com/"`},
		{"CORS_ORIGINS", "app.example.com", origins + `"app.example.com"`},
		{"CORS_ORIGINS", "null", origins + `"null"`},
		{"CORS_ORIGINS", "https://*.example.com", origins + `"https://*.example.com"`},     // it would match nothing
		{"CORS_ORIGINS", "https://App.example.com", origins + `"https://App.example.com"`}, // browsers send small letters
		{"CORS_ORIGINS", "https://a.com https://b.com", origins + `"https://a.com https://b.com"`},
		{"CORS_ORIGINS", "https://a.com,,https://b.com/x", origins + `"https://a.com,,https://b.com/x"`},
		{"CORS_ORIGINS", "https://jane@a.com", origins + hidden},
		{"LOG_LEVEL", "loud", level + `"loud"`},
		{"LOG_LEVEL", "warning", level + `"warning"`},
		{"LOG_FORMAT", "xml", format + `"xml"`},
		{"METRICS_ADDR", "9090", metrics + `"9090"`},
		{"METRICS_ADDR", "localhost:http", metrics + `"localhost:http"`},
		{"TLS_CERT_FILE", "cert.pem", pair + "nothing"},
		{"TLS_KEY_FILE", "key.pem", pair + `"key.pem"`},
		{"CLIENT_SECRET", "a\nb", "CLIENT_SECRET: want one line, got a line break in it"},
		{"CLIENT_SECRET_FILE", "some-file", "CLIENT_SECRET: want it or ITM_TOKEN_SERVER_CLIENT_SECRET_FILE, got both"},
	}
	for _, test := range tests {
		_, _, err := loadConfig(complete(test.name+"="+test.value), "")
		if err == nil || err.Error() != prefix+test.want {
			t.Errorf("%s=%q gives\n%v, want\n%s", test.name, test.value, err, prefix+test.want)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, _, err := loadConfig([]string{prefix + "AUTHORITY=http://x", prefix + "PORT=x", prefix + "LOG_FORMAT=x"}, folder(t, ".env.local", prefix+"CLIENT_SECRET=a$b"))
	const want = `.env.local line 1: want ITM_TOKEN_SERVER_CLIENT_SECRET in single quotes, since it holds a $, # or \, got it without
ITM_TOKEN_SERVER_CLIENT_ID: want the client ID of your iTwin service application (developer.bentley.com, My Apps), got nothing
ITM_TOKEN_SERVER_AUTH0_DOMAIN: want the domain of your Auth0 tenant, like tenant.us.auth0.com (manage.auth0.com, Applications), got nothing
ITM_TOKEN_SERVER_AUTHORITY: want an https URL like https://ims.bentley.com, got "http://x"
ITM_TOKEN_SERVER_PORT: want a port from 1 to 65535, or 0 for any free one, got "x"
ITM_TOKEN_SERVER_LOG_FORMAT: want text or json, got "x"`
	if err == nil || err.Error() != want {
		t.Errorf("loadConfig gives\n%v, want\n%s", err, want)
	}
}

// What is in a file that cannot be read is not known to be missing.
func TestOneFaultForABrokenFile(t *testing.T) {
	_, f, err := loadConfig(nil, folder(t, ".env.local", "A='\n"))
	const want = ".env.local line 1: want NAME=value with quotes closed, got something else (not shown: it may hold a secret)"
	if err == nil || err.Error() != want || f.Incomplete {
		t.Errorf("loadConfig gives\n%v, want\n%s", err, want)
	}
}

func TestEnvironmentThenEnvLocalThenEnv(t *testing.T) {
	tests := []struct{ name, environment, local, file, want, from string }{
		{"all three", "1", "2", "3", "1", "environment"},
		{"no environment", "", "2", "3", "2", ".env.local"},
		{"only .env", "", "", "3", "3", ".env"},
		{"none", "", "", "", "3001", "default"},
		{"a placeholder in the environment", "<YOUR_PORT>", "2", "3", "2", ".env.local"},
		{"placeholders everywhere", "<YOUR_PORT>", "a<YOUR_PORT>b", "<YOUR_PORT>", "3001", "default"},
		{"blanks in the environment", " \t", "", "3", "3", ".env"},
	}
	for _, test := range tests {
		const name = prefix + "PORT"
		dir := folder(t, ".env.local", name+"='"+test.local+"'\n", ".env", name+"='"+test.file+"'\n")
		c, f, err := loadConfig(complete("PORT="+test.environment), dir)
		from := f.Setting(name).Source
		if err != nil || c.Port != test.want || from != test.from {
			t.Errorf("%s: port %s from %s, %v; want %s from %s", test.name, c.Port, from, err, test.want, test.from)
		}
	}
}

func TestAwkwardSecretsArriveUnharmed(t *testing.T) {
	local := prefix + "CLIENT_SECRET='" + awkward + "'\n"
	tests := []struct {
		name string
		load func() (config, *dotenv.Findings, error)
	}{
		{"environment", func() (config, *dotenv.Findings, error) { return loadConfig(complete(), "") }},
		{".env.local", func() (config, *dotenv.Findings, error) {
			return loadConfig(complete("CLIENT_SECRET="), folder(t, ".env.local", local))
		}},
		{"with export, a byte order mark and Windows line ends", func() (config, *dotenv.Findings, error) {
			text := "\ufeff# settings\r\nexport " + strings.ReplaceAll(local, "\n", "\r\n") + prefix + "PORT=1\r\n"
			return loadConfig(complete("CLIENT_SECRET="), folder(t, ".env.local", text))
		}},
		{"file", func() (config, *dotenv.Findings, error) { return withSecretFile(folder(t, "secret", awkward)) }},
		{"file with a newline", func() (config, *dotenv.Findings, error) { return withSecretFile(folder(t, "secret", awkward+"\n")) }},
		{"file with a Windows line end", func() (config, *dotenv.Findings, error) { return withSecretFile(folder(t, "secret", awkward+"\r\n")) }},
	}
	for _, test := range tests {
		c, _, err := test.load()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got, err := c.currentSecret(); err != nil || got.reveal() != awkward {
			t.Errorf("%s: the secret is %q, %v; want %q", test.name, got.reveal(), err, awkward)
		}
	}
}

func withSecretFile(dir string) (config, *dotenv.Findings, error) {
	return loadConfig(complete("CLIENT_SECRET=", "CLIENT_SECRET_FILE="+filepath.Join(dir, "secret")), "")
}

func TestARotatedSecretFileIsReadAgain(t *testing.T) {
	dir := folder(t, "secret", "the first")
	c, _, err := withSecretFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "secret", "the second\n")
	if got, err := c.currentSecret(); got.reveal() != "the second" || err != nil {
		t.Errorf("after the rotation the secret is %q, %v; want the second", got.reveal(), err)
	}
	if err := os.Remove(filepath.Join(dir, "secret")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.currentSecret(); got.reveal() != "" || err == nil || !strings.HasPrefix(err.Error(), prefix+"CLIENT_SECRET_FILE: want ") {
		t.Errorf("without the file the secret is %q, %v; want an error that names the setting", got.reveal(), err)
	}
}

func TestRefusedSecretFiles(t *testing.T) {
	const want = prefix + "CLIENT_SECRET_FILE: want a file that holds the client secret, got "
	tests := []struct{ name, text, want string }{
		{"empty", "", "an empty one, or a placeholder"},
		{"only a newline", "\r\n", "an empty one, or a placeholder"},
		{"placeholder", "<YOUR_ITWIN_SERVICE_CLIENT_SECRET>", "an empty one, or a placeholder"},
		{"two lines", awkward + "\nmore", "one of several lines"},
		{"two newlines", awkward + "\n\n", "one of several lines"},
		{"huge", strings.Repeat("x", maxSecret+1), "one of several lines"},
	}
	for _, test := range tests {
		if _, _, err := withSecretFile(folder(t, "secret", test.text)); err == nil || err.Error() != want+test.want {
			t.Errorf("%s: %v, want %s", test.name, err, want+test.want)
		}
	}
	_, missing := os.Open(filepath.Join(t.TempDir(), "none"))
	if _, _, err := withSecretFile(t.TempDir()); err == nil || err.Error() != want+missing.(*fs.PathError).Err.Error() {
		t.Errorf("missing: %v, want %s and what the system says", err, want)
	}
	if _, _, err := loadConfig(complete("CLIENT_SECRET=", "CLIENT_SECRET_FILE="+t.TempDir()), ""); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("a folder: %v, want %s…", err, want)
	}
}

func TestASecretPastedAsTheFilesNameIsNotShown(t *testing.T) {
	_, f, err := loadConfig(complete("CLIENT_SECRET=", "CLIENT_SECRET_FILE=hunter2+/="), "")
	if shown := fmt.Sprintf("%+v %+v", f.Settings, err); err == nil || strings.Contains(shown, "hunter2") {
		t.Errorf("settings and error show it: %s", shown)
	}
}

// Whatever prints a config, nothing of the secret is in it.
func TestNothingPrintsTheSecret(t *testing.T) {
	c, _, err := loadConfig(complete(), folder(t, ".env.local", prefix+"CLIENT_SECRET='the other'\n"))
	if err != nil {
		t.Fatal(err)
	}
	type nested struct {
		Config  config
		Pointer *config
		hidden  config // fmt asks no method about it
		Secrets []secret
		ByName  map[string]secret
	}
	around := nested{c, &c, c, []secret{c.ClientSecret}, map[string]secret{"a": c.ClientSecret}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
		for _, v := range []any{c.ClientSecret, &c.ClientSecret, c, &c, around, &around} {
			without(t, "fmt "+verb, fmt.Sprintf(verb, v))
		}
	}
	for _, v := range []any{c.ClientSecret, c, &c, around, &around} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		without(t, "json", string(text))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("a", "b", v, slog.Group("c", "d", v))
		slog.New(slog.NewJSONHandler(&log, nil)).Info("a", "b", v, slog.Group("c", "d", v))
		without(t, "slog", log.String())
	}
	if text, _ := json.Marshal(c.ClientSecret); string(text) != `"[redacted]"` {
		t.Errorf("json of the secret = %s, want [redacted]", text)
	}
}

// without fails where text has the secret, in any of the forms fmt gives it.
func without(t *testing.T, what, text string) {
	t.Helper()
	inner := strings.TrimSpace(awkward)
	for _, form := range []string{inner, fmt.Sprintf("%x", inner), fmt.Sprintf("%X", inner), "p+/=:", "HOME#", "the other"} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret: %s", what, text)
		}
	}
}

func TestBrokenEnvFiles(t *testing.T) {
	const (
		name   = prefix + "CLIENT_SECRET"
		broken = ": want NAME=value with quotes closed, got something else (not shown: it may hold a secret)"
		quotes = ": want " + name + ` in single quotes, since it holds a $, # or \, got it without`
	)
	tests := []struct{ name, text, want string }{
		{"unterminated quote", "A=1\n\n" + name + "='hunter2\nB=2\n", ".env.local line 3" + broken},
		{"unterminated quote at the end", "A=1\n" + name + "=\"hunter2", ".env.local line 2" + broken},
		{"Windows line ends", "A=1\r\nB=2\r\n" + name + "='hunter2\r\n", ".env.local line 3" + broken},
		{"byte order mark", "\ufeff" + name + "='hunter2", ".env.local line 1" + broken},
		{"export", "export A=1\nexport " + name + "='hunter2\n", ".env.local line 2" + broken},
		{"no =", "A=1\nhunter2+/x\n", ".env.local line 2" + broken},
		{"closed by another line's quote", name + "='hunter2\n# the users'\nB=2\n", ".env.local line 1: want " + name + " on one line, got a line break in it: close its quote"},
		{"another's quote", prefix + "AUTH0_DOMAIN=\"a.b\n# \"\n" + name + "='hunter2'\n", ".env.local line 1: want " + prefix + "AUTH0_DOMAIN on one line, got a line break in it: close its quote"},
		{"$ without quotes", "A=1\n" + name + "=hunter2$WORD\n", ".env.local line 2" + quotes},
		{"$ at the beginning", name + "=$WORDhunter2\n", ".env.local line 1" + quotes},
		{"# without quotes", name + "=hunter2 #x\n", ".env.local line 1" + quotes},
		{"$ in double quotes", name + "=\"hunter2$WORD\"\n", ".env.local line 1" + quotes},
		{"\\ in double quotes", name + "=\"hunter2\\n\"\n", ".env.local line 1" + quotes},
		{"export, spaces and a colon", "  export  " + name + " : hunter2$WORD\n", ".env.local line 1" + quotes},
		{"UTF-16", "\xff\xfeh\x00u\x00n\x00t\x00e\x00r\x002\x00", ".env.local: want text in UTF-8, got another encoding: save it as UTF-8"},
		{"Latin-1", name + "='hunter2\xe4'\n", ".env.local: want text in UTF-8, got another encoding: save it as UTF-8"},
		{"too large", strings.Repeat("# hunter2\n", 7000), ".env.local: want at most 64 KiB, got more"},
	}
	for _, test := range tests {
		_, _, err := loadConfig(complete(), folder(t, ".env.local", test.text))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	dir := folder(t)
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := loadConfig(complete(), dir); err == nil || !strings.HasPrefix(err.Error(), ".env: want a readable file, got: ") {
		t.Errorf("a folder named .env: %v, want it named", err)
	}
}

func TestMisspeltNames(t *testing.T) {
	tests := []struct{ name, want string }{
		{"AUTHO_DOMAIN", "AUTH0_DOMAIN"},
		{"AUTH0_AUDIENCES", "AUTH0_AUDIENCE"},
		{"CLIENTID", "CLIENT_ID"},
		{"CLIENT_SECRT", "CLIENT_SECRET"},
		{"CORS_ORIGIN", "CORS_ORIGINS"},
		{"LOGLEVEL", "LOG_LEVEL"},
		{"TLS_CERTFILE", "TLS_CERT_FILE"},
		{"URL", "PORT"}, // near to none, but some help
	}
	for _, test := range tests {
		want := []string{fmt.Sprintf("%q in .env is not a setting; did you mean %s%s?", prefix+test.name, prefix, test.want)}
		_, f, err := loadConfig(complete(), folder(t, ".env", prefix+test.name+"=hunter2\nOTHER=1\n"))
		if err != nil || !slices.Equal(f.Warnings, want) {
			t.Errorf("%s: %q, %v; want %q", test.name, f.Warnings, err, want)
		}
	}
	_, f, err := loadConfig(complete("SCOPES=x"), folder(t, ".env.local", prefix+"SCOPES=x\n"))
	if want := []string{
		`"ITM_TOKEN_SERVER_SCOPES" in .env.local is not a setting; did you mean ITM_TOKEN_SERVER_SCOPE?`,
		`"ITM_TOKEN_SERVER_SCOPES" in environment is not a setting; did you mean ITM_TOKEN_SERVER_SCOPE?`,
	}; err != nil || !slices.Equal(f.Warnings, want) {
		t.Errorf("in two places: %q, %v; want %q", f.Warnings, err, want)
	}
}

// Where a = is forgotten, the value is a part of the name.
func TestAMisspeltNameShowsNoSecret(t *testing.T) {
	for _, line := range []string{"CLIENT_SECRET hunter2==", "CLIENT_SECREThunter2=", "CLIENT_SECRETHUNTER2=", "CLIENT_SECRT hunter2="} {
		_, f, _ := loadConfig(complete(), folder(t, ".env.local", prefix+line+"\n"))
		if len(f.Warnings) != 1 || strings.Contains(strings.ToLower(f.Warnings[0]), "hunter2") {
			t.Errorf("%s: %q, want one warning, without the value", line, f.Warnings)
		}
	}
}

func TestWarningWithoutAnAudience(t *testing.T) {
	_, f, err := loadConfig(complete("AUTH0_AUDIENCE="), "")
	want := []string{"ITM_TOKEN_SERVER_AUTH0_AUDIENCE is not set: any token of the Auth0 tenant is accepted, of its other applications too"}
	if err != nil || !slices.Equal(f.Warnings, want) {
		t.Errorf("warnings %q, %v; want %q", f.Warnings, err, want)
	}
	if _, f, _ := loadConfig(complete(), ""); f.Warnings != nil {
		t.Errorf("warnings %q with an audience, want none", f.Warnings)
	}
}

// The sample .env, new(config).settings() and the README's table name the same settings, in
// the same order, with the same defaults.
func TestSampleEnvAndReadmeAreInStep(t *testing.T) {
	sample, err := os.ReadFile(".env")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, s := range new(config).settings() {
		want = append(want, s.Name)
	}
	got := regexp.MustCompile(`(?m)^ITM_TOKEN_SERVER_\w+`).FindAllString(string(sample), -1)
	if !slices.Equal(got, want) {
		t.Errorf(".env has %q, want %q", got, want)
	}
	_, f, err := loadConfig(nil, folder(t, ".env", string(sample)))
	if n := strings.Count(fmt.Sprint(err), "the placeholder <YOUR_…> is still there (.env)"); n != 3 || strings.Count(err.Error(), "\n") != 2 || !f.Incomplete {
		t.Errorf("the sample .env as it is: %v, want the three required settings missing, and nothing else", err)
	}
	for i := range new(config).settings() {
		if s := f.Settings[i]; s.Source != "" && s.Shown != fmt.Sprintf("%q", s.Default) {
			t.Errorf(".env has %s=%s, want the default %s", s.Name, s.Shown, s.Default)
		}
	}
	if !strings.Contains(string(sample), prefix+"CLIENT_SECRET='") {
		t.Error("the secret is not in single quotes in .env")
	}
}

// A row may group settings: | `ITM_TOKEN_SERVER_LOG_LEVEL`, `_LOG_FORMAT` | `info`, `text` | … |
func TestReadmeTableIsInStep(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Skip("no README.md yet")
	}
	var names, want []string
	defaults := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`ITM_TOKEN_SERVER_[^|]*)\\|([^|]*)\\|").FindAllStringSubmatch(string(readme), -1) {
		for _, name := range regexp.MustCompile("`([A-Z0-9_]+)`").FindAllStringSubmatch(row[1], -1) {
			full := prefix + strings.TrimPrefix(strings.TrimPrefix(name[1], prefix), "_")
			names, defaults[full] = append(names, full), row[2]
		}
	}
	for _, s := range new(config).settings() {
		want = append(want, s.Name)
		if s.Default != "" && !strings.Contains(defaults[s.Name], "`"+s.Default+"`") {
			t.Errorf("README's default of %s is %q, want `%s` in it", s.Name, defaults[s.Name], s.Default)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("README's table has %q, want %q", names, want)
	}
}

// fixed are all lines that may be said of a .env file: nothing of it is in them,
// beyond the names of settings.
var fixed = regexp.MustCompile(`^(\.env\.local( line \d+)?: want (` +
	`NAME=value with quotes closed, got something else \(not shown: it may hold a secret\)|` +
	`ITM_TOKEN_SERVER_[A-Z0-9_]+ on one line, got a line break in it: close its quote|` +
	`ITM_TOKEN_SERVER_CLIENT_SECRET in single quotes, since it holds a \$, # or \\, got it without|` +
	`at most 64 KiB, got more|text in UTF-8, got another encoding: save it as UTF-8)|` +
	`"ITM_TOKEN_SERVER_[A-Z0-9_]*…?" in \.env\.local is not a setting; did you mean ITM_TOKEN_SERVER_[A-Z0-9_]+\?)$`)

// FuzzSettings gives text as a .env.local, and value as the secret in one.
func FuzzSettings(f *testing.F) {
	const name = prefix + "CLIENT_SECRET"
	for _, text := range []string{
		"", "A=1\n# b\nexport C=\"d\"\n", name + "='hunter2'\n", name + "='hunter2\n", name + "=hunter2$X", name + "=\"a\\\"b\"",
		"\ufeffA=1\r\nB='2'\r\n", name + " hunter2==\n", prefix + "PORT: 1\n" + prefix + "PROT=2\n", "hunter2", "A='\nB='", "\xff\xfeA\x00",
	} {
		f.Add(text, awkward)
		f.Add(text, text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, value string) {
		write(t, dir, ".env.local", text)
		found := dotenv.Load(new(config).settings(), prefix, nil, dir)
		err := found.Finish()
		lines := found.Warnings
		if err != nil {
			lines = append(lines, strings.Split(err.Error(), "\n")...)
		}
		for _, line := range lines {
			if !fixed.MatchString(line) {
				t.Errorf("said of a file: %q", line)
			}
		}
		if fitForQuotes(value) {
			arrives(t, dir, "'"+value+"'", value, false)
			arrives(t, dir, value, strings.Trim(value, " "), true)
			if !strings.Contains(value, `"`) {
				arrives(t, dir, `"`+value+`"`, value, true)
			}
		}
	})
}

// fitForQuotes is a secret that single quotes can hold: one line, with no single
// quote in it and no \ before the one at its end.
func fitForQuotes(value string) bool {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	return strings.Trim(value, " ") != "" && !strings.ContainsFunc(value, odd) && !strings.Contains(value, "<YOUR_") &&
		!strings.Contains(value, "'") && !strings.HasSuffix(value, `\`) && strings.TrimLeft(value, " ")[0] != '"' && len(value) < 60<<10
}

// arrives writes a secret to a file and wants it back, or where a fault may be
// found, that. What is changed without a word is the one thing that must not be.
func arrives(t *testing.T, dir, written, want string, mayFail bool) {
	write(t, dir, ".env.local", prefix+"CLIENT_SECRET="+written+"\n")
	c, _, err := loadConfig(complete("CLIENT_SECRET="), dir)
	switch {
	case err != nil && mayFail && fixed.MatchString(firstLine(err.Error())):
	case err != nil:
		t.Errorf("%s: %v, want the secret", written, err)
	case c.ClientSecret.reveal() != want:
		t.Errorf("%s is read as %q", written, c.ClientSecret.reveal())
	}
}
