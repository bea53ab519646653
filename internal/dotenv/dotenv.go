// Package dotenv reads a program's settings from the environment, then from
// .env.local, then from .env; the first that has a value wins. It decides what
// of a value may be shown, and how hosts, URLs and lists are written; what a
// setting is for, its caller knows.
package dotenv

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Setting is one variable: what its caller declares, and what [Load] found.
type Setting struct {
	Name     string            // of the variable
	Default  string            // used where no source has a value
	Fallback string            // a variable of the environment that is read before the default
	Want     string            // what is expected, for error messages
	Required bool              // without a value it is an error
	Secret   bool              // its value is never shown, and keeps the spaces around it
	Parse    func(string) bool // stores a value, or refuses it

	Source string // of the value: "environment", ".env.local", ".env", "default", the fallback, or "" for none
	Shown  string // what may be shown of the value: the value in quotes, its length, or "not set"
	Err    error  // why the value cannot be used

	value       string
	placeholder string // found instead of a value, and where, as the end of a message
}

// Findings are the settings as they were found, with warnings and errors.
type Findings struct {
	Settings   []Setting
	Warnings   []string
	Incomplete bool // a required setting has no value
	Unread     bool // a file could not be read: what seems not to be set may be in it

	errs    []error // of files
	secrets []string
}

// A source is where settings come from.
type source struct {
	name   string
	values map[string]string
}

var errRefused = errors.New("refused by Parse")

// Load finds the values of the settings and parses them. An empty variable, one
// of nothing but spaces, and one that holds a placeholder count as not set. It
// warns of variables that begin with prefix and are not settings. With no dir it
// reads no files. Its caller adds checks of its own, and then calls Finish.
func Load(settings []Setting, prefix string, environ []string, dir string) *Findings {
	f := &Findings{Settings: settings}
	environment := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	sources := []source{{"environment", environment}}
	for _, name := range []string{".env.local", ".env"} {
		if dir != "" {
			values, err := readFile(dir, name, settings)
			f.Unread = f.Unread || values == nil
			f.errs = append(f.errs, err)
			sources = append(sources, source{name, values})
		}
	}
	f.Warnings = unknownNames(settings, prefix, sources)
	for i := range settings {
		s := &settings[i]
		f.resolve(s, append(slices.Clip(sources),
			source{s.fallbackSource(), map[string]string{s.Name: environment[s.Fallback]}},
			source{"default", map[string]string{s.Name: s.Default}}))
	}
	return f
}

func (s *Setting) fallbackSource() string { return s.Fallback + " in the environment" }

// resolve takes the setting from the first source that has a value for it.
func (f *Findings) resolve(s *Setting, sources []source) {
	for _, from := range sources {
		value := from.values[s.Name]
		if s.Secret {
			f.Redact(value) // whether it is used or not
		} else {
			value = strings.TrimSpace(value)
		}
		switch found := Placeholder(value); {
		case strings.TrimSpace(value) == "":
		case found != "":
			s.placeholder = cmp.Or(s.placeholder, fmt.Sprintf(": the placeholder %s is still there (%s)", found, from.name))
		case s.Source == "":
			s.Source, s.value = from.name, value
		}
	}
	if s.Source != "" && !s.Parse(s.value) {
		s.Err = errRefused
	}
	if v := s.value; s.Source == "environment" && len(v) > 1 && v[0] == v[len(v)-1] && strings.ContainsAny(v[:1], `"'`) {
		f.Warnings = append(f.Warnings, s.Name+" begins and ends with a quote, which the environment makes a part of the value (docker run --env-file keeps quotes): remove them")
	}
}

// placeholder matches what sample files and instructions have in place of a
// value. Upper case only: your_api and tenant.us.auth0.com may be real.
var placeholder = regexp.MustCompile(`(<YOUR_|<TENANT>)|\b(YOUR_)[A-Z]|(?:^|//|[,\s])(TENANT)\.[a-z.]*auth0\.com`)

// Placeholder returns the fixed part of a placeholder in text, like <YOUR_…>, or
// "" if it has none.
func Placeholder(text string) string {
	match := placeholder.FindStringSubmatch(text)
	if match == nil {
		return ""
	}
	return strings.NewReplacer("<YOUR_", "<YOUR_…>", "YOUR_", "YOUR_…").Replace(strings.Join(match[1:], ""))
}

// Setting returns the setting with that name, which must be one.
func (f *Findings) Setting(name string) *Setting {
	return &f.Settings[slices.IndexFunc(f.Settings, func(s Setting) bool { return s.Name == name })]
}

// Redact keeps a secret from being shown as the value of another setting.
func (f *Findings) Redact(secret string) {
	f.secrets = append(f.secrets, strings.Trim(secret, ` "'`))
}

// Refuse sets the setting's error.
func (s *Setting) Refuse(want, got string) {
	name := s.Name
	if s.Source == s.fallbackSource() {
		name = s.Fallback
	}
	s.Err = fmt.Errorf("%s: want %s, got %s", name, want, got)
}

// Finish decides what may be shown of each setting, forgets the values, and
// returns all errors, one line each: the variable, what is wanted, what was got.
func (f *Findings) Finish() error {
	errs := f.errs
	for i := range f.Settings {
		s := &f.Settings[i]
		s.Shown = s.show(f.secrets)
		switch {
		case s.Source == "" && s.Required && !f.Unread:
			f.Incomplete = true
			s.Refuse(s.Want, "nothing"+s.placeholder)
		case s.Err == errRefused:
			s.Refuse(s.Want, s.Shown)
		case s.placeholder != "" && !s.Secret && (s.Source == "" || s.Source == "default"):
			f.Warnings = append(f.Warnings, s.Name+" counts as not set"+s.placeholder)
		case s.Shown == holdsSecret:
			f.Warnings = append(f.Warnings, s.Name+" contains the secret: set it to a value of its own")
		}
		s.value = ""
		errs = append(errs, s.Err)
	}
	f.secrets = nil
	return errors.Join(errs...)
}

// The limits in characters above which a value is shown only if it is public: it
// may be a secret in the wrong variable. Most variables refuse a secret; accepted
// are, for instance, audiences, which may be client IDs of 32 characters.
const maxRefused, maxAccepted = 20, 40

// public matches a URL, a host or a path, with parts too short for a secret. A
// Base64 secret has no dots, and a JWT has longer parts.
var public = regexp.MustCompile(strings.ReplaceAll(`(?i)^([a-z]{1,10}:/*)*(PART\.|~?[/\\])PART([./\\:?#]PART)*$`, "PART", `[\pL\d_*-]{0,32}`))

const holdsSecret = "the secret, not shown"

// show is what may be shown of the value, given the secrets. In a longer value,
// a short secret would be a coincidence.
func (s *Setting) show(secrets []string) string {
	items, limit := strings.Fields(strings.ReplaceAll(s.value, ",", " ")), maxAccepted
	if s.Err != nil {
		items, limit = []string{s.value}, maxRefused
	}
	switch {
	case s.Source == "":
		return "not set"
	case s.Secret:
		return "set, not shown"
	case slices.ContainsFunc(secrets, func(secret string) bool {
		return s.value == secret || len(secret) >= 8 && strings.Contains(s.value, secret)
	}):
		return holdsSecret
	case strings.ContainsAny(s.value, "@\r\n"), // a URL's password, or a line with another setting
		slices.ContainsFunc(items, func(item string) bool { return len(item) > limit && !public.MatchString(item) }):
		return fmt.Sprintf("%d characters, not shown", utf8.RuneCountInString(s.value))
	}
	return strconv.QuoteToASCII(s.value[:min(len(s.value), 100)])
}
