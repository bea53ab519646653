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

// minSecret is the shortest secret that is looked for within values, in characters: a
// shorter one may be there by chance.
const minSecret = 8

// in reports whether the text is or contains a secret.
func (s secrets) in(text string) bool {
	return slices.ContainsFunc(s, func(secret string) bool {
		return text == secret || len(secret) >= minSecret && strings.Contains(text, secret)
	})
}

// opaque is what a secret or a token has and, at that length, few other values: an Auth0
// client ID has 32 characters. A URL with an @ may have a password.
var opaque = regexp.MustCompile(`[A-Za-z0-9+/=_-]{41}|@`)

const maxShown = 100 // characters

// show returns the text in quotes, or only its length if it may be or contain a secret.
func (s secrets) show(text string) string {
	if s.in(text) || opaque.MatchString(text) {
		return fmt.Sprintf("%d characters, not shown", utf8.RuneCountInString(text))
	}
	return fmt.Sprintf("%+.*q", maxShown, text)
}

// Shown is what may be shown of a text that is no setting, by the same rule.
func Shown(text string) string { return secrets(nil).show(text) }
