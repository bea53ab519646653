package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/server"
)

// prefix begins the name of every setting.
const prefix = "ITM_TOKEN_SERVER_"

// maxSecret bounds a secret in bytes, so that a file named by mistake is not
// read to its end.
const maxSecret = 64 << 10

// config is what the settings say, validated.
type config struct {
	ClientID       string
	ClientSecret   secret // empty where SecretFile is set
	SecretFile     string
	Domain         string   // of the Auth0 tenant: a host, with a port if not 443
	Audiences      []string // a token's aud must hold one of them; none: any will do
	RequiredScopes []string // each must be among a token's scopes
	Authority      string   // of IMS: an https URL with no slash at the end
	Scope          string   // to ask IMS for
	Host, Port     string
	Origins        []string // whose pages may read answers; none: all
	CertFile       string   // with KeyFile, or neither
	KeyFile        string
	LogLevel       slog.Level
	LogFormat      string // text or json
	MetricsAddr    string // empty: off

	found    []dotenv.Setting // a secret's without its value
	misspelt []string         // warnings of names that are no settings
	warnings []string         // of what works, and is unwise

	incomplete bool // a required setting is missing
}

// issuer is the iss of the tenant's tokens. The slash at its end is Auth0's.
func (c *config) issuer() string { return "https://" + c.Domain + "/" }

// declared lists the settings in the order of the README, with their defaults.
func declared() []dotenv.Setting {
	return []dotenv.Setting{
		{Name: prefix + "CLIENT_ID"},
		{Name: prefix + "CLIENT_SECRET", Secret: true},
		{Name: prefix + "CLIENT_SECRET_FILE"},
		{Name: prefix + "AUTH0_DOMAIN"},
		{Name: prefix + "AUTH0_AUDIENCE"},
		{Name: prefix + "AUTH0_REQUIRED_SCOPE"},
		{Name: prefix + "AUTHORITY", Value: "https://ims.bentley.com"},
		{Name: prefix + "SCOPE", Value: "itwin-platform"},
		{Name: prefix + "HOST"},
		{Name: prefix + "PORT", Value: "3001"},
		{Name: prefix + "CORS_ORIGINS", Value: "*"},
		{Name: prefix + "TLS_CERT_FILE"},
		{Name: prefix + "TLS_KEY_FILE"},
		{Name: prefix + "LOG_LEVEL", Value: "info"},
		{Name: prefix + "LOG_FORMAT", Value: "text"},
		{Name: prefix + "METRICS_ADDR"},
	}
}

// loadConfig reads the settings from environ, then from .env.local and .env in
// dir. Its error joins all faults, one line each: the variable, what is wanted,
// what was got. It shows no secret. The config is then as complete as it can be.
func loadConfig(environ []string, dir string) (config, error) {
	found, misspelt, err := dotenv.Find(declared(), prefix, environ, dir)
	c := config{found: found, misspelt: misspelt}
	p := parser{found: found, faults: []error{err}, unread: errors.Is(err, dotenv.ErrUnread)}
	c.parse(&p)
	c.incomplete = !p.unread && (c.ClientID == "" || c.Domain == "" || c.ClientSecret.reveal() == "" && c.SecretFile == "")
	for i := range found { // shared with c, which may be printed
		if found[i].Secret {
			found[i].Value = ""
		}
	}
	return c, errors.Join(p.faults...)
}

const wantScopes = "scopes separated by spaces (RFC 6749 §3.3)"

// parse fills in the config, in the order of the declarations.
func (c *config) parse(p *parser) {
	c.ClientID = p.required("CLIENT_ID", "the client ID of your iTwin service application (developer.bentley.com, My Apps)")
	c.ClientSecret = newSecret(p.text("CLIENT_SECRET"))
	c.SecretFile = p.text("CLIENT_SECRET_FILE")
	c.checkSecret(p)
	p.required("AUTH0_DOMAIN", "the domain of your Auth0 tenant, like tenant.us.auth0.com (manage.auth0.com, Applications)")
	c.Domain = p.checked("AUTH0_DOMAIN", "a host like tenant.us.auth0.com, without a path", dotenv.Domain)
	c.Audiences = p.list("AUTH0_AUDIENCE", ",")
	if len(c.Audiences) == 0 && !p.unread {
		c.warnings = append(c.warnings, prefix+"AUTH0_AUDIENCE is not set: any token of the Auth0 tenant is accepted, of its other applications too")
	}
	c.RequiredScopes = strings.Fields(p.checked("AUTH0_REQUIRED_SCOPE", wantScopes, dotenv.Scopes))
	c.Authority = p.checked("AUTHORITY", "an https URL like https://ims.bentley.com", dotenv.Authority)
	c.Scope = p.checked("SCOPE", wantScopes, dotenv.Scopes)
	c.Host = p.checked("HOST", "an address or name of this machine, without a port", dotenv.Host)
	c.Port = p.checked("PORT", "a port from 1 to 65535, or 0 for any free one", dotenv.Port)
	p.checked("CORS_ORIGINS", "* or origins like https://app.example.com, without a path or a wildcard", dotenv.Origins)
	if origins := p.list("CORS_ORIGINS", ","); !slices.Contains(origins, "*") {
		c.Origins = origins
	}
	c.CertFile, c.KeyFile = p.text("TLS_CERT_FILE"), p.text("TLS_KEY_FILE")
	p.check("TLS_KEY_FILE", "set together with "+prefix+"TLS_CERT_FILE, or neither", (c.CertFile == "") == (c.KeyFile == ""))
	c.checkCertificate(p)
	p.check("LOG_LEVEL", "debug, info, warn or error", c.LogLevel.UnmarshalText([]byte(p.text("LOG_LEVEL"))) == nil)
	c.LogFormat = strings.ToLower(p.text("LOG_FORMAT"))
	p.check("LOG_FORMAT", "text or json", c.LogFormat == "text" || c.LogFormat == "json")
	c.MetricsAddr = p.checked("METRICS_ADDR", "host:port, like 127.0.0.1:9090", dotenv.Address)
}

