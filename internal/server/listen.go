package server

import (
	"errors"
	"log/slog"
	"net"
)

// Listen opens a port, on every interface if the host is empty. Its error does not
// name a host that is not found: it may be a misplaced secret.
func Listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		err = errors.New(dns.Err)
	}
	return listener, err
}

// An Address is one at which a listener can be reached, and from where.
type Address struct{ From, HostPort string }

// Addresses lists where a listener on addr can be reached: from this machine,
// from the Android emulator (which knows its host as 10.0.2.2), and from the
// network, by the addresses of this machine.
func Addresses(addr net.Addr) []Address {
	_, port, _ := net.SplitHostPort(addr.String())
	all := []Address{{"this machine", "localhost:" + port}, {"the Android emulator", "10.0.2.2:" + port}}
	switch ip := addr.(*net.TCPAddr).IP; {
	case ip.Equal(net.IPv4(127, 0, 0, 1)):
		return all
	case ip.IsLoopback(): // not what localhost is everywhere, and not what 10.0.2.2 stands for
		return []Address{{"this machine", addr.String()}}
	case !ip.IsUnspecified():
		return []Address{{"the network", addr.String()}}
	}
	interfaces, _ := net.InterfaceAddrs() // without them, the local ones are still true
	for _, a := range interfaces {
		network, ok := a.(*net.IPNet)
		if ok && network.IP.To4() != nil && network.IP.IsGlobalUnicast() {
			all = append(all, Address{"the network", network.IP.String() + ":" + port})
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
	if !tls && !addr.(*net.TCPAddr).IP.IsLoopback() {
		log.Warn("plain http: anyone on the same network can read the tokens; set ITM_TOKEN_SERVER_TLS_CERT_FILE and _TLS_KEY_FILE, or make this port reachable for a TLS proxy only")
	}
}
