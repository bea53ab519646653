package bearer

import (
	"strings"
	"testing"

	"itwin-token-server/internal/problem"
)

// What apps send by mistake in place of a token, after "Bearer ".
func TestMistakes(t *testing.T) {
	const token = "eyJh.eyJp.c2ln"
	for want, sent := range map[*problem.Problem][]string{
		problem.EmptyValue: {
			"undefined", "null", "[object Object]", "[object Promise]", "NaN", "{}", "[]", "None", "nil",
			"(null)", "<nil>", "false", "Undefined", `"undefined"`, `""`, "''",
		},
		problem.TwoSchemes: {"Bearer", "Bearer " + token, " BEARER " + token},
		problem.Quoted:     {`"` + token + `"`, "'" + token, "“" + token, `"Bearer ` + token + `"`},
		problem.Template: {
			"{{token}}", "{{ token }}", "{token}", "$TOKEN", "${TOKEN}", "${user.token ?? ''}", "<token>",
			"<YOUR ACCESS TOKEN>", "%TOKEN%", `Optional("` + token + `")`, "TOKEN", "ACCESS_TOKEN",
		},
		problem.TwoTokens: {
			token + " " + token, token + ", Bearer " + token, token + "," + token, "a b", "a,b",
		},
		problem.TooLong: {strings.Repeat("a", MaxToken+1)},
		nil: {
			token, token + " ", "secret-0123456789", "a.b.c", "d..e.f.g", "Nullable", "undefined2",
			"optional", "TOKENS", "bearers", "x<token>", strings.Repeat("a", MaxToken),
		},
	} {
		for _, text := range sent {
			got, err := Token([]string{"Bearer " + text})
			if want == nil && (got != strings.TrimSpace(text) || err != nil) {
				t.Errorf("Token(Bearer %s) = %q, %v, want the token", text, got, err)
			}
			if want != nil && err != want {
				t.Errorf("Token(Bearer %s) = %v, want %v", text, err, want)
			}
		}
	}
}
