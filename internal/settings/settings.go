// Package settings reads a program's settings from the environment, then from
// .env.local, then from .env; the first that has a value wins. It says what is wrong
// with them, decides what may be shown of each value, and parses hosts, URLs and lists.
package settings

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Setting is one variable: what its caller declares, and what [Load] found.
type Setting struct {
	Name     string            // of the variable
	Default  string            // used where no source has a value
	Fallback string            // a variable of the environment that is read before the default
	Want     string            // what is expected, for error messages
	Required func() bool       // reports, after all are parsed, whether it must be set; nil: no
	Secret   bool              // its value is the secret
	Parse    func(string) bool // stores a value, or refuses it

	// Read, if not nil, reads the file that the value names: its text is secret too.
	Read func(path string) (text string, err error)

	Source string // environment, .env.local, .env, default, or the fallback; "" if not set
	Shown  string // what may be shown of the value

	value       string // "" after Load
	dir         string // what a file's relative path is relative to
	placeholder string // where a placeholder is in place of a value
	refused     bool   // by Parse or Read
	reason      string // why Read refused it
}

// Findings are the settings as they were found.
type Findings struct {
	Settings   []Setting
	Warnings   []string
	Incomplete bool // a setting that is required is not set

	secrets []string // nil after Load
}

// Load finds the values of the settings and parses them. It warns of what is probably a
// mistake, such as a variable that begins with prefix and is not a setting. With no dir
// it reads no files. The error joins all that is wrong, one line each. The values are
// forgotten: only what Parse stored has them.
func Load(table []Setting, prefix string, environ []string, dir string) (*Findings, error) {
	f := &Findings{Settings: table}
	sources, errs := readSources(environ, dir)
	errs = append(errs, f.judge(sources)...)
	f.warn()
	f.warnOfMisspeltNames(sources, prefix)
	f.forget()
	return f, errors.Join(errs...)
}

// A source has the values of variables.
type source struct {
	name, where string // environment, in the environment
	values      map[string]string
}

// readSources returns the environment and the .env files, the first to look at first.
func readSources(environ []string, dir string) (sources []source, errs []error) {
	environment := make(map[string]string)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	delete(environment, "") // Windows has entries like =C:=C:\dir
	sources = []source{{"environment", "in the environment", environment}}
	if dir == "" {
		return sources, nil
	}
	for _, name := range []string{".env.local", ".env"} {
		values, fileErrs := readEnvFile(dir, name)
		sources = append(sources, source{name, "in " + name, values})
		errs = append(errs, fileErrs...)
	}
	return sources, errs
}

// judge finds and parses all values before it decides what may be shown of each, and
// what is wrong with it: any of them may be, or name a file with, the secret.
func (f *Findings) judge(sources []source) (errs []error) {
	for i := range f.Settings {
		f.parse(&f.Settings[i], sources)
	}
	for i := range f.Settings {
		s := &f.Settings[i]
		s.Shown = f.shown(s)
		errs = append(errs, f.problem(s))
	}
	return errs
}

func (f *Findings) parse(s *Setting, sources []source) {
	for _, from := range sources {
		s.offer(from.values[s.Name], from.name)
	}
	s.offer(sources[0].values[s.Fallback], s.Fallback+" in the environment")
	s.offer(s.Default, "default")
	if s.Source == "" {
		return
	}
	s.refused = !s.Parse(s.value)
	if s.Secret {
		f.secrets = append(f.secrets, s.value)
	}
	if s.Read != nil {
		f.read(s)
	}
}

// none is what counts as no value: spaces, or a comment. A secret may begin with a #,
// but has no spaces after it.
var none = regexp.MustCompile(`^\s*(#.*\s.*)?$`)

// placeholder is what sample files and instructions have in place of a value. It is in
// capitals: your_api and tenant.us.auth0.com may be real.
var placeholder = regexp.MustCompile(
	`<YOUR_|\bYOUR_[A-Z]|<TENANT>|\bTENANT\.[a-z.]*auth0\.com|…`)

// offer gives the setting a value, unless an earlier source had one.
func (s *Setting) offer(value, source string) {
	if s.Source != "" || none.MatchString(value) {
		return
	}
	if placeholder.MatchString(value) {
		s.placeholder = cmp.Or(s.placeholder, ": the placeholder is still there ("+source+")")
		return
	}
	if !s.Secret {
		value = strings.TrimSpace(value)
	}
	s.Source, s.value = source, value
}

// read reads the file that the setting names.
func (f *Findings) read(s *Setting) {
	if !filepath.IsAbs(s.value) {
		dir, _ := os.Getwd()
		s.dir = fmt.Sprintf(" in %+q", dir)
	}
	text, err := s.Read(s.value)
	if err != nil {
		s.refused, s.reason = true, err.Error()
		return
	}
	f.secrets = append(f.secrets, text)
}

// shown is what may be shown of the setting's value.
func (f *Findings) shown(s *Setting) string {
	switch {
	case s.Source == "":
		return "not set"
	case s.Secret:
		return "set, not shown"
	}
	return f.show(s.value) + s.dir
}

// opaque is what a secret or a token has and, at that length, few other values: an Auth0
// client ID has 32 characters. A URL with an @ may have a password.
var opaque = regexp.MustCompile(`[A-Za-z0-9+/=_-]{41}|@`)

const (
	maxShown  = 100 // characters of a value
	minSecret = 8   // characters; a shorter secret may be a part of a value by chance
)

// show returns the text in quotes, or only its length if it may be or hold a secret.
func (f *Findings) show(text string) string {
	if f.holdsSecret(text) || opaque.MatchString(text) {
		return fmt.Sprintf("%d characters, not shown", utf8.RuneCountInString(text))
	}
	return fmt.Sprintf("%+.*q", maxShown, text)
}

func (f *Findings) holdsSecret(text string) bool {
	return slices.ContainsFunc(f.secrets, func(secret string) bool {
		secret = strings.Trim(secret, ` "'`)
		return text == secret || len(secret) >= minSecret && strings.Contains(text, secret)
	})
}

// problem returns what is wrong with the setting, or nil.
func (f *Findings) problem(s *Setting) error {
	switch {
	case s.Source == "" && s.required():
		f.Incomplete = true
		return fmt.Errorf("%s: want %s, got nothing%s", s.Name, s.Want, s.placeholder)
	case s.Source != "" && !s.Secret && f.holdsSecret(s.value): // it may be sent to others
		return s.Refuse("the client secret is in it")
	case s.refused:
		return s.Refuse(s.reason)
	}
	return nil
}

// Usable reports whether the setting has a value that was not refused.
func (s *Setting) Usable() bool { return s.Source != "" && !s.refused }

func (s *Setting) required() bool { return s.Required != nil && s.Required() }

// Refuse returns an error about the setting, which is set: what is expected, what was
// found and where, and the reason if there is more to say.
func (s *Setting) Refuse(reason string) error {
	if reason != "" {
		reason = ": " + reason
	}
	return fmt.Errorf("%s: want %s, got %s (%s)%s", s.Name, s.Want, s.Shown, s.Source, reason)
}

// forget removes the values, so that whatever prints the findings shows no secret.
func (f *Findings) forget() {
	f.secrets = nil
	for i := range f.Settings {
		f.Settings[i].value = ""
	}
}

// Setting returns the setting with that name, which must be one.
func (f *Findings) Setting(name string) *Setting {
	return &f.Settings[slices.IndexFunc(f.Settings, func(s Setting) bool { return s.Name == name })]
}
