package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/problem"
)

// ErrInterrupted is returned if ctx ends before the check does.
var ErrInterrupted = errors.New("check: interrupted")

// maxGiven bounds what is read from standard input, in bytes.
const maxGiven = 64 << 10

// ReadToken returns the user token that was given: the argument, or for "-" what stdin has, of
// which a terminal's user is asked for one line. Line breaks become spaces, since no header
// has them. Without an argument it is empty. It returns as soon as ctx ends, though the
// goroutine that reads stdin cannot.
func ReadToken(ctx context.Context, args []string, stdin io.Reader, prompt io.Writer) (
	string, error,
) {
	if len(args) == 0 {
		return "", nil
	}
	given := args[0]
	if given == "-" {
		read := make(chan string, 1)
		go func() { read <- readStdin(stdin, prompt) }()
		select {
		case given = <-read:
		case <-ctx.Done():
			return "", ErrInterrupted
		}
	}
	if bare(given) == "" { // for example an unset variable of the shell
		return "", errors.New("check: no user token was given: pass it as argument, or - to read it")
	}
	return strings.Join(strings.Fields(given), " "), nil
}

// readStdin reads to the end, or at a terminal one line. If it fails, what it has read so far
// shows whether it is a token.
func readStdin(stdin io.Reader, prompt io.Writer) string {
	in := io.LimitReader(stdin, maxGiven)
	if isTerminal(stdin) {
		fmt.Fprint(prompt, "Paste the token and press Enter: ")
		return readLine(in)
	}
	text, _ := io.ReadAll(in)
	return string(text)
}

func readLine(r io.Reader) string {
	line, _ := bufio.NewReader(r).ReadString('\n')
	return line
}

func isTerminal(r io.Reader) bool {
	file, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// What people copy with a token: the header's name, a scheme, quotes, spaces.
var (
	headerName = regexp.MustCompile(`(?i)^authorization: *`)
	scheme     = regexp.MustCompile(`^[A-Za-z]+ `)
	around     = regexp.MustCompile("(?i)^([\"'`“”‘’\\s]|authorization:|[a-z]+ )*|[\"'`“”‘’\\s]+$")
)

// bare is what was given without what is around the token.
func bare(given string) string { return around.ReplaceAllString(given, "") }

// header is the Authorization header of an app that sends what was given: with Bearer before
// it, unless it has a scheme.
func header(given string) string {
	value := headerName.ReplaceAllString(given, "")
	if scheme.MatchString(value) {
		return value
	}
	return "Bearer " + value
}

// advice says what to do about a token that was refused, and where. Nothing in the token is
// verified, and it quotes only claims that name no person. A token of another issuer is
// refused for that in the end, whatever the server saw first.
func (r *Report) advice(raw string, refused *problem.Problem) string {
	claims := jwt.MapClaims{}
	token, _, _ := jwt.NewParser().ParseUnverified(raw, claims)
	if token == nil { // it has not three parts
		token = new(jwt.Token)
	}
	issuer, _ := claims.GetIssuer()
	if issuer != "" && issuer != r.Issuer {
		refused = problem.Issuer
	}
	words := append(r.words,
		"{program}", r.Program,
		"{issuer}", r.Issuer,
		"{now}", utc(float64(time.Now().Unix())),
		"{iss}", shown(issuer),
		"{aud}", shown(claims["aud"]),
		"{exp}", utc(number(claims, "exp")),
		"{nbf}", utc(max(number(claims, "nbf"), number(claims, "iat"))),
		"{kid}", shown(token.Header["kid"]),
		"{alg}", shown(token.Header["alg"]),
		"{scope}", shown(claims["scope"]),
		"{permissions}", shown(claims["permissions"]),
		"{org_id}", shown(claims["org_id"]),
		"{org_name}", shown(claims["org_name"]),
		"{kind}", kind(claims, issuer, r.Authority),
	)
	return strings.NewReplacer(words...).Replace(refused.Advice)
}

// clientID is an Auth0 application's, which is the audience of its ID tokens.
var clientID = regexp.MustCompile(`^[A-Za-z0-9]{32}$`)

// kind says what the token seems to be, if not an access token of Auth0.
func kind(claims jwt.MapClaims, issuer, authority string) string {
	audience, _ := claims["aud"].(string)
	switch {
	case strings.HasPrefix(issuer, authority):
		return "It is an iTwin token, like those that this server hands out. " +
			"Have the app send the token that it got from Auth0.\n"
	case claims["nonce"] != nil, claims["at_hash"] != nil,
		claims["scope"] == nil && clientID.MatchString(audience):
		return "It seems to be an ID token, which is for the app itself and has no scope, " +
			"not an access token.\n"
	}
	return ""
}

// number is a claim that is a number, else 0.
func number(claims jwt.MapClaims, name string) float64 {
	number, _ := claims[name].(float64)
	return number
}

// utc is a time of a token, in seconds since 1970.
func utc(seconds float64) string {
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}

// opaque is what a secret has, and few other values: an Auth0 client ID has 32 characters.
var opaque = regexp.MustCompile(`[A-Za-z0-9+/=_-]{41}|@`)

// shown is a claim in quotes, in printable ASCII and not long, or the length of what may be a
// secret in the wrong place.
func shown(claim any) string {
	text := strings.Trim(fmt.Sprint(claim), "[]") // of a list
	if claim == nil || text == "" {
		return "missing"
	}
	if opaque.MatchString(text) {
		return fmt.Sprintf("%d characters, not shown", utf8.RuneCountInString(text))
	}
	return fmt.Sprintf("%+.128q", text)
}
