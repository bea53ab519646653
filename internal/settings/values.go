package settings

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Each parser returns the value in its normal form, and whether it is valid.

// label is a part of a host's name between dots (RFC 1035 §2.3.1; some have a _).
const label = `[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?`

var (
	hostName = regexp.MustCompile(`^(?i:` + label + `\.)*(?i:` + label + `)\.?$`)
	domain   = regexp.MustCompile(`^(` + label + `\.)+` + label + `$`) // one label is a tenant's name
	ascii    = regexp.MustCompile(`^[ -~]*$`)
)

// Domain is a host of Auth0, with a port if it has one, also as a pasted URL or in
// capitals. Without a port it has a dot.
func Domain(text string) (string, bool) {
	host := strings.TrimPrefix(strings.ToLower(text), "https://")
	host = strings.TrimSuffix(strings.TrimSuffix(host, "/"), ":443") // no issuer has that port
	_, isAddress := Address(host)
	named := isAddress && !strings.HasPrefix(host, ":")
	return host, ascii.MatchString(text) && (named || domain.MatchString(host))
}

// authority has no user, query or fragment: a path is added to it.
var authority = regexp.MustCompile(
	`^(?i:https)://[A-Za-z0-9\[][A-Za-z0-9._:\]-]*(/[A-Za-z0-9._~/-]*)?$`)

// Authority is an https URL.
func Authority(text string) (string, bool) {
	_, rest, _ := strings.Cut(text, ":")
	return "https:" + strings.TrimRight(rest, "/"), authority.MatchString(text)
}

// Text is any printable text.
func Text(text string) (string, bool) {
	return text, !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// notInList is what makes a list other than what is meant: items that are separated by
// spaces, JSON, typographic quotes, invisible characters.
var notInList = regexp.MustCompile(`[^\s,][\s\pZ]+[^\s,]|[\[\]{}"'“”‘’]|\pC`)

// List is a list with commas, of at least one item.
func List(text string) ([]string, bool) {
	items := split(text)
	return items, len(items) > 0 && !notInList.MatchString(text)
}

func split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// scopes has the characters of RFC 6749 §3.3 but the comma, which only separates.
var scopes = regexp.MustCompile(`^[ !#-+\--\[\]-~]*$`)

// Scopes is a list separated by spaces.
func Scopes(text string) ([]string, bool) {
	return strings.Fields(text), scopes.MatchString(text)
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

var (
	// origin is * or an origin as browsers send it (RFC 6454 §6.2): one with another
	// wildcard, a path, a capital or the scheme's own port would never equal one.
	origin      = regexp.MustCompile(`^(\*|[a-z][a-z0-9+.-]*://[a-z0-9\[][a-z0-9._:\]-]*)$`)
	defaultPort = regexp.MustCompile(`^(http://.*:80|https://.*:443)$`)
)

// Origins is a list of origins. With a * in it, it is nil.
func Origins(text string) ([]string, bool) {
	origins := split(text)
	ok := !slices.ContainsFunc(origins, func(item string) bool {
		return !origin.MatchString(item) || defaultPort.MatchString(item)
	})
	if slices.Contains(origins, "*") {
		return nil, ok
	}
	return origins, ok && len(origins) > 0
}
