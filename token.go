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
	// defaultLife is a token's life where IMS does not tell (RFC 6749 §5.1 leaves
	// that open): short enough to be safe, long enough not to be a burden.
	defaultLife = 5 * time.Minute

	// maxLife bounds what is believed of expires_in.
	maxLife = 24 * time.Hour

	// lastMoments is the end of a token's life in which it is not handed out: it
	// would die on its way. For a short-lived token it is a tenth of its life.
	lastMoments = 5 * time.Second
)

// An itwinToken is an access token of the iTwin Platform, with all that an
// answer and its log line need of it made once.
type itwinToken struct {
	access      secret
	bearer      []byte // "Bearer " and the token: the answer as text
	fingerprint string // of its SHA-256, the first 12 hex digits: for the log
	expires     time.Time
}

// newTokens keeps an iTwin token fresh by the client credentials grant, once its
// Run runs; report hears of each grant.
func newTokens(c config, transport http.RoundTripper, report func(time.Duration, error)) *fresh.Value[*itwinToken] {
	return fresh.New(fresh.Config[*itwinToken]{
		Fetch: func(ctx context.Context) (*itwinToken, fresh.Term, error) {
			begun := time.Now()
			access, life, err := grant(ctx, c, transport)
			if err != nil {
				return nil, fresh.Term{}, err
			}
			term := fresh.Term{Renew: life / 2, Until: life - min(life/10, lastMoments)}
			return newItwinToken(access, begun.Add(life)), term, nil
		},
		Report: report,
	})
}

// tokenExpires is when the last token granted expires; zero: there was none.
func (s *service) tokenExpires() time.Time {
	if token, had := s.tokens.Last(); had {
		return token.expires
	}
	return time.Time{}
}

func newItwinToken(access string, expires time.Time) *itwinToken {
	sum := sha256.Sum256([]byte(access))
	return &itwinToken{
		access:      newSecret(access),
		bearer:      []byte("Bearer " + access),
		fingerprint: hex.EncodeToString(sum[:6]),
		expires:     expires,
	}
}

// grant asks IMS for an access token with the client's own credentials (RFC 6749
// §4.4), and returns it with its life. Its errors are those of [upstream.Do], or
// tell what is wrong with the secret's file.
func grant(ctx context.Context, c config, transport http.RoundTripper) (access string, life time.Duration, err error) {
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
	status, body, err := upstream.Do(transport, req)
	if err != nil {
		return "", 0, err
	}
	if status != http.StatusOK {
		return "", 0, refusedGrant(req.URL.Host, status, body)
	}
	return parseGrant(req.URL.Host, body)
}

// parseGrant reads a successful answer (RFC 6749 §5.1) of the host.
func parseGrant(host string, body []byte) (access string, life time.Duration, err error) {
	var answer struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", 0, upstream.Errorf(upstream.Nonsense, "%s: want a token as JSON, got something else: check %sAUTHORITY", host, prefix)
	}
	if !isToken(answer.AccessToken) {
		return "", 0, upstream.Errorf(upstream.Nonsense, "%s: want an access_token, got none, or one with spaces or control characters: check %sAUTHORITY", host, prefix)
	}
	if answer.TokenType != "" && !strings.EqualFold(answer.TokenType, "Bearer") {
		return "", 0, upstream.Errorf(upstream.Nonsense, "%s: want a token of type Bearer, got another type", host)
	}
	life, ok := parseLife(answer.ExpiresIn)
	if !ok {
		return "", 0, upstream.Errorf(upstream.Nonsense, "%s: want expires_in as seconds, got something else", host)
	}
	return answer.AccessToken, life, nil
}

// isToken reports whether text can stand in a header, and in the one word that
// clients cut out of the answer.
func isToken(text string) bool {
	outside := func(r rune) bool { return r <= ' ' || r > '~' }
	return text != "" && !strings.ContainsFunc(text, outside)
}

// parseLife reads expires_in: seconds, as a number or, from some servers, as a
// string; absent, the default.
func parseLife(raw json.RawMessage) (time.Duration, bool) {
	text := strings.Trim(string(raw), `"`)
	if text == "" || text == "null" {
		return defaultLife, string(raw) != `""`
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds > 0) {
		return 0, false
	}
	return time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second)), true
}

// advice says what to do about each error code of a token endpoint (RFC 6749
// §5.2). A code that is not here is not repeated: it is the other side's text.
var advice = map[string]string{
	"invalid_client":         "check " + prefix + "CLIENT_ID and " + prefix + "CLIENT_SECRET (or its _FILE) against the application's page (developer.bentley.com, My Apps); a secret is shown only once, so make a new one if in doubt",
	"invalid_scope":          "set " + prefix + "SCOPE to itwin-platform, or to a scope that the application's page lists",
	"unauthorized_client":    "use an application of type Service (developer.bentley.com, My Apps): the others may not use the client credentials grant",
	"unsupported_grant_type": "check " + prefix + "AUTHORITY: its server has no client credentials grant",
	"invalid_request":        "check " + prefix + "AUTHORITY and " + prefix + "SCOPE",
	"invalid_grant":          "use an application of type Service (developer.bentley.com, My Apps)",
}

// refusedGrant makes an error of an answer that is no success.
func refusedGrant(host string, status int, body []byte) error {
	var answer struct {
		Error string `json:"error"`
	}
	json.Unmarshal(body, &answer) // what is no JSON has no code
	if todo, known := advice[answer.Error]; known {
		return upstream.Errorf(upstream.Refused, "%s: want a token, got %s: %s", host, answer.Error, todo)
	}
	if status/100 == 5 || status == http.StatusTooManyRequests {
		return upstream.Errorf(upstream.Refused, "%s: want a token, got status %d: IMS has trouble: try again later", host, status)
	}
	return upstream.Errorf(upstream.Refused, "%s: want a token, got status %d without a known error code: check %sAUTHORITY", host, status, prefix)
}
