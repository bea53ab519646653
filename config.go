package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"itwin-token-server/internal/server"
	"itwin-token-server/internal/settings"
)

// prefix begins the name of every setting.
const prefix = "ITM_TOKEN_SERVER_"

// config holds the values of the settings, validated.
type config struct {
	ClientID       string
	ClientSecret   secret // empty where SecretFile is set
	SecretFile     string
	Domain         string   // of the Auth0 tenant: a host, with a port if not 443
	Audiences      []string // a token's aud must contain one of them; none: any
	RequiredScopes []string // a token must have each of them
	Organizations  []string // a token must carry one of these IDs and names; none: any
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

// settings is the table of all settings, in the README's order. They are parsed in this
// order: readSecret needs CLIENT_SECRET, and loadCertificate needs TLS_CERT_FILE. Parsing
// one stores its value in c.
func (c *config) settings() []*settings.Setting {
	const scopes = "scopes separated by spaces, like read:itwin write:itwin (RFC 6749 §3.3)"
	always := func() bool { return true }
	return []*settings.Setting{
		{Name: prefix + "CLIENT_ID", Required: always, Parse: into(&c.ClientID, settings.Text),
			Want: "the client ID of your iTwin service application, service-… (developer.bentley.com, My Apps)"},
		{Name: prefix + "CLIENT_SECRET", Secret: true, Required: func() bool { return c.SecretFile == "" }, Parse: into(&c.ClientSecret, parseSecret),
			Want: "the client secret of the iTwin service application, without line breaks, or " + prefix + "CLIENT_SECRET_FILE"},
		{Name: prefix + "CLIENT_SECRET_FILE", Read: c.readSecret, Parse: into(&c.SecretFile, settings.Text),
			Want: "a file that holds the client secret"},
		{Name: prefix + "AUTH0_DOMAIN", Required: always, Parse: into(&c.Domain, settings.Domain),
			Want: "the full domain of your Auth0 tenant, like acme-demo.us.auth0.com, without a path (manage.auth0.com, Applications)"},
		{Name: prefix + "AUTH0_AUDIENCE", Parse: into(&c.Audiences, settings.List),
			Want: "the identifier of your API (manage.auth0.com, Applications, APIs), or for ID tokens the client ID of the application; several are separated by commas, like https://api.example.com,aB3dE5fG7hJ9"},
		{Name: prefix + "AUTH0_REQUIRED_SCOPE", Parse: into(&c.RequiredScopes, settings.Scopes), Want: scopes},
		{Name: prefix + "AUTH0_ORGANIZATION", Parse: into(&c.Organizations, parseOrganizations),
			Want: "IDs or names of Auth0 Organizations, separated by commas, like org_aB3dE5fG,acme"},
		{Name: prefix + "AUTHORITY", Default: "https://ims.bentley.com", Parse: into(&c.Authority, settings.Authority),
			Want: "an https URL like https://ims.bentley.com"},
		{Name: prefix + "SCOPE", Default: "itwin-platform", Parse: into(&c.Scope, parseScope), Want: scopes},
		{Name: prefix + "HOST", Parse: into(&c.Host, settings.Host), Want: "an address or name of this machine, without a port"},
		{Name: prefix + "PORT", Default: "3001", Fallback: "PORT", Parse: into(&c.Port, settings.Port),
			Want: "a port from 1 to 65535, or 0 for any free one (tcp://… is set by Kubernetes for a Service of that name: rename the Service, or set enableServiceLinks: false)"},
		{Name: prefix + "CORS_ORIGINS", Default: "*", Parse: into(&c.Origins, settings.Origins),
			Want: "* or origins like https://app.example.com, without a path, a wildcard or the default port (:443, with http :80), separated by commas"},
		{Name: prefix + "TLS_CERT_FILE", Read: settings.ReadFile, Required: func() bool { return c.KeyFile != "" }, Parse: into(&c.CertFile, settings.Text),
			Want: "a PEM file with the certificate, together with " + prefix + "TLS_KEY_FILE"},
		{Name: prefix + "TLS_KEY_FILE", Read: c.loadCertificate, Required: func() bool { return c.CertFile != "" }, Parse: into(&c.KeyFile, settings.Text),
			Want: "a PEM file with the key of " + prefix + "TLS_CERT_FILE"},
		{Name: prefix + "LOG_LEVEL", Default: "info", Parse: func(text string) bool { return c.LogLevel.UnmarshalText([]byte(text)) == nil },
			Want: "debug, info, warn or error"},
		{Name: prefix + "LOG_FORMAT", Default: "text", Parse: into(&c.LogFormat, parseFormat), Want: "text or json"},
		{Name: prefix + "METRICS_ADDR", Parse: into(&c.MetricsAddr, settings.Address), Want: "host:port, like 127.0.0.1:9464"},
	}
}

// into returns a parser that stores what parse returns.
func into[T any](destination *T, parse func(string) (T, bool)) func(string) bool {
	return func(text string) (ok bool) {
		*destination, ok = parse(text)
		return ok
	}
}

// loadConfig reads the settings from environ, then from .env.local and .env in dir.
// Its error joins all that is wrong, one line each: the variable, what is expected, what
// was found and where. The config is then as complete as it can be. Nothing but the
// config holds a secret.
func loadConfig(environ []string, dir string) (config, *settings.Findings, error) {
	var c config
	f, err := settings.Load(c.settings(), prefix, environ, dir)
	f.Warnings = append(f.Warnings, c.warnings(f)...)
	return c, f, errors.Join(err, checkProxySetting(environ))
}

// readSecret reads the file of the client secret, and refuses it if CLIENT_SECRET is set
// too.
func (c *config) readSecret(path string) (string, error) {
	text, err := settings.ReadSecret(path)
	if c.ClientSecret.text != nil {
		err = errors.New(prefix + "CLIENT_SECRET is set too")
	}
	return text, err
}

// loadCertificate reads the file of the key, and loads the certificate with it. If the
// certificate's file cannot be read, its own setting says so.
func (c *config) loadCertificate(keyFile string) (string, error) {
	_, certErr := settings.ReadFile(c.CertFile)
	key, err := settings.ReadFile(keyFile)
	if certErr == nil && err == nil {
		c.Certificate, err = server.LoadCertificate(c.CertFile, keyFile)
	}
	return key, err
}

// scheme is what a proxy's URL may begin with. It is cut off before parsing: net/http also
// takes proxy:3128, where url.Parse would take proxy for the scheme.
var scheme = regexp.MustCompile(`^\w+://`)

// checkProxySetting returns an error if the proxy's URL cannot be parsed: net/http would
// ignore it, and connect directly. It is not shown, since it may have a password.
func checkProxySetting(environ []string) error {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.EqualFold(name, "HTTPS_PROXY") || value == "" {
			continue
		}
		proxy, err := url.Parse("//" + scheme.ReplaceAllString(value, ""))
		if err != nil || proxy.Hostname() == "" {
			return fmt.Errorf("%s: want a URL like http://proxy.example.com:3128, "+
				"got something else, not shown (environment)", name)
		}
	}
	return nil
}

