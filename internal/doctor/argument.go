package doctor

import (
	"io"
	"strings"
)

// maxArgument bounds what is read of a token, in bytes.
const maxArgument = 64 << 10

// Token is the token that a command's argument means: itself, or for "-" what
// stdin has. People paste it with the scheme, quotes and a newline around it.
func Token(argument string, stdin io.Reader) (string, error) {
	if argument == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, maxArgument))
		if err != nil {
			return "", err
		}
		argument = string(text)
	}
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(argument), "Bearer "), "\"' "), nil
}
