package dotenv

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The parsers take what people type and paste. They return it as programs want
// it, and whether it can be used at all.

// hostName is a name of at least two labels (RFC 1035 §2.3.4); one alone, like a
// tenant's name without its domain, is a mistake.
var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Domain is a host, with a port if it has one, also as a pasted URL or in capitals.
func Domain(text string) (string, bool) {
	// Before ToLower, which makes an ASCII k of the Kelvin sign.
	if strings.ContainsFunc(text, notASCII) {
		return text, false
	}
	domain := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(text), "https://"), "/")
	host, port, err := net.SplitHostPort(domain)
	if err != nil {
		return domain, hostName.MatchString(domain)
	}
	_, isPort := Port(port)
	_, notIP := netip.ParseAddr(host)
	return domain, isPort && port != "0" && (host == "localhost" || notIP == nil || hostName.MatchString(host))
}

// Authority is an https URL to which a path can be added.
func Authority(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(text, "@?#") || strings.ContainsFunc(text, notASCII) {
		return text, false
	}
	return strings.TrimRight(u.String(), "/"), true
}

// Text is any text.
func Text(text string) (string, bool) { return text, true }

// List is a list with commas, of at least one item.
func List(text string) (items []string, ok bool) {
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items, items != nil
}

// Scopes is a list separated by spaces (RFC 6749 §3.3).
func Scopes(text string) ([]string, bool) {
	outside := func(r rune) bool { return notASCII(r) || r == '"' || r == '\\' }
	return strings.Fields(text), !strings.ContainsFunc(text, outside)
}

// Host is a name or an address to listen on, an IPv6 one with or without its
// brackets.
func Host(text string) (string, bool) {
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	_, notIP := netip.ParseAddr(host)
	return host, notIP == nil || !strings.ContainsAny(text, ":/[] ")
}

// Port is a number from 0 to 65535.
func Port(text string) (string, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return strconv.FormatUint(n, 10), err == nil
}

// Address is host:port; the host may be empty.
func Address(text string) (string, bool) {
	_, port, err := net.SplitHostPort(text)
	_, isPort := Port(port)
	return text, err == nil && isPort
}

// Origins is a list with commas, of * and of origins as browsers send them (RFC
// 6454 §6.2): one with another wildcard or a capital would never equal one.
// With a * in it, it is nil.
func Origins(text string) ([]string, bool) {
	origins, ok := List(text)
	for _, origin := range origins {
		u, err := url.Parse(origin)
		ok = ok && (origin == "*" || err == nil && u.Scheme != "" && u.Hostname() != "" && origin == u.Scheme+"://"+u.Host &&
			origin == strings.ToLower(origin) && !strings.Contains(origin, "*"))
	}
	if slices.Contains(origins, "*") {
		return nil, ok
	}
	return origins, ok
}

// notASCII reports characters outside printable ASCII, such as the lookalikes of
// other scripts.
func notASCII(r rune) bool { return r < ' ' || r > '~' }

// The limits in characters above which a value is shown only if it is public: it
// may be a secret in the wrong variable. Most variables refuse a secret; accepted
// are, for instance, audiences, which may be client IDs of 32 characters.
const maxRefused, maxAccepted = 20, 40

// public matches a URL, a host or a path, with parts too short for a secret. A
// Base64 secret has no dots, and a JWT has longer labels.
var public = regexp.MustCompile(`(?i)^(([a-z]{2,10}:/{0,2})*([\pL\d_*-]{1,63}\.)+[\pL\d-]{1,24}\.?(:\w{0,5})?([/\\?#][\w.-]{0,32})*|` +
	`(~|\.\.?|[a-z]:)?([/\\][\w.-]{0,32})+)$`)

const holdsSecret = "the secret, not shown"

// show is what may be shown of the value, given the secrets.
func (s *Setting) show(secrets []string) string {
	switch {
	case s.Source == "":
		return "not set"
	case s.Secret:
		return "set, not shown"
	case slices.ContainsFunc(secrets, s.holds):
		return holdsSecret
	case strings.Contains(s.value, "@"):
		return "a value with an @, not shown" // it may be a URL's password
	}
	isLong := func(item string) bool {
		length, limit := len(item), maxAccepted
		if s.refused || s.Err != nil {
			length, limit = len(s.value), maxRefused
		}
		return length > limit && !public.MatchString(item)
	}
	items := strings.FieldsFunc(s.value, func(r rune) bool { return r == ' ' || r == ',' })
	if s.Hidden || slices.ContainsFunc(items, isLong) {
		return fmt.Sprintf("%d characters, not shown", utf8.RuneCountInString(s.value))
	}
	return strconv.QuoteToASCII(s.value[:min(len(s.value), 100)])
}

// holds reports whether the value is the secret, or contains it. In a longer value,
// a short secret would be a coincidence.
func (s *Setting) holds(secret string) bool {
	secret = strings.Trim(secret, ` "'`)
	return secret != "" && (s.value == secret || len(secret) >= 8 && strings.Contains(s.value, secret))
}
