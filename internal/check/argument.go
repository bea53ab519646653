package check

import (
	"errors"
	"io"
	"regexp"
)

// maxArgument bounds what is read of a token, in bytes.
const maxArgument = 64 << 10

// wrapping is what people paste around a token: the header's name, the scheme,
// quotes, a newline.
var wrapping = regexp.MustCompile(`(?i)^["'\s]*(authorization:\s*)?(bearer\s+)?["'\s]*|["'\s]+$`)

// Token is the token that the arguments mean: none, or the first itself, or for
// "-" what stdin has.
func Token(arguments []string, stdin io.Reader) (string, error) {
	if len(arguments) == 0 {
		return "", nil
	}
	text := arguments[0]
	if text == "-" {
		read, err := io.ReadAll(io.LimitReader(stdin, maxArgument))
		if err != nil {
			return "", err
		}
		text = string(read)
	}
	token := wrapping.ReplaceAllString(text, "")
	if token == "" { // an unset variable of a shell, say: that is not "all is well"
		return "", errors.New("check: want a token, got an empty one")
	}
	return token, nil
}