// warnings are about settings that are valid, and probably not what is meant.
func (c *config) warnings(f *settings.Findings) (warnings []string) {
	audience := f.Setting(prefix + "AUTH0_AUDIENCE")
	if audience.Source == "" && c.Domain != "" {
		warnings = append(warnings, audience.Name+" is not set: any token of the Auth0 tenant is "+
			"accepted, of its other applications too. Set it to "+audience.Want)
	}
	if c.ClientID != "" && !strings.HasPrefix(c.ClientID, "service-") {
		warnings = append(warnings, prefix+"CLIENT_ID does not begin with service-, as that of an "+
			"iTwin service application does: is it Auth0's?")
	}
	if c.Certificate != nil {
		if err := c.Certificate.Verify(nil); err != nil {
			warnings = append(warnings, prefix+"TLS_CERT_FILE: this machine would not accept the "+
				"certificate, and phones may not: "+err.Error()+
				" (if the authority is unknown, the intermediate certificate may be missing)")
		}
	}
	return warnings
}

// ports are the listeners that the settings ask for.
type ports struct {
	tokens  net.Listener
	metrics net.Listener // nil: no metrics
}

// openPorts opens all ports, so that nothing is announced if one is in use.
func openPorts(c config) (open ports, err error) {
	if open.tokens, err = server.Listen(net.JoinHostPort(c.Host, c.Port)); err != nil {
		return open, fmt.Errorf("cannot listen on port %s: %w: set %sPORT to a free port of 1024"+
			" or higher, and %sHOST to an address of this machine or to nothing",
			c.Port, err, prefix, prefix)
	}
	if c.MetricsAddr == "" {
		return open, nil
	}
	if open.metrics, err = server.Listen(c.MetricsAddr); err != nil {
		// Not the address itself: its host may be a misplaced secret.
		return open, fmt.Errorf("cannot listen on %sMETRICS_ADDR: %w: set it to a free port of"+
			" this machine", prefix, err)
	}
	return open, nil
}

