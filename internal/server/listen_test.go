package server

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"itwin-token-server/internal/standin/standintest"
)

func TestListen(t *testing.T) {
	for _, host := range []string{"", "127.0.0.1", "localhost"} {
		listener, err := Listen(net.JoinHostPort(host, "0"))
		must(t, err)
		defer listener.Close()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		if conn, err := net.Dial("tcp", "localhost:"+port); err != nil {
			t.Errorf("on %q: %v", host, err)
		} else {
			conn.Close()
		}
	}
}

func TestListenErrors(t *testing.T) {
	taken, err := Listen("127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	for addr, want := range map[string]string{
		taken.Addr().String(): "address already in use", "192.0.2.1:0": "192.0.2.1:0", // another machine's
		"hunter2.invalid:0": "no such host",
	} {
		if _, err := Listen(addr); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Listen(%s): got %v, want %s", addr, err, want)
		}
	}
}

func TestAnnounce(t *testing.T) {
	const machine, network = `from="this machine" url=http`, `from="the network" url=http`
	local := []string{machine + "://localhost:3001/getToken", `from="the Android emulator" url=http://10.0.2.2:3001/getToken`}
	everywhere := slices.Clone(local)
	interfaces, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range interfaces {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && ip.IsGlobalUnicast() {
			everywhere = append(everywhere, network+"://"+ip.String()+":3001/getToken")
		}
	}
	everywhere = append(everywhere, "level=WARN")
	for _, test := range []struct {
		addr string
		tls  bool
		want []string // in each line after the first
	}{
		{"127.0.0.1:3001", false, local},
		{"127.0.0.2:3001", false, []string{machine + "://127.0.0.2:3001/getToken"}},
		{"[::1]:3001", false, []string{machine + "://[::1]:3001/getToken"}},
		{"192.0.2.7:3001", false, []string{network + "://192.0.2.7:3001/getToken", "level=WARN"}},
		{"192.0.2.7:443", true, []string{network + "s://192.0.2.7:443/getToken"}},
		{"[2001:db8::7]:443", true, []string{network + "s://[2001:db8::7]:443/getToken"}},
		{"0.0.0.0:3001", false, everywhere},
		{"[::]:3001", false, everywhere},
	} {
		log := new(standintest.Log)
		Announce(logTo(log), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(test.addr)), test.tls, "PORT")
		lines := slices.Collect(strings.Lines(log.String()))
		want := append([]string{"addr=" + test.addr + " port_from=PORT"}, test.want...)
		if len(lines) != len(want) {
			t.Fatalf("Announce(%s, %v) logged %q, want %d lines", test.addr, test.tls, lines, len(want))
		}
		for i, part := range want {
			wantContains(t, lines[i], part)
		}
	}
}
