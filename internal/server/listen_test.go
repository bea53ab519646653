package server

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"itwin-token-server/internal/telemetry"
)

func tcp(addr string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }

func TestAddresses(t *testing.T) {
	local := []Address{{"this machine", "localhost:3001"}, {"the Android emulator", "10.0.2.2:3001"}}
	for _, test := range []struct {
		addr string
		want []Address
	}{
		{"127.0.0.1:3001", local},
		{"127.0.0.2:3001", []Address{{"this machine", "127.0.0.2:3001"}}},
		{"[::1]:3001", []Address{{"this machine", "[::1]:3001"}}},
		{"192.0.2.7:3001", []Address{{"the network", "192.0.2.7:3001"}}},
		{"[2001:db8::7]:3001", []Address{{"the network", "[2001:db8::7]:3001"}}},
	} {
		if got := Addresses(tcp(test.addr)); !slices.Equal(got, test.want) {
			t.Errorf("Addresses(%s) = %v, want %v", test.addr, got, test.want)
		}
	}
}

func TestReachableOnEveryInterface(t *testing.T) {
	var want []Address
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && ip.IsGlobalUnicast() {
			want = append(want, Address{"the network", ip.String() + ":3001"})
		}
	}
	want = slices.Insert(want, 0, Address{"this machine", "localhost:3001"}, Address{"the Android emulator", "10.0.2.2:3001"})
	for _, addr := range []string{"[::]:3001", "0.0.0.0:3001"} {
		if got := Addresses(tcp(addr)); !slices.Equal(got, want) {
			t.Errorf("Addresses(%s) = %v, want %v", addr, got, want)
		}
	}
}

func TestListen(t *testing.T) {
	for _, host := range []string{"", "127.0.0.1", "localhost"} {
		listener, err := Listen(host, "0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		conn, err := net.Dial("tcp", "localhost:"+port)
		if err != nil {
			t.Errorf("on %q: %v", host, err)
		} else {
			conn.Close()
		}
		listener.Close()
	}
}

func TestListenSaysWhatToDo(t *testing.T) {
	taken, err := Listen("127.0.0.1", "0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, test := range []struct{ name, host, port, first, last string }{
		{"a taken port", "127.0.0.1", port, "cannot listen on port " + port + ": ", "set ITM_TOKEN_SERVER_PORT to another port"},
		{"an address of another machine", "192.0.2.1", "0", `cannot listen on host "192.0.2.1": `, "set ITM_TOKEN_SERVER_HOST to an address of this machine, or leave it empty"},
	} {
		listener, err := Listen(test.host, test.port)
		if err == nil {
			listener.Close()
			t.Errorf("%s: listening on %v, want an error", test.name, listener.Addr())
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, test.first) || !strings.HasSuffix(text, test.last) || strings.Contains(text, "\n") {
			t.Errorf("%s: got %q, want %q…%q", test.name, text, test.first, test.last)
		}
	}
}

// lines is what a function logs, without the time.
func lines(log func(*slog.Logger)) []string {
	var b strings.Builder
	log(telemetry.NewLog(&b, "text", slog.LevelDebug))
	var all []string
	for line := range strings.Lines(b.String()) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		all = append(all, rest)
	}
	return all
}

func TestAnnounce(t *testing.T) {
	const plain = `level=WARN msg="plain http: anyone on the same network can read the tokens; set ITM_TOKEN_SERVER_TLS_CERT_FILE and _TLS_KEY_FILE, or make this port reachable for a TLS proxy only"`
	for _, test := range []struct {
		addr string
		tls  bool
		want []string
	}{
		{"127.0.0.1:3001", false, []string{
			`level=INFO msg=listening addr=127.0.0.1:3001 port_from=PORT`,
			`level=INFO msg=reachable from="this machine" url=http://localhost:3001/getToken`,
			`level=INFO msg=reachable from="the Android emulator" url=http://10.0.2.2:3001/getToken`,
		}},
		{"[::1]:3001", false, []string{
			`level=INFO msg=listening addr=[::1]:3001 port_from=PORT`,
			`level=INFO msg=reachable from="this machine" url=http://[::1]:3001/getToken`,
		}},
		{"192.0.2.7:3001", false, []string{
			`level=INFO msg=listening addr=192.0.2.7:3001 port_from=PORT`,
			`level=INFO msg=reachable from="the network" url=http://192.0.2.7:3001/getToken`,
			plain,
		}},
		{"192.0.2.7:443", true, []string{
			`level=INFO msg=listening addr=192.0.2.7:443 port_from=PORT`,
			`level=INFO msg=reachable from="the network" url=https://192.0.2.7:443/getToken`,
		}},
	} {
		got := lines(func(log *slog.Logger) { Announce(log, tcp(test.addr), test.tls, "PORT") })
		if !slices.Equal(got, test.want) {
			t.Errorf("Announce(%s, %v) logged\n%s\nwant\n%s", test.addr, test.tls, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
	everywhere := lines(func(log *slog.Logger) { Announce(log, tcp("[::]:3001"), false, "default") })
	if everywhere[len(everywhere)-1] != plain {
		t.Errorf("on every interface: the last line is %q, want %q", everywhere[len(everywhere)-1], plain)
	}
}
