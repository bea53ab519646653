// Package dotenv reads a program's settings from the environment, then from
// .env.local, then from .env; the first that has a value wins. It decides which
// values may be shown, and parses hosts, URLs and lists.
package dotenv

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
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
	File     bool              // its value names a file; one that names none may be a secret
	Parse    func(string) bool // stores a value, or refuses it

	Source string // of the value: "environment", ".env.local", ".env", "default", the fallback, or "" for none
	Shown  string // what may be shown of the value: the value in quotes, its length, or "not set"
	Got    string // why the value cannot be used, as the end of an error: want …, got …

	value       string
	refused     bool   // by Parse
	placeholder string // says where there is one instead of a value
}

// Findings are the settings as they were found, with warnings and errors.
type Findings struct {
	Settings   []Setting
	Warnings   []string
	Incomplete bool     // a required setting has no value
	Unread     bool     // a file could not be read: what seems not to be set may be in it
	Secrets    []string // no value that holds one is shown; nil after Finish

	errs []error // of files
}

const inEnvironment = " in the environment"

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
	delete(environment, "") // Windows has entries like =C:=C:\dir
	f.use(environment, "environment", prefix)
	if dir != "" {
		f.use(f.readFile(dir, ".env.local"), ".env.local", prefix)
		f.use(f.readFile(dir, ".env"), ".env", prefix)
	}
	for i := range settings {
		s := &settings[i]
		f.offer(s, environment[s.Fallback], s.Fallback+inEnvironment)
		f.offer(s, s.Default, "default")
		if s.Source == "" {
			continue
		}
		s.refused = !s.Parse(s.value)
		if s.File {
			if _, err := os.Stat(s.value); err != nil {
				s.Secret = !public.MatchString(s.value)
				s.Got = errors.Unwrap(err).Error() // without the name
			}
		}
		if s.Source == "environment" && inQuotes.MatchString(s.value) {
			f.Warnings = append(f.Warnings, s.Name+" begins and ends with a quote, which the environment makes a part of the value (docker run --env-file keeps quotes): remove them")
		}
	}
	return f
}

// use takes the settings out of a source, and warns of names that look like
// settings and are none. Where the = was forgotten, the value is a part of the
// name, and may be a secret.
func (f *Findings) use(values map[string]string, source, prefix string) {
	for i := range f.Settings {
		s := &f.Settings[i]
		f.offer(s, values[s.Name], source)
		delete(values, s.Name)
	}
	own := len(prefix) - 1 // where the names begin to differ, with the _ before
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		nearest := slices.MaxFunc(f.Settings, func(a, b Setting) int {
			return cmp.Compare(similarity(a.Name[own:], name[own:]), similarity(b.Name[own:], name[own:]))
		})
		shown := regexp.MustCompile(`^[A-Z0-9_]{0,40}`).FindString(name)
		for _, s := range f.Settings {
			if s.Secret && strings.HasPrefix(name, s.Name) {
				shown = s.Name // what follows it may be its value
			}
		}
		if shown != name {
			shown += "…"
		}
		f.Warnings = append(f.Warnings, fmt.Sprintf("%q in %s is not a setting; did you mean %s?", shown, strings.Replace(source, "environment", "the environment", 1), nearest.Name))
	}
}

// similarity is the number of pairs of letters that two names share, less the
// difference in length; whole words of b count again.
func similarity(a, b string) (shared int) {
	for i := range len(a) - 1 {
		if strings.Contains(b, a[i:i+2]) {
			shared++
		}
	}
	for word := range strings.SplitSeq(b[1:], "_") { // SECRET is CLIENT_SECRET, not SCOPE
		if strings.Contains(a, "_"+word) {
			shared += 2 * len(word)
		}
	}
	return shared - max(len(a)-len(b), len(b)-len(a))
}

