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

	// Read, if not nil, reads the file that the value names, or says why it cannot be used.
	// The text is treated as a secret: no value may contain it.
	Read func(path string) (text string, err error)

	Source  string // environment, .env.local, .env, default, or the fallback; "" if not set
	Shown   string // what may be shown of the value
	Refused bool   // by Parse or Read, or since it contains a secret

	value  string // forgotten at the end of Load
	reason error  // why it has no value, or is refused; nil if there is no more to say
}

// Findings are the settings as they were found.
type Findings struct {
	Settings   []*Setting
	Warnings   []string
	Incomplete bool // a setting that is required is not set
}

// Load finds the values of the settings and parses them. It warns of what is probably a
// mistake, such as a variable that begins with prefix and is not a setting. With no dir
// it reads no files. The error joins all that is wrong, one line each. The values are
// forgotten: only what Parse and Read stored has them.
func Load(table []*Setting, prefix string, environ []string, dir string) (*Findings, error) {
	f := &Findings{Settings: table}
	sources, errs := readSources(environ, dir)
	// All secrets must be known before a value is shown: it may contain one.
	var known secrets
	for _, s := range table {
		s.find(sources)
		if s.Source != "" {
			known = append(known, s.parse())
		}
	}
	for _, s := range table {
		errs = append(errs, f.judge(s, known))
		f.warn(s)
		s.value = ""
	}
	f.warnOfMisspeltNames(sources, prefix, known)
	return f, errors.Join(errs...)
}

// Setting returns the setting with that name, which must be one.
func (f *Findings) Setting(name string) *Setting {
	return f.Settings[slices.IndexFunc(f.Settings, func(s *Setting) bool { return s.Name == name })]
}

// A source has the values of variables.
type source struct {
	name   string
	values map[string]string
}

// readSources returns the environment and the .env files, the first to look at first.
func readSources(environ []string, dir string) (sources []source, errs []error) {
	environment := make(map[string]string)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	// Windows has entries without a name, like =C:=C:\dir. A setting without a Fallback
	// looks for one, and must find nothing.
	delete(environment, "")
	sources = []source{{"environment", environment}}
	if dir == "" {
		return sources, nil
	}
	for _, name := range []string{".env.local", ".env"} {
		values, fileErrs := readEnvFile(dir, name)
		sources = append(sources, source{name, values})
		errs = append(errs, fileErrs...)
	}
	return sources, errs
}

// find takes the value of the first source that has one.
func (s *Setting) find(sources []source) {
	for _, from := range sources {
		s.offer(from.values[s.Name], from.name)
	}
	s.offer(sources[0].values[s.Fallback], s.Fallback+" in the environment")
	s.offer(s.Default, "default")
}

// none is what counts as no value: spaces, or a comment. A secret that begins with a # is a
// comment only if it has a space; for other settings see offer.
var none = regexp.MustCompile(`^\s*(#.*\s.*)?$`)

// placeholder is what sample files and instructions have in place of a value. It is in
// capitals: your_api and tenant.us.auth0.com may be real.
var placeholder = regexp.MustCompile(`\bYOUR_|<TENANT>|\bTENANT\.[a-z]|…`)

// offer gives the setting a value, unless an earlier source had one.
func (s *Setting) offer(value, source string) {
	if !s.Secret {
		value = strings.TrimSpace(value)
	}
	if s.Source != "" || none.MatchString(value) || !s.Secret && value[0] == '#' {
		return
	}
	if placeholder.MatchString(value) {
		s.reason = cmp.Or(s.reason, fmt.Errorf("the placeholder is still there (%s)", source))
		return
	}
	s.Source, s.value, s.reason = source, value, nil
}

// parse gives the value to Parse and Read. It returns the secret: the value itself, the
// text of the file that it names, or "" if it is none. Quotes and spaces around it are
// removed, since a copy elsewhere may lack them.
func (s *Setting) parse() (secret string) {
	if s.Secret {
		secret = s.value
	}
	if s.Read != nil {
		secret, s.reason = s.Read(s.value)
	}
	s.Refused = !s.Parse(s.value) || s.reason != nil
	return strings.Trim(secret, ` "'`)
}

var errHoldsSecret = errors.New("the client secret is in it") // others may get to see it

// judge decides what may be shown of the setting, and returns what is wrong with it.
func (f *Findings) judge(s *Setting, known secrets) error {
	if s.Source == "" {
		s.Shown = "not set"
		return f.judgeUnset(s)
	}
	s.Shown = known.show(s.value, s.Read != nil)
	if s.Read != nil && !filepath.IsAbs(s.value) {
		dir, _ := os.Getwd()
		s.Shown += fmt.Sprintf(" in %+q", dir)
	}
	if s.Secret {
		s.Shown = "a value, not shown"
	} else if known.in(s.value) {
		s.Refused, s.reason = true, errHoldsSecret
	}
	if s.Refused {
		return s.wrong(s.Shown+" ("+s.Source+")", s.reason)
	}
	return nil
}

// judgeUnset returns an error if the setting, which is not set, is required.
func (f *Findings) judgeUnset(s *Setting) error {
	if s.Required != nil && s.Required() {
		f.Incomplete = true
		return s.wrong("nothing", s.reason)
	}
	if s.reason != nil && !s.Secret { // the secret may be in a file instead
		f.Warnings = append(f.Warnings, s.Name+": "+s.reason.Error())
	}
	return nil
}

// wrong returns an error with what is expected, what was found, and the reason if there
// is more to say.
func (s *Setting) wrong(found string, reason error) error {
	if reason != nil {
		found += ": " + reason.Error()
	}
	return fmt.Errorf("%s: want %s, got %s", s.Name, s.Want, found)
}
