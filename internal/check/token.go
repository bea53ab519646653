package check

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/settings"
)

// maxLine bounds what is read from standard input, in bytes.
const maxLine = 64 << 10

// ReadToken returns the user token that was given: the argument, or for "-" the first line of
// stdin, for which a terminal's user is asked. Without an argument it is empty.
func ReadToken(args []string, stdin io.Reader, prompt io.Writer) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	given := args[0]
	if given == "-" {
		if isTerminal(stdin) {
			fmt.Fprint(prompt, "Paste the token and press Enter: ")
		}
		// If reading fails, what has been read shows whether it is a token.
		given, _ = bufio.NewReader(io.LimitReader(stdin, maxLine)).ReadString('\n')
	}
	given = strings.Trim(given, " \t\r\n")
	if bare(given) == "" { // for example an unset variable of the shell
		return "", errors.New("check: no user token was given: pass it as argument, or - " +
			"to read a line")
	}
	return given, nil
}

func isTerminal(r io.Reader) bool {
	file, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// What people copy with a token: the header's name, a scheme, with or without a colon, quotes,
// spaces. A word before a colon or a space is no part of a token.
var (
	sent   = regexp.MustCompile(`(?is)^(?:authorization:\s*)?([a-z]+[:\s])?(.*)`)
	around = regexp.MustCompile("(?i)^([\"'`“”‘’\\s]|[a-z]+[:\\s])*|[\"'`“”‘’\\s]+$")
)

// bare is what was given without what is around the token.
func bare(given string) string { return around.ReplaceAllString(given, "") }

// header is the Authorization header of an app that sends what was given: with Bearer before
// it, unless it has a scheme.
func header(given string) string {
	parts := sent.FindStringSubmatch(given)
	return cmp.Or(parts[1], "Bearer ") + parts[2]
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
	if claims["iss"] != nil && claims["iss"] != r.Issuer {
		refused = problem.Issuer
	}
	words := append(r.words,
		"{program}", r.Program,
		"{issuer}", settings.Shown(r.Issuer),
		"{now}", time.Now().UTC().Format(time.RFC3339),
		"{iss}", shown(claims["iss"]),
		"{aud}", shown(claims["aud"]),
		"{exp}", shown(claims["exp"]),
		"{nbf}", shown(claims["nbf"]),
		"{iat}", shown(claims["iat"]),
		"{kid}", shown(token.Header["kid"]),
		"{alg}", shown(token.Header["alg"]),
		"{scope}", shown(claims["scope"]),
		"{permissions}", shown(claims["permissions"]),
		"{org_id}", shown(claims["org_id"]),
		"{org_name}", shown(claims["org_name"]),
		"{kind}", r.kind(claims),
	)
	return strings.NewReplacer(words...).Replace(refused.Advice)
}

// clientID is an Auth0 application's, which is the audience of its ID tokens.
var clientID = regexp.MustCompile(`^[A-Za-z0-9]{32}$`)

// kind says what the token seems to be, if not an access token of Auth0.
func (r *Report) kind(claims jwt.MapClaims) string {
	if strings.HasPrefix(fmt.Sprint(claims["iss"]), r.Authority) {
		return "It is an iTwin token, like those that this server hands out. " +
			"Have the app send the token that it got from Auth0.\n"
	}
	if clientID.MatchString(fmt.Sprint(claims["aud"])) {
		return "It seems to be an ID token, which is for the app itself and has no scope, " +
			"not an access token.\n"
	}
	return ""
}

// shown is a claim as advice shows it. Those that are numbers are times.
func shown(claim any) string {
	if claim == nil {
		return "missing"
	}
	if seconds, ok := claim.(float64); ok {
		return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
	}
	return settings.Shown(strings.Trim(fmt.Sprint(claim), "[]")) // of a list
}