// offer gives the setting its value, unless an earlier source had one.
func (f *Findings) offer(s *Setting, value, source string) {
	if s.Secret {
		f.Secrets = append(f.Secrets, value) // whether it is used or not
	} else {
		value = strings.TrimSpace(value)
	}
	switch {
	case strings.TrimSpace(value) == "", !s.Secret && strings.HasPrefix(value, "#"): // a comment after an empty value
	case Placeholder(value):
		s.placeholder = cmp.Or(s.placeholder, ": the placeholder is still there ("+source+")")
	case s.Source == "":
		s.Source, s.value = source, value
	}
	if strings.ContainsAny(value, "\r\n") { // in a file, another setting's quote closes it
		s.Got = "a line break, or an open quote (" + source + ")"
	}
}

var inQuotes = regexp.MustCompile(`^(".*"|'.*')$`)

// placeholder is upper case only: your_api and tenant.us.auth0.com may be real.
var placeholder = regexp.MustCompile(`<YOUR_|<TENANT>|\bYOUR_[A-Z]|\bTENANT\.[a-z.]*auth0\.com`)

// Placeholder reports whether text has what sample files and instructions have in
// place of a value, like <YOUR_ID>.
func Placeholder(text string) bool { return placeholder.MatchString(text) }

// Setting returns the setting with that name, which must be one.
func (f *Findings) Setting(name string) *Setting {
	return &f.Settings[slices.IndexFunc(f.Settings, func(s Setting) bool { return s.Name == name })]
}

// Finish decides what may be shown of each setting, forgets the values, and
// returns all errors, one line each: the variable, what is wanted, what was got.
func (f *Findings) Finish() error {
	errs := f.errs
	for i := range f.Settings {
		s := &f.Settings[i]
		s.Shown = f.show(s)
		switch {
		case s.Got != "":
		case s.refused:
			s.Got = s.Shown
		case !s.Secret && len(s.value) >= minSecret && f.holdsSecret(s.value): // it may be sent to others
			s.Got = "a value with a secret in it"
		case s.Source == "" && s.Required && !f.Unread:
			f.Incomplete = true
			s.Got = "nothing" + s.placeholder
		case s.placeholder != "" && !s.Secret && (s.Source == "" || s.Source == "default"):
			f.Warnings = append(f.Warnings, s.Name+" counts as not set"+s.placeholder)
		}
		name := s.Name
		if s.Source == s.Fallback+inEnvironment {
			name = s.Fallback
		}
		if s.Got != "" {
			errs = append(errs, fmt.Errorf("%s: want %s, got %s", name, s.Want, s.Got))
		}
		s.value = ""
	}
	f.Secrets = nil
	return errors.Join(errs...)
}

// A value may be a secret in the wrong variable if it is refused and longer than
// maxRefused, or opaque: more than the 32 characters of an Auth0 client ID in a row.
// It is not if it is public: a URL, a host or a path, with parts too short for a
// secret. A Base64 secret has no dots, and a JWT has longer parts.
const (
	maxRefused = 20
	minSecret  = 8 // a shorter secret may be a part of a value by chance
)

var (
	opaque = regexp.MustCompile(`[A-Za-z0-9+/=_-]{41}`)
	public = regexp.MustCompile(strings.ReplaceAll(`(?i)^([a-z]{1,10}:/*)*(PART\.|~?[/\\])PART([./\\:?#]PART)*$`, "PART", `[\pL\d_*-]{0,32}`))
)

func (f *Findings) show(s *Setting) string {
	hidden := f.holdsSecret(s.value) || strings.ContainsAny(s.value, "@\r\n") || // a URL's password, or a line with another setting
		!public.MatchString(s.value) && (opaque.MatchString(s.value) || s.refused && len(s.value) > maxRefused)
	switch {
	case s.Source == "":
		return "not set"
	case s.Secret:
		return "set, not shown"
	case hidden:
		return fmt.Sprintf("%d characters, not shown", utf8.RuneCountInString(s.value))
	}
	return strconv.QuoteToASCII(s.value[:min(len(s.value), 100)])
}

// holdsSecret reports whether a value is a secret, or contains a long one.
func (f *Findings) holdsSecret(value string) bool {
	return slices.ContainsFunc(f.Secrets, func(secret string) bool {
		secret = strings.Trim(secret, ` "'`)
		return value == secret || len(secret) >= minSecret && strings.Contains(value, secret)
	})
}
