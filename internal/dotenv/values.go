package dotenv

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Each parser returns the value in its normal form, and whether it is valid.

// label is a part of a host's name between dots (RFC 1035 §2.3.1; some have a _).
const label = `[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?`

var (
	hostName = regexp.MustCompile(`^(?i:` + label + `\.)*(?i:` + label + `)\.?$`)
	domain   = regexp.MustCompile(`^(` + label + `\.)+` + label + `$`) // one label alone is a tenant's name without its domain
)

// Domain is a host of Auth0, with a port if it has one, also as a pasted URL or in
// capitals.
func Domain(text string) (string, bool) {
	text, ascii := strings.ToLower(text), isASCII(text)
	text = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(text, "https://"), "/"), ":443") // no issuer has that port
	host, port, _ := net.SplitHostPort(text)
	_, isPort := Port(port)
	_, isHost := Host(host)
	return text, ascii && (domain.MatchString(text) || isHost && host != "" && isPort && port != "0")
}

// Authority is an https URL to which a path can be added.
func Authority(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(text, "@?#") || !isASCII(text) {
		return "", false
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
	return strings.Fields(text), isASCII(text) && !strings.ContainsAny(text, `"\`)
}

// Host is a name or an address to listen on, an IPv6 one with or without its
// brackets.
func Host(text string) (string, bool) {
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	_, notIP := netip.ParseAddr(host)
	return host, notIP == nil || hostName.MatchString(host)
}

// Port is a number from 0 to 65535.
func Port(text string) (string, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return strconv.FormatUint(n, 10), err == nil
}

// Address is host:port; the host may be empty.
func Address(text string) (string, bool) {
	host, port, _ := net.SplitHostPort(text)
	_, isHost := Host(host)
	_, isPort := Port(port)
	return text, isPort && (isHost || host == "")
}

// origin is * or an origin as browsers send it (RFC 6454 §6.2): one with another
// wildcard, a path or a capital would never equal one.
var origin = regexp.MustCompile(`^(\*|[a-z][a-z0-9+.-]*://[a-z0-9\[][a-z0-9._:\]-]*)$`)

// Origins is a list of origins with commas. With a * in it, it is nil.
func Origins(text string) ([]string, bool) {
	origins, ok := List(text)
	for _, item := range origins {
		ok = ok && origin.MatchString(item)
	}
	if slices.Contains(origins, "*") {
		origins = nil
	}
	return origins, ok
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}
