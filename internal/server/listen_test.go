package server

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"itwin-token-server/internal/telemetry"

	"itwin-token-server/internal/standin"
)

func tcp(addr string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }

func TestAddresses(t *testing.T) {
	local := []Address{{"this machine", "localhost:3001"}, {"the Android emulator", "10.0.2.2:3001"}}
	everywhere := slices.Clone(local)
	interfaces, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range interfaces {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && ip.IsGlobalUnicast() {
			everywhere = append(everywhere, Address{"the network", ip.String() + ":3001"})
		}
	}
	for _, test := range []struct {
		addr string
		want []Address
	}{
		{"127.0.0.1:3001", local},
		{"127.0.0.2:3001", []Address{{"this machine", "127.0.0.2:3001"}}},
		{"[::1]:3001", []Address{{"this machine", "[::1]:3001"}}},
		{"192.0.2.7:3001", []Address{{"the network", "192.0.2.7:3001"}}},
		{"[2001:db8::7]:3001", []Address{{"the network", "[2001:db8::7]:3001"}}},
		{"[::]:3001", everywhere},
		{"0.0.0.0:3001", everywhere},
	} {
		if got := Addresses(tcp(test.addr)); !slices.Equal(got, test.want) {
			t.Errorf("Addresses(%s) = %v, want %v", test.addr, got, test.want)
		}
	}
}

func TestListen(t *testing.T) {
	for _, host := range []string{"", "127.0.0.1", "localhost"} {
		listener, err := Listen(host, "0")
		must(t, err)
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		if conn, err := net.Dial("tcp", "localhost:"+port); err != nil {
			t.Errorf("on %q: %v", host, err)
		} else {
			conn.Close()
		}
		listener.Close()
	}
}

func TestListenErrorsNameTheSetting(t *testing.T) {
	taken, err := Listen("127.0.0.1", "0")
	must(t, err)
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, test := range []struct{ host, port, want string }{
		{"127.0.0.1", port, "ITM_TOKEN_SERVER_PORT"},
		{"192.0.2.1", "0", "ITM_TOKEN_SERVER_HOST"}, // another machine's
	} {
		listener, err := Listen(test.host, test.port)
		if err == nil {
			listener.Close()
			t.Errorf("listening on %v, want an error", listener.Addr())
			continue
		}
		wantContains(t, err.Error(), test.want, test.host+":"+test.port)
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("got %q, want one line", err)
		}
	}
}

func TestAnnounce(t *testing.T) {
	for _, test := range []struct {
		addr string
		tls  bool
		want []string // in each line
	}{
		{"127.0.0.1:3001", false, []string{"port_from=PORT", "url=http://localhost:3001/getToken", "url=http://10.0.2.2:3001/getToken"}},
		{"[::1]:3001", false, []string{"addr=[::1]:3001", "url=http://[::1]:3001/getToken"}},
		{"192.0.2.7:3001", false, []string{"addr=192.0.2.7:3001", "url=http://192.0.2.7:3001/getToken", "level=WARN"}},
		{"192.0.2.7:443", true, []string{"addr=192.0.2.7:443", "url=https://192.0.2.7:443/getToken"}},
	} {
		log := new(standin.Log)
		Announce(logTo(log), tcp(test.addr), test.tls, "PORT")
		lines := slices.Collect(strings.Lines(log.String()))
		if len(lines) != len(test.want) {
			t.Fatalf("Announce(%s, %v) logged %q, want %d lines", test.addr, test.tls, lines, len(test.want))
		}
		for i, want := range test.want {
			wantContains(t, lines[i], want)
		}
	}
	var b strings.Builder
	Announce(telemetry.NewLog(&b, "text", slog.LevelWarn), tcp("[::]:3001"), false, "default")
	wantContains(t, b.String(), "plain http", "ITM_TOKEN_SERVER_TLS_CERT_FILE")
}
