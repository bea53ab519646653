package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/server"
)

// prefix begins the name of every setting.
const prefix = "ITM_TOKEN_SERVER_"

// maxSecret bounds the secret's file, in bytes.
const maxSecret = 64 << 10

// expiryWarning is how long before a certificate expires there is a warning:
// whatever renews it should have done so by then.
const expiryWarning = 14 * 24 * time.Hour

// config holds the values of the settings, validated.
type config struct {
	ClientID       string
	ClientSecret   secret // empty where SecretFile is set
	SecretFile     string
	Domain         string   // of the Auth0 tenant: a host, with a port if not 443
	Audiences      []string // a token's aud must contain one of them; none: any
	RequiredScopes []string // a token must have each of them
	Organizations  []string // a token must carry one of them: IDs (org_…), or names in lower case; none: any
	Authority      string   // of IMS: an https URL with no slash at the end
	Scope          string   // to request from IMS
	Host, Port     string
	Origins        []string // whose pages may read answers; none: all
	CertFile       string   // with KeyFile, or neither
	KeyFile        string
	Certificate    *server.Certificate // of the two files; nil: plain http
	LogLevel       slog.Level
	LogFormat      string // text or json
	MetricsAddr    string // empty: off
}

// issuer is the iss of the tenant's tokens. The slash at its end is Auth0's.
func (c *config) issuer() string { return "https://" + c.Domain + "/" }

// settings is the table of all settings, in the order of the README. Parsing one
// stores its value in c.
func (c *config) settings() []dotenv.Setting {
	const scopes = "scopes separated by spaces (RFC 6749 §3.3)"
	return []dotenv.Setting{
		{Name: prefix + "CLIENT_ID", Required: true, Parse: into(&c.ClientID, dotenv.Text),
			Want: "the client ID of your iTwin service application, service-… (developer.bentley.com, My Apps)"},
		{Name: prefix + "CLIENT_SECRET", Secret: true, Parse: into(&c.ClientSecret, func(text string) (secret, bool) { return newSecret(text), true }),
			Want: "the client secret of the iTwin service application, or " + prefix + "CLIENT_SECRET_FILE"},
		{Name: prefix + "CLIENT_SECRET_FILE", File: true, Parse: into(&c.SecretFile, dotenv.Text),
			Want: "a file that holds the client secret"},
		{Name: prefix + "AUTH0_DOMAIN", Required: true, Parse: into(&c.Domain, dotenv.Domain),
			Want: "the full domain of your Auth0 tenant, like acme-demo.us.auth0.com, without a path (manage.auth0.com, Applications)"},
		{Name: prefix + "AUTH0_AUDIENCE", Parse: into(&c.Audiences, dotenv.List),
			Want: "the identifier of your API (manage.auth0.com, Applications, APIs), or for ID tokens the client ID of the application; several are separated by commas"},
		{Name: prefix + "AUTH0_REQUIRED_SCOPE", Parse: into(&c.RequiredScopes, dotenv.Scopes), Want: scopes},
		{Name: prefix + "AUTH0_ORGANIZATION", Parse: into(&c.Organizations, parseOrganizations),
			Want: "IDs (org_…) or names of Auth0 Organizations, separated by commas"},
		{Name: prefix + "AUTHORITY", Default: "https://ims.bentley.com", Parse: into(&c.Authority, dotenv.Authority),
			Want: "an https URL like https://ims.bentley.com"},
		{Name: prefix + "SCOPE", Default: "itwin-platform", Parse: into(&c.Scope, parseScope), Want: scopes},
		{Name: prefix + "HOST", Parse: into(&c.Host, dotenv.Host), Want: "an address or name of this machine, without a port"},
		{Name: prefix + "PORT", Default: "3001", Fallback: "PORT", Parse: into(&c.Port, dotenv.Port),
			Want: "a port from 1 to 65535, or 0 for any free one"},
		{Name: prefix + "CORS_ORIGINS", Default: "*", Parse: into(&c.Origins, dotenv.Origins),
			Want: "* or origins like https://app.example.com, without a path or a wildcard, separated by commas"},
		{Name: prefix + "TLS_CERT_FILE", File: true, Parse: into(&c.CertFile, dotenv.Text), Want: "a PEM file with the certificate, together with " + prefix + "TLS_KEY_FILE"},
		{Name: prefix + "TLS_KEY_FILE", File: true, Parse: into(&c.KeyFile, dotenv.Text), Want: "a PEM file with the key of " + prefix + "TLS_CERT_FILE"},
		{Name: prefix + "LOG_LEVEL", Default: "info", Parse: func(text string) bool { return c.LogLevel.UnmarshalText([]byte(text)) == nil },
			Want: "debug, info, warn or error"},
		{Name: prefix + "LOG_FORMAT", Default: "text", Parse: into(&c.LogFormat, parseFormat), Want: "text or json"},
		{Name: prefix + "METRICS_ADDR", Parse: into(&c.MetricsAddr, dotenv.Address), Want: "host:port, like 127.0.0.1:9464"},
	}
}

// into returns a parser that stores what parse returns.
func into[T any](destination *T, parse func(string) (T, bool)) func(string) bool {
	return func(text string) (ok bool) {
		*destination, ok = parse(text)
		return ok
	}
}

