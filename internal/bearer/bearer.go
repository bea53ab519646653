// Package bearer takes the user token from a request, and names the mistakes that apps
// make when they send one.
package bearer

import (
	"regexp"
	"strings"

	"itwin-token-server/internal/problem"
)

// MaxToken bounds a user token, in bytes: ten times what Auth0 sends.
const MaxToken = 8 << 10

// Token takes the token from the values of the Authorization header (RFC 6750 §2.1).
func Token(header []string) (string, error) {
	if len(header) > 1 { // a proxy may have checked the other one
		return "", problem.TwoHeaders
	}
	if len(header) == 0 || header[0] == "" {
		return "", problem.NoToken
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	token = strings.Trim(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", problem.OtherScheme
	case token == "":
		return "", problem.NoToken
	case len(token) > MaxToken:
		return "", problem.TooLong
	}
	// Most tokens have the form of a JWT; this saves them the patterns below.
	if strings.HasPrefix(token, "eyJ") && strings.Count(token, ".") == 2 {
		return token, nil
	}
	for _, m := range mistakes {
		if m.sent.MatchString(token) {
			return "", m.problem
		}
	}
	if strings.ContainsAny(token, " ,") {
		return "", problem.TwoTokens
	}
	return token, nil
}

// mistakes are what programs send in place of a token. The first that matches counts. No
// pattern looks at more than the beginning: a token has up to 8 KiB.
var mistakes = []struct {
	problem *problem.Problem
	sent    *regexp.Regexp
}{
	// Missing values, as JavaScript, Swift, Objective-C, Go, Python and shells print them.
	{problem.EmptyValue, regexp.MustCompile(`(?i)^["']?(undefined|null|nan|nil|none|false)?["']?$`)},
	{problem.EmptyValue, regexp.MustCompile(`^(\(null\)$|<nil>$|\{\}$|\[\]$|\[object )`)},
	{problem.TwoSchemes, regexp.MustCompile(`(?i)^bearer( |$)`)},
	{problem.Quoted, regexp.MustCompile("^[\"'`“”‘’]")},
	{problem.Template, regexp.MustCompile(`^(<|\$|\{+ ?\w|%\w{1,40}%|Optional\()`)},
	{problem.Template, regexp.MustCompile(`^[A-Z_]{0,30}TOKEN$`)},
}