// checkSecret wants the client secret in exactly one place, and usable.
func (c *config) checkSecret(p *parser) {
	switch {
	case c.ClientSecret.reveal() != "" && c.SecretFile != "":
		p.fault("CLIENT_SECRET", "it or "+prefix+"CLIENT_SECRET_FILE", "both")
	case c.SecretFile != "":
		if _, err := c.secretNow(); err != nil {
			p.faults = append(p.faults, err)
			p.setting("CLIENT_SECRET_FILE").Secret = true // it may be the secret itself, put in the wrong place
		}
	case c.ClientSecret.reveal() == "":
		p.missing("CLIENT_SECRET", "the client secret of the iTwin service application, or "+prefix+"CLIENT_SECRET_FILE")
	case strings.ContainsAny(c.ClientSecret.reveal(), "\r\n"):
		p.fault("CLIENT_SECRET", "one line", "a line break in it")
	}
}

// checkCertificate wants a pair that can be served, and warns of one that ends.
func (c *config) checkCertificate(p *parser) {
	if c.CertFile == "" || c.KeyFile == "" {
		return
	}
	pair, err := server.LoadCertificate(c.CertFile, c.KeyFile)
	if err != nil {
		p.fault("TLS_CERT_FILE", "a certificate and, in _TLS_KEY_FILE, its key", err.Error())
		p.setting("TLS_KEY_FILE").Secret = true // it may be the key itself, put in the wrong place
		return
	}
	if warning := server.ExpiryWarning(pair); warning != "" {
		c.warnings = append(c.warnings, warning)
	}
}

// secretNow is the client secret at this moment: a file is read again each
// time, so that a rotated secret needs no restart. One newline at its end is
// dropped.
func (c *config) secretNow() (secret, error) {
	if c.SecretFile == "" {
		return c.ClientSecret, nil
	}
	const wrong = "%sCLIENT_SECRET_FILE: want a file that holds the client secret, got %s"
	file, err := os.Open(c.SecretFile)
	if err != nil {
		return secret{}, fmt.Errorf(wrong, prefix, errors.Unwrap(err))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return secret{}, fmt.Errorf(wrong, prefix, errors.Unwrap(err))
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case line == "" || strings.Contains(line, "<YOUR_"):
		return secret{}, fmt.Errorf(wrong, prefix, "an empty one, or a placeholder")
	case len(text) > maxSecret || strings.ContainsAny(line, "\r\n"):
		return secret{}, fmt.Errorf(wrong, prefix, "one of several lines")
	}
	return newSecret(line), nil
}

// A parser takes values out of the settings and gathers their faults.
type parser struct {
	found  []dotenv.Setting
	faults []error
	unread bool // a file could not be read: nothing is known to be missing
}

// text is the value of a setting, without the spaces around it; a secret's is
// untouched, since there a space may count.
func (p *parser) text(name string) string {
	s := p.setting(name)
	if s.Secret {
		return s.Value
	}
	return strings.TrimSpace(s.Value)
}

func (p *parser) setting(name string) *dotenv.Setting {
	return &p.found[slices.IndexFunc(p.found, func(s dotenv.Setting) bool { return s.Name == prefix+name })]
}

func (p *parser) required(name, want string) string {
	text := p.text(name)
	if text == "" {
		p.missing(name, want)
	}
	return text
}

func (p *parser) missing(name, want string) {
	if !p.unread {
		p.fault(name, want, "nothing")
	}
}

// checked is the value as clean returns it; a value it refuses is a fault.
func (p *parser) checked(name, want string, clean func(string) (string, bool)) string {
	text := p.text(name)
	if text == "" {
		return ""
	}
	cleaned, ok := clean(text)
	p.check(name, want, ok)
	return cleaned
}

func (p *parser) list(name, separator string) (items []string) {
	for item := range strings.SplitSeq(p.text(name), separator) {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// check makes a fault of a setting that is not ok, with its value as got.
func (p *parser) check(name, want string, ok bool) {
	if ok {
		return
	}
	got := p.text(name)
	switch {
	case got == "":
		got = "nothing"
	case strings.Contains(got, "@"):
		got = "one with an @ (not shown: it may hold a password)"
	default:
		got = strconv.QuoteToASCII(got[:min(len(got), 100)])
	}
	p.fault(name, want, got)
}

func (p *parser) fault(name, want, got string) {
	p.faults = append(p.faults, fmt.Errorf("%s%s: want %s, got %s", prefix, name, want, got))
}

// A secret prints as [redacted], whatever prints it. Its text is behind a
// pointer, since fmt asks no method where a verb doesn't fit or a field is
// unexported, and then follows no pointer either.
type secret struct{ text *string }

func newSecret(text string) secret { return secret{&text} }

// reveal is the secret itself, for those who send it.
func (s secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

func (secret) String() string               { return "[redacted]" }
func (secret) LogValue() slog.Value         { return slog.StringValue("[redacted]") }
func (secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Format serves every verb of fmt; String alone leaves %x and %#v open.
func (secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }
