package settings

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Each parser returns the value in its normal form, and whether it is valid. If it is not,
// what is returned for it means nothing.

// label is a part of a host's name between dots (RFC 1035 §2.3.1; some have a _).
const label = `[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?`

var (
	hostName = regexp.MustCompile(`^(` + label + `\.)*` + label + `$`)
	domain   = regexp.MustCompile(`^(` + label + `\.)+` + label + `$`) // one label is a tenant's name
)

// aroundDomain is what a pasted URL has around it. No issuer has the port 443.
var aroundDomain = regexp.MustCompile(`^(?i:https://)|(:443)?/?$`)

// Domain is a host of Auth0, with a port if it has one, also as a pasted URL or in
// capitals. Without a port it has a dot.
func Domain(text string) (string, bool) {
	host := aroundDomain.ReplaceAllString(text, "")
	_, isAddress := Address(host)
	return strings.ToLower(host), isAddress && host[0] != ':' || domain.MatchString(host)
}

// authority has no user, query or fragment: a path is added to it.
var authority = regexp.MustCompile(
	`^(?i:https)://[A-Za-z0-9\[][A-Za-z0-9._:\]-]*(/[A-Za-z0-9._~/-]*)?$`)

// Authority is an https URL. It is returned with its scheme in lower case.
func Authority(text string) (string, bool) {
	_, rest, _ := strings.Cut(text, ":")
	return "https:" + strings.TrimRight(rest, "/"), authority.MatchString(text)
}

// invisible is a control or format character, such as a line break or U+200B, or what is not
// text in UTF-8, which regexp reads as U+FFFD.
var invisible = regexp.MustCompile(`[\pC\x{FFFD}]`)

// Text is any text in one line.
func Text(text string) (string, bool) { return text, !invisible.MatchString(text) }

// notList is what makes a list other than what is meant: items that are separated by
// spaces, JSON, typographic quotes.
var notList = regexp.MustCompile(`[^\s,][\s\pZ]+[^\s,]|[\[\]{}"'“”‘’]`)

// List is a list with commas, of at least one item.
func List(text string) ([]string, bool) {
	items := strings.Fields(strings.ReplaceAll(text, ",", " "))
	return items, len(items) > 0 && !notList.MatchString(text) && !invisible.MatchString(text)
}

// scopes allows the characters of RFC 6749 §3.3 (space, !, # to +, - to [, ] to ~) except the
// comma, which is meant as a separator.
var scopes = regexp.MustCompile(`^[ !#-+\--\[\]-~]*$`)

// Scopes is a list separated by spaces.
func Scopes(text string) ([]string, bool) {
	return strings.Fields(text), scopes.MatchString(text)
}

// Host is a name or an address to listen on, an IPv6 one with or without its
// brackets.
func Host(text string) (string, bool) {
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	_, err := netip.ParseAddr(host)
	return host, err == nil || hostName.MatchString(host)
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

var (
	// origin is an origin as browsers send it (RFC 6454 §6.2): one with a wildcard, a path,
	// a capital or the scheme's own port would never equal one.
	origin      = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[a-z0-9\[][a-z0-9._:\]-]*$`)
	defaultPort = regexp.MustCompile(`^(http://.*:80|https://.*:443)$`)
)

// Origins is a list of origins, which is nil for *, any origin.
func Origins(text string) ([]string, bool) {
	if text == "*" {
		return nil, true
	}
	items, _ := List(text)
	return items, len(items) > 0 && !slices.ContainsFunc(items, func(item string) bool {
		return !origin.MatchString(item) || defaultPort.MatchString(item)
	})
}
