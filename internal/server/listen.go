package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
)

// Listen opens a port, on every interface if host is empty.
func Listen(host, port string) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	var unknownHost *net.DNSError
	switch {
	case errors.As(err, &unknownHost), errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("cannot listen on host %q: %w: set ITM_TOKEN_SERVER_HOST to an address of this machine, or leave it empty", host, err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("cannot listen on port %s: %w: set ITM_TOKEN_SERVER_PORT to 1024 or higher", port, err)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on port %s: %w: stop the program that uses it, or set ITM_TOKEN_SERVER_PORT to another port", port, err)
	}
	return listener, nil
}

// An Address is one at which a listener can be reached, and from where.
type Address struct{ From, HostPort string }

// Addresses lists where a listener on addr can be reached: from this machine,
// from the Android emulator (which knows its host as 10.0.2.2), and from the
// network, by the addresses of this machine.
func Addresses(addr net.Addr) []Address {
	listening := netip.MustParseAddrPort(addr.String())
	_, port, _ := net.SplitHostPort(addr.String())
	all := []Address{{"this machine", "localhost:" + port}, {"the Android emulator", "10.0.2.2:" + port}}
	switch ip := listening.Addr(); {
	case ip == netip.AddrFrom4([4]byte{127, 0, 0, 1}):
		return all
	case ip.IsLoopback(): // not what localhost is everywhere, and not what 10.0.2.2 stands for
		return []Address{{"this machine", addr.String()}}
	case !ip.IsUnspecified():
		return []Address{{"the network", addr.String()}}
	}
	interfaces, _ := net.InterfaceAddrs() // without them, the local ones are still true
	for _, a := range interfaces {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			all = append(all, Address{"the network", net.JoinHostPort(prefix.Addr().String(), port)})
		}
	}
	return all
}

// Announce logs where the server can be reached and which setting chose its port,
// and warns about plain http beyond this machine.
func Announce(log *slog.Logger, addr net.Addr, tls bool, portSource string) {
	log.Info("listening", "addr", addr.String(), "port_from", portSource)
	scheme := "http"
	if tls {
		scheme = "https"
	}
	for _, a := range Addresses(addr) {
		log.Info("reachable", "from", a.From, "url", scheme+"://"+a.HostPort+"/getToken")
	}
	if !tls && !netip.MustParseAddrPort(addr.String()).Addr().IsLoopback() {
		log.Warn("plain http: anyone on the same network can read the tokens; set ITM_TOKEN_SERVER_TLS_CERT_FILE and _TLS_KEY_FILE, or make this port reachable for a TLS proxy only")
	}
}