// settingsError says everything that is wrong with the settings, and what to do if one is
// missing.
func settingsError(found *settings.Findings, err error, p program) error {
	all := strings.Join(append([]string{err.Error()}, found.Warnings...), "\nwarning: ")
	return errors.New("the settings cannot be used:\n  " + strings.ReplaceAll(all, "\n", "\n  ") +
		adviceIfIncomplete(found, p))
}

// adviceIfIncomplete says, if a setting is missing, where they were searched, and how to do
// without them.
func adviceIfIncomplete(found *settings.Findings, p program) string {
	if !found.Incomplete {
		return ""
	}
	folder, _ := filepath.Abs(p.dir)
	searched := "read .env.local in " + folder
	if _, err := os.Stat(filepath.Join(folder, ".env.local")); err != nil {
		searched = "no .env.local in " + folder + ": set the variables in the environment, or copy " +
			"the repository's .env to .env.local and fill it in"
	}
	return "\n" + searched + "\nTo try the server without any settings: " + p.name + " demo"
}

// currentSecret returns the client secret. A file is read again each time, so that a
// rotated secret needs no restart.
func (c *config) currentSecret() (secret, error) {
	if c.SecretFile == "" {
		return c.ClientSecret, nil
	}
	text, err := settings.ReadSecret(c.SecretFile)
	if err != nil {
		return secret{}, fmt.Errorf("%sCLIENT_SECRET_FILE: %w", prefix, err)
	}
	return newSecret(text), nil
}

// parseSecret refuses line breaks, which a value copied from a file may have.
func parseSecret(text string) (secret, bool) {
	return newSecret(text), !strings.ContainsAny(text, "\r\n")
}

// organizations are IDs, and names in the form that Auth0 allows.
var organizations = regexp.MustCompile(`^[A-Za-z0-9_\s,-]*$`)

// parseOrganizations keeps IDs as they are; names are lower case in tokens.
func parseOrganizations(text string) ([]string, bool) {
	items, ok := settings.List(text)
	for i, item := range items {
		if !strings.HasPrefix(item, "org_") {
			items[i] = strings.ToLower(item)
		}
	}
	return items, ok && organizations.MatchString(text)
}

func parseScope(text string) (string, bool) {
	scopes, ok := settings.Scopes(text)
	return strings.Join(scopes, " "), ok
}

func parseFormat(text string) (string, bool) {
	return strings.ToLower(text), strings.EqualFold(text, "text") || strings.EqualFold(text, "json")
}

// A secret prints as [redacted]. Where fmt calls no method (another verb, an
// unexported field), it prints the pointer.
type secret struct{ text *string }

func newSecret(text string) secret { return secret{&text} }

// reveal returns the secret itself, to be sent.
func (s secret) reveal() string { return *s.text }

func (secret) String() string               { return "[redacted]" }
func (secret) LogValue() slog.Value         { return slog.StringValue("[redacted]") }
func (secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
