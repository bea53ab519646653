package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
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

func newItwinToken(access string, expiry time.Time) *itwinToken {
	sum := sha256.Sum256([]byte(access))
	return &itwinToken{newSecret("Bearer " + access), hex.EncodeToString(sum[:6]), expiry}
}

// newTokens keeps an iTwin token fresh with the client credentials grant while
// its Run runs; report is called after each grant.
func newTokens(c config, transport http.RoundTripper, report func(time.Duration, error)) *fresh.Value[*itwinToken] {
	return fresh.New(fresh.Config[*itwinToken]{
		Fetch: func(ctx context.Context) (*itwinToken, fresh.Term, error) {
			start := time.Now() // a slow grant must not make the token look younger
			access, lifetime, err := grant(ctx, c, transport)
			if err != nil {
				return nil, fresh.Term{}, err
			}
			term := fresh.Term{Renew: lifetime / 2, Until: lifetime - min(lifetime/10, endMargin)}
			return newItwinToken(access, start.Add(lifetime)), term, nil
		},
		Report: report,
	})
}

// grant requests an access token with the client's own credentials (RFC 6749
// §4.4) and returns it with its lifetime. Its errors are those of [upstream.Do],
// or say what is wrong with the secret's file.
func grant(ctx context.Context, c config, transport http.RoundTripper) (access string, lifetime time.Duration, err error) {
	clientSecret, err := c.currentSecret()
	if err != nil {
		return "", 0, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {c.Scope}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Authority+"/connect/token", strings.NewReader(form.Encode()))
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
		return "", 0, grantError(answer)
	}
	return parseGrant(answer)
}

// parseGrant reads a successful token response (RFC 6749 §5.1).
func parseGrant(answer upstream.Answer) (access string, lifetime time.Duration, err error) {
	var body struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	wrong := ""
	err = json.Unmarshal(answer.Body, &body)
	lifetime, ok := parseLifetime(body.ExpiresIn)
	switch {
	case err != nil:
		wrong = "the answer is not a token response in JSON"
	case !isToken(body.AccessToken):
		wrong = "the answer has no usable access_token"
	case body.TokenType != "" && !strings.EqualFold(body.TokenType, "Bearer"):
		wrong = "the token_type is not Bearer"
	case !ok:
		wrong = "expires_in is not a number of seconds"
	default:
		return body.AccessToken, lifetime, nil
	}
	return "", 0, answer.Errorf(upstream.Nonsense, "%s: check %sAUTHORITY", wrong, prefix)
}

// isToken reports whether text can be sent in a header, and is the one word that
// clients expect after "Bearer ".
func isToken(text string) bool {
	notPrintable := func(r rune) bool { return r <= ' ' || r > '~' }
	return text != "" && !strings.ContainsFunc(text, notPrintable)
}

// parseLifetime reads expires_in: a number of seconds, at least 1, or a string of
// decimal digits, as some servers send. Absent or null means the default.
func parseLifetime(raw json.RawMessage) (time.Duration, bool) {
	text := string(raw)
	if text == "" || text == "null" {
		return defaultLifetime, true
	}
	if digits := strings.Trim(text, `"`); strings.Trim(digits, "0123456789") == "" {
		text = digits
	}
	seconds, err := strconv.ParseFloat(text, 64) // fails for any other string, which still has its quotes
	return time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second)), err == nil && seconds >= 1
}

// grantError says what to do about a response other than 200 (RFC 6749 §5.2). An
// error code that is not listed here is not repeated: it is upstream's text.
func grantError(answer upstream.Answer) error {
	var body struct {
		Error string `json:"error"`
	}
	json.Unmarshal(answer.Body, &body) // if it is not JSON there is no code
	const page = " on the application's page (developer.bentley.com, My Apps)"
	switch body.Error {
	case "invalid_client":
		return answer.Errorf(upstream.Refused, "invalid_client: check %[1]sCLIENT_ID and %[1]sCLIENT_SECRET (or its _FILE) against those"+page+"; a secret is shown there only once: if in doubt, make a new one", prefix)
	case "invalid_scope":
		return answer.Errorf(upstream.Refused, "invalid_scope: set %sSCOPE to itwin-platform, or to a scope that is listed"+page, prefix)
	case "unauthorized_client", "invalid_grant":
		return answer.Errorf(upstream.Refused, "%s: use an application of type Service (developer.bentley.com, My Apps): other types may not use the client credentials grant", body.Error)
	case "unsupported_grant_type":
		return answer.Errorf(upstream.Refused, "unsupported_grant_type: check %sAUTHORITY: that server has no client credentials grant", prefix)
	case "invalid_request":
		return answer.Errorf(upstream.Refused, "invalid_request: check %[1]sAUTHORITY and %[1]sSCOPE", prefix)
	}
	if answer.Status/100 == 5 || answer.Status == http.StatusTooManyRequests {
		return answer.Errorf(upstream.Refused, "status %d: IMS has a problem: try again later", answer.Status)
	}
	return answer.Errorf(upstream.Refused, "status %d without a known error code: check %sAUTHORITY", answer.Status, prefix)
}
