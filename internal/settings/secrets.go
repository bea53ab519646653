package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// secrets are texts that must not be shown.
type secrets []string

// minSecret is the shortest secret that is looked for within values, in bytes: a
// shorter one may be there by chance.
const minSecret = 8

// in reports whether the text is or contains a secret.
func (s secrets) in(text string) bool {
	return slices.ContainsFunc(s, func(secret string) bool {
		return text == secret || len(secret) >= minSecret && strings.Contains(text, secret)
	})
}

// looksSecret matches what looks like a secret or a token: 41 such characters in a row (an
// Auth0 client ID has 32), or an @, since a URL with one may contain a password.
var looksSecret = regexp.MustCompile(`[A-Za-z0-9+/=_-]{41}|@`)

const maxShown = 100 // characters

// path matches the path of a file, however long, if each name in it has at most 40
// characters, and none that only Base64 has: that is not a secret in the wrong place.
var path = regexp.MustCompile(`^([\w .:-]{0,40}[/\\])*[\w .:-]{0,40}$`)

// show returns the text in quotes, or only its length if it may be or contain a secret.
func (s secrets) show(text string, isPath bool) string {
	if s.in(text) || looksSecret.MatchString(text) && !(isPath && path.MatchString(text)) {
		return fmt.Sprintf("%d characters, not shown", utf8.RuneCountInString(text))
	}
	return fmt.Sprintf("%+.*q", maxShown, text)
}

// Shown is what may be shown of a text that is no setting, by the same rule.
func Shown(text string) string { return secrets(nil).show(text, false) }
