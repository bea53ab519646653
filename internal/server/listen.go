package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// A Reach is an address at which a listener can be reached, and from where.
type Reach struct{ From, Address string }

// Reachable lists where a listener on addr can be reached: from this machine,
// from the Android emulator (which knows its host as 10.0.2.2), and from the
// network, by the addresses of this machine.
func Reachable(addr net.Addr) []Reach {
	at := netip.MustParseAddrPort(addr.String())
	_, port, _ := net.SplitHostPort(addr.String())
	local := []Reach{{"this machine", "localhost:" + port}, {"the Android emulator", "10.0.2.2:" + port}}
	switch {
	case at.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1}):
		return local
	case at.Addr().IsLoopback(): // neither localhost everywhere nor what 10.0.2.2 stands for
		return []Reach{{"this machine", addr.String()}}
	case !at.Addr().IsUnspecified():
		return []Reach{{"the network", addr.String()}}
	}
	addrs, _ := net.InterfaceAddrs() // without them, the local ones are still true
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			local = append(local, Reach{"the network", net.JoinHostPort(prefix.Addr().String(), port)})
		}
	}
	return local
}

// Listen opens a port, on every interface where host is empty.
func Listen(host, port string) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	var unknown *net.DNSError
	switch {
	case errors.As(err, &unknown), errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("want to listen on %q, got: %w; set ITM_TOKEN_SERVER_HOST to an address of this machine, or leave it out", host, err)
	case err != nil:
		return nil, fmt.Errorf("want to listen on port %s, got: %w; end what has it, or set ITM_TOKEN_SERVER_PORT to another", port, err)
	}
	return listener, nil
}

// Announce logs where the server can be reached, and warns of plain http beyond
// this machine.
func Announce(log *slog.Logger, addr net.Addr, tls bool) {
	log.Info("listening", "addr", addr.String())
	scheme := "http"
	if tls {
		scheme = "https"
	}
	for _, r := range Reachable(addr) {
		log.Info("reachable", "from", r.From, "url", scheme+"://"+r.Address+"/getToken")
	}
	if !tls && !netip.MustParseAddrPort(addr.String()).Addr().IsLoopback() {
		log.Warn("plain http: whoever shares the network can read the tokens; set ITM_TOKEN_SERVER_TLS_CERT_FILE and _TLS_KEY_FILE, or let only a TLS proxy reach this port")
	}
}

// Aside serves a handler for the operator on a listener of its own, until ctx
// ends. It is as hard to hold up as the main one.
func Aside(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) {
	server := newServer(ctx, handler, log)
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); ctx.Err() == nil {
		log.Error("the metrics are not served any more", "error", err)
	}
}
