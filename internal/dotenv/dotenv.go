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
	"strings"
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
	Hidden bool   // no more than the length may be shown
	Err    error  // why the value cannot be used

	value       string
	refused     bool   // by Parse
	placeholder string // found instead of a value, and where
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

const inEnvironment = " in the environment"

// A source is where settings come from.
type source struct {
	name   string
	values map[string]string
}

// Load finds the values of the settings and parses them. An empty variable, one
// of nothing but spaces, and one that holds a placeholder count as not set. It
// warns of variables that begin with prefix and are not settings. With no dir it
// reads no files. Its caller adds checks of its own, and then calls Finish.
func Load(settings []Setting, prefix string, environ []string, dir string) *Findings {
	f := &Findings{Settings: settings}
	environment := source{"environment", map[string]string{}}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); name != "" { // Windows has entries that begin with =
			environment.values[name] = value
		}
	}
	sources := []source{environment}
	for _, name := range []string{".env.local", ".env"} {
		if dir != "" {
			values, errs := readFile(dir, name, settings)
			f.Unread = f.Unread || values == nil
			f.errs = append(f.errs, errs...)
			sources = append(sources, source{name, values})
		}
	}
	f.Warnings = unknownNames(settings, prefix, sources)
	for i := range settings {
		s := &settings[i]
		f.resolve(s, append(slices.Clip(sources),
			source{s.Fallback + inEnvironment, map[string]string{s.Name: environment.values[s.Fallback]}},
			source{"default", map[string]string{s.Name: s.Default}}))
	}
	return f
}

// resolve takes the setting from the first source that has a value for it.
func (f *Findings) resolve(s *Setting, sources []source) {
	for _, from := range sources {
		value := from.values[s.Name]
		if s.Secret {
			f.secrets = append(f.secrets, value) // whether it is used or not
		} else {
			value = strings.TrimSpace(value)
		}
		switch found := Placeholder(value); {
		case strings.TrimSpace(value) == "":
		case found != "":
			s.placeholder = cmp.Or(s.placeholder, fmt.Sprintf("the placeholder %s is still there (%s)", found, from.name))
		case s.Source == "":
			s.Source, s.value = from.name, value
		}
	}
	s.refused = s.Source != "" && !s.Parse(s.value)
	if v := s.value; s.Source == "environment" && len(v) > 1 && v[0] == v[len(v)-1] && (v[0] == '"' || v[0] == '\'') {
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

// Redact keeps a secret that is not a setting's own value from being shown.
func (f *Findings) Redact(secret string) { f.secrets = append(f.secrets, secret) }

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
			s.Refuse(s.Want, "nothing")
			if s.placeholder != "" {
				s.Err = fmt.Errorf("%s: %s: want %s", s.Name, s.placeholder, s.Want)
			}
		case s.refused:
			s.Refuse(s.Want, s.Shown)
		case s.placeholder != "" && !s.Secret && (s.Source == "" || s.Source == "default"):
			f.Warnings = append(f.Warnings, s.Name+" counts as not set: "+s.placeholder)
		case s.Shown == holdsSecret:
			f.Warnings = append(f.Warnings, s.Name+" contains the secret: set it to a value of its own")
		}
		s.value = ""
		if s.Err != nil {
			errs = append(errs, s.Err)
		}
	}
	f.secrets = nil
	return errors.Join(errs...)
}

// Refuse sets the setting's error.
func (s *Setting) Refuse(want, got string) {
	name := s.Name
	if s.Source == s.Fallback+inEnvironment {
		name = s.Fallback
	}
	s.Err = fmt.Errorf("%s: want %s, got %s", name, want, got)
}