// loadConfig reads the settings from environ, then from .env.local and .env in
// dir. Its error joins all that is wrong, one line each: the variable, what is
// wanted, what was got. The config is then as complete as it can be. Nothing but
// the config holds a secret.
func loadConfig(environ []string, dir string) (config, *dotenv.Findings, error) {
	var c config
	f := dotenv.Load(c.settings(), prefix, environ, dir)
	c.checkClient(f)
	c.checkCertificate(f)
	if audience := f.Setting(prefix + "AUTH0_AUDIENCE"); audience.Source == "" && c.Domain != "" && !f.Unread {
		f.Warnings = append(f.Warnings, audience.Name+" is not set: any token of the Auth0 tenant is accepted, of its other applications too. Set it to "+audience.Want)
	}
	return c, f, f.Finish()
}

// settingsError says everything that is wrong with the settings.
func settingsError(found *dotenv.Findings, err error) error {
	lines := append([]string{"the settings cannot be used:", err.Error()}, found.Warnings...)
	text := strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n  ")
	if found.Incomplete {
		text += "\nFill in .env.local (.env says how). To try the server without any settings: go run . demo"
	}
	return errors.New(text)
}

// serviceID is the form of a client ID. Anything else may be the secret.
var serviceID = regexp.MustCompile(`^service-[A-Za-z0-9-]+$`)

// checkClient checks that the client secret is in exactly one place, and usable.
func (c *config) checkClient(f *dotenv.Findings) {
	f.Setting(prefix + "CLIENT_ID").Secret = !serviceID.MatchString(c.ClientID)
	variable, file := f.Setting(prefix+"CLIENT_SECRET"), f.Setting(prefix+"CLIENT_SECRET_FILE")
	variable.Required = c.SecretFile == ""
	if variable.Source != "" && c.SecretFile != "" {
		variable.Got = "both"
	}
	if c.SecretFile != "" && file.Got == "" {
		current, err := c.currentSecret()
		f.Secrets = append(f.Secrets, current.reveal())
		if err != nil {
			file.Got = errors.Unwrap(err).Error()
		}
	}
}

// checkCertificate loads the certificate and its key, and warns if it expires soon.
func (c *config) checkCertificate(f *dotenv.Findings) {
	cert, key := f.Setting(prefix+"TLS_CERT_FILE"), f.Setting(prefix+"TLS_KEY_FILE")
	cert.Required, key.Required = c.KeyFile != "", c.CertFile != ""
	if c.CertFile == "" || c.KeyFile == "" || cert.Got != "" || key.Got != "" {
		return
	}
	var err error
	if c.Certificate, err = server.LoadCertificate(c.CertFile, c.KeyFile); err != nil {
		cert.Got = err.Error()
	} else if expiry := c.Certificate.Expiry(); time.Until(expiry) < expiryWarning {
		f.Warnings = append(f.Warnings, cert.Name+": the certificate expires at "+expiry.UTC().Format(time.RFC3339)+": renew it")
	}
}

// currentSecret returns the client secret. A file is read again each time, so
// that a rotated secret needs no restart. One newline at its end is dropped.
func (c *config) currentSecret() (secret, error) {
	if c.SecretFile == "" {
		return c.ClientSecret, nil
	}
	var text []byte
	file, err := os.Open(c.SecretFile)
	if err == nil {
		defer file.Close()
		text, err = io.ReadAll(io.LimitReader(file, maxSecret+1))
	}
	line := strings.TrimPrefix(string(text), "\ufeff") // a byte order mark, as some editors write
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	switch {
	case err != nil:
	case line == "":
		err = errors.New("an empty one")
	case dotenv.Placeholder(line):
		err = errors.New("a placeholder")
	case len(text) > maxSecret, strings.ContainsAny(line, "\r\n\x00"): // UTF-16 has a zero in each letter
		err = errors.New("more than a line of text in UTF-8")
	}
	if err != nil {
		return secret{}, fmt.Errorf("%sCLIENT_SECRET_FILE: want a file that holds the client secret, got %w", prefix, err)
	}
	return newSecret(line), nil
}

// parseOrganizations keeps IDs as they are; names are lower case in tokens.
func parseOrganizations(text string) ([]string, bool) {
	items, ok := dotenv.List(text)
	for i, item := range items {
		ok = ok && organization.MatchString(item)
		if !strings.HasPrefix(item, "org_") {
			items[i] = strings.ToLower(item)
		}
	}
	return items, ok
}

// organization is an ID, or a name in the form that Auth0 allows.
var organization = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func parseScope(text string) (string, bool) {
	scopes, ok := dotenv.Scopes(text)
	return strings.Join(scopes, " "), ok
}

func parseFormat(text string) (string, bool) {
	format := strings.ToLower(text)
	return format, format == "text" || format == "json"
}

// A secret prints as [redacted]. Where fmt calls no method (another verb, an
// unexported field), it prints the pointer.
type secret struct{ text *string }

func newSecret(text string) secret { return secret{&text} }

// reveal returns the secret itself, to be sent.
func (s secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

func (secret) String() string               { return "[redacted]" }
func (secret) LogValue() slog.Value         { return slog.StringValue("[redacted]") }
func (secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
