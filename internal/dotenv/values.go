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

// The parsers take what people type and paste. They return it as programs want
// it, and whether it can be used at all.

// hostName is a name of at least two labels (RFC 1035 §2.3.4); one alone, like a
// tenant's name without its domain, is a mistake.
var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Domain is a host, with a port if it has one, also as a pasted URL or in capitals.
func Domain(text string) (string, bool) {
	domain := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(text), "https://"), "/")
	host, port, _ := net.SplitHostPort(domain)
	_, isPort := Port(port)
	_, notIP := netip.ParseAddr(host)
	withPort := isPort && port != "0" && (host == "localhost" || notIP == nil || hostName.MatchString(host))
	return domain, isASCII(text) && (withPort || hostName.MatchString(domain))
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
	host := strings.Trim(text, "[]")
	_, notIP := netip.ParseAddr(host)
	return host, notIP == nil || !strings.ContainsAny(host, ":/ ")
}

// Port is a number from 0 to 65535.
func Port(text string) (string, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return strconv.FormatUint(n, 10), err == nil
}

// Address is host:port; the host may be empty.
func Address(text string) (string, bool) {
	_, port, _ := net.SplitHostPort(text)
	_, isPort := Port(port)
	return text, isPort
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
