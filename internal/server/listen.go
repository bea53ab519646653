package server

import (
	"errors"
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
	ip := addr.(*net.TCPAddr).IP
	_, port, _ := net.SplitHostPort(addr.String())
	emulator := Address{"the Android emulator", "10.0.2.2:" + port}
	switch {
	case ip.Equal(net.IPv4(127, 0, 0, 1)): // some clients would take localhost for ::1
		return []Address{{"this machine", addr.String()}, emulator}
	case ip.IsLoopback(): // 10.0.2.2 does not stand for it
		return []Address{{"this machine", addr.String()}}
	case !ip.IsUnspecified():
		return []Address{{"the network", addr.String()}}
	}
	all := []Address{{"this machine", "localhost:" + port}, emulator}
	interfaces, _ := net.InterfaceAddrs() // without them, the first two are still true
	for _, a := range interfaces {
		network, ok := a.(*net.IPNet)
		if ok && network.IP.To4() != nil && network.IP.IsGlobalUnicast() {
			all = append(all, Address{"the network", network.IP.String() + ":" + port})
		}
	}
	return all
}
