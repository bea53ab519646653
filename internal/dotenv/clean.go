package dotenv

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// The functions here take what people type and paste, and return it as programs
// want it, and whether it can be used at all.

// hostName is a name of at least two labels; one alone, like a tenant's name
// without its domain, is a mistake.
var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9_-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// Domain makes a bare host, with a port if it has one, of a pasted URL or of
// capitals.
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

// Scopes is a list separated by single spaces (RFC 6749 §3.3).
func Scopes(text string) (string, bool) {
	outside := func(r rune) bool { return notASCII(r) || r == '"' || r == '\\' }
	return strings.Join(strings.Fields(text), " "), !strings.ContainsFunc(text, outside)
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
func Origins(text string) (string, bool) {
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" && item != "*" && !isOrigin(item) {
			return text, false
		}
	}
	return text, true
}

func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme != "" && u.Hostname() != "" && text == u.Scheme+"://"+u.Host &&
		text == strings.ToLower(text) && !strings.Contains(text, "*")
}

// notASCII reports what is not printable ASCII, the lookalikes of other scripts
// among it.
func notASCII(r rune) bool { return r < ' ' || r > '~' }
