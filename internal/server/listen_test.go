package server

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestListen(t *testing.T) {
	for _, host := range []string{"", "127.0.0.1", "localhost"} {
		listener := must(Listen(net.JoinHostPort(host, "0")))
		defer listener.Close()
		if _, err := net.Dial("tcp", Addresses(listener.Addr())[0].HostPort); err != nil {
			t.Errorf("on %q: %v", host, err)
		}
	}
	_, err := Listen("hunter2.invalid:0") // perhaps a secret in the wrong place
	if err == nil || err.Error() != "no such host" {
		t.Errorf("on a host that does not exist: %v, want no such host", err)
	}
}

func TestAddresses(t *testing.T) {
	const machine, network = "this machine", "the network"
	emulator := Address{"the Android emulator", "10.0.2.2:3001"}
	everywhere := []Address{{machine, "localhost:3001"}, emulator}
	for _, a := range must(net.InterfaceAddrs()) {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && ip.IsGlobalUnicast() {
			everywhere = append(everywhere, Address{network, ip.String() + ":3001"})
		}
	}
	for addr, want := range map[string][]Address{
		"127.0.0.1:3001":    {{machine, "127.0.0.1:3001"}, emulator}, // localhost may be ::1
		"[::1]:3001":        {{machine, "[::1]:3001"}},
		"[2001:db8::7]:443": {{network, "[2001:db8::7]:443"}},
		"0.0.0.0:3001":      everywhere,
		"[::]:3001":         everywhere,
	} {
		got := Addresses(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		if !slices.Equal(got, want) {
			t.Errorf("Addresses(%s) = %v, want %v", addr, got, want)
		}
	}
}
