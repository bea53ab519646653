package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/upstream"
)

const (
	// defaultLifetime is used where IMS sends no expires_in, which RFC 6749 §5.1
	// allows.
	defaultLifetime = 5 * time.Minute

	// maxLifetime bounds what is believed of expires_in.
	maxLifetime = 24 * time.Hour

	// endMargin is the end of a token's lifetime in which it is not handed out,
	// since it would expire before it is used. For a short-lived token it is the
	// last tenth.
	endMargin = 5 * time.Second
)

// An itwinToken is an access token of the iTwin Platform, with what a response
// and its log line need.
type itwinToken struct {
	bearer      secret // "Bearer " and the token: the response as text
	fingerprint string // the first 12 hex digits of its SHA-256, for the log
	expiry      time.Time
}

// newTokens keeps an iTwin token fresh with the client credentials grant while its Run
// runs; report is called after each grant.
func newTokens(
	c config, transport http.RoundTripper, report func(time.Duration, error),
) *fresh.Value[*itwinToken] {
	return fresh.New(fresh.Config[*itwinToken]{
		Fetch: func(ctx context.Context) (*itwinToken, fresh.Term, error) {
			start := time.Now() // a slow grant must not make the token look younger
			access, lifetime, err := grant(ctx, c, transport)
			if err != nil {
				return nil, fresh.Term{}, err
			}
			sum := sha256.Sum256([]byte(access))
			token := &itwinToken{
				bearer:      newSecret("Bearer " + access),
				fingerprint: hex.EncodeToString(sum[:6]),
				expiry:      start.Add(lifetime),
			}
			return token, fresh.Term{
				Renew: lifetime / 2,
				Until: lifetime - min(lifetime/10, endMargin),
			}, nil
		},
		Report: report,
	})
}

// grant requests an access token with the client's own credentials (RFC 6749 §4.4) and
// returns it with its lifetime. Its errors are those of package upstream, or say what is
// wrong with the secret's file.
func grant(
	ctx context.Context, c config, transport http.RoundTripper,
) (access string, lifetime time.Duration, err error) {
	clientSecret, err := c.currentSecret()
	if err != nil {
		return "", 0, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {c.Scope}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Authority+"/connect/token",
		strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	// Both halves are form-encoded first (RFC 6749 §2.3.1): secrets hold + / = :
	req.SetBasicAuth(url.QueryEscape(c.ClientID), url.QueryEscape(clientSecret.reveal()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	answer, err := upstream.Do(transport, req)
	if err != nil {
		return "", 0, err
	}
	if answer.Status != http.StatusOK {
		return "", 0, refusal(answer)
	}
	return parseGrant(answer)
}

// parseGrant reads a successful token response (RFC 6749 §5.1).
func parseGrant(answer upstream.Answer) (access string, lifetime time.Duration, err error) {
	var body struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   any    `json:"expires_in"`
	}
	if json.Unmarshal(answer.Body, &body) != nil {
		return "", 0, nonsense(answer, "the answer is not a token response in JSON")
	}
	if !usableToken.MatchString(body.AccessToken) {
		return "", 0, nonsense(answer, "the answer has no usable access_token")
	}
	if body.TokenType != "" && !strings.EqualFold(body.TokenType, "Bearer") {
		return "", 0, nonsense(answer, "the token_type is not Bearer")
	}
	seconds := parseSeconds(body.ExpiresIn)
	if seconds < 1 {
		return "", 0, nonsense(answer, "expires_in is not a number of seconds, at least 1")
	}
	seconds = min(seconds, maxLifetime.Seconds())
	return body.AccessToken, time.Duration(seconds * float64(time.Second)), nil
}

// nonsense returns the error for an answer that is no token response.
func nonsense(answer upstream.Answer, what string) error {
	return answer.Errorf(upstream.Nonsense, "%s: check %sAUTHORITY", what, prefix)
}

// usableToken matches what can be sent in a header, and is the one word that clients expect
// after "Bearer ".
var usableToken = regexp.MustCompile(`^[!-~]+$`)

// parseSeconds reads expires_in: a number, or a string of decimal digits, as some servers
// send. Nil means the default, and anything else is 0.
func parseSeconds(expiresIn any) float64 {
	switch value := expiresIn.(type) {
	case nil:
		return defaultLifetime.Seconds()
	case float64:
		return value
	case string:
		seconds, _ := strconv.ParseUint(value, 10, 64) // the largest uint64 for too many digits
		return float64(seconds)
	}
	return 0
}

// grantAdvice says what to do about an error code of IMS (RFC 6749 §5.2).
var grantAdvice = map[string]string{
	"invalid_client": "check " + prefix + "CLIENT_ID and " + prefix + "CLIENT_SECRET " +
		"(or its _FILE) against those" + onPage + "; a secret is shown there only once: " +
		"if in doubt, make a new one",
	"invalid_scope": "set " + prefix + "SCOPE to itwin-platform, or to a scope that is " +
		"listed" + onPage,
	"unauthorized_client": otherType,
	"invalid_grant":       otherType,
	"unsupported_grant_type": "check " + prefix + "AUTHORITY: that server has no client " +
		"credentials grant",
	"invalid_request": "check " + prefix + "AUTHORITY and " + prefix + "SCOPE",
}

const (
	onPage    = " on the application's page (developer.bentley.com, My Apps)"
	otherType = "use an application of type Service (developer.bentley.com, My Apps): " +
		"other types may not use the client credentials grant"
)

// refusal says what to do about a response other than 200. An error code without advice is
// not repeated: it is upstream's text.
func refusal(answer upstream.Answer) error {
	var body struct {
		Error string `json:"error"`
	}
	json.Unmarshal(answer.Body, &body) // if it is not JSON there is no code
	if advice, known := grantAdvice[body.Error]; known {
		return answer.Errorf(upstream.Refused, "%s: %s", body.Error, advice)
	}
	if answer.Status/100 == 5 {
		return answer.Errorf(upstream.Refused, "status %d: IMS has a problem: try again later",
			answer.Status)
	}
	return answer.Errorf(upstream.Refused, "status %d without a known error code: check %sAUTHORITY",
		answer.Status, prefix)
}
