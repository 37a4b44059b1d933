package platform

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/godbus/dbus/v5"
)

// testBus is a bus on which everything is allowed, and the services on it are the test's.
type testBus struct {
	t       *testing.T
	address string
	daemon  *exec.Cmd
}

// startTestBus starts a bus that NewNames finds.
func startTestBus(t *testing.T) *testBus {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("needs dbus-daemon")
		}
		t.Skip("needs dbus-daemon")
	}
	dir, err := os.MkdirTemp("", "anode-bus") // short, for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &testBus{t: t, address: "unix:path=" + filepath.Join(dir, "bus")}
	config := `<busconfig><listen>` + b.address + `</listen><auth>EXTERNAL</auth><policy context="default">
		<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(busVariable, b.address)
	b.start()
	return b
}

func (b *testBus) start() {
	b.t.Helper()
	dir := filepath.Dir(strings.TrimPrefix(b.address, "unix:path="))
	b.daemon = exec.Command("dbus-daemon", "--config-file="+filepath.Join(dir, "config"), "--nofork", "--nopidfile", "--print-address")
	out, err := b.daemon.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.daemon.Start(); err != nil {
		b.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it listens
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.stop)
}

func (b *testBus) stop() {
	if b.daemon != nil {
		b.daemon.Process.Kill()
		b.daemon.Wait()
		b.daemon = nil
		os.Remove(strings.TrimPrefix(b.address, "unix:path="))
	}
}

// client connects to the bus.
func (b *testBus) client() *dbus.Conn {
	b.t.Helper()
	c, err := dbus.Connect(b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// manager is a service like resolved or networkd: it writes down what it is asked.
type manager struct {
	mu     sync.Mutex
	calls  []string
	refuse map[string]string // the name of the error for a method; "*": for each
	hang   chan struct{}     // not nil: nothing is answered before it is closed
}

func (m *manager) take(method string, args ...any) *dbus.Error {
	m.mu.Lock()
	m.calls = append(m.calls, fmt.Sprint(append([]any{method}, args...)...))
	name, hang := m.refuse[method], m.hang
	if all := m.refuse["*"]; all != "" {
		name = all
	}
	m.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if name != "" {
		return dbus.NewError(name, []any{"no \x1b[31m"})
	}
	return nil
}

func (m *manager) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// taken returns the calls so far, and forgets them.
func (m *manager) taken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.calls
	m.calls = nil
	return list
}

// serve puts a manager on the bus under the name of a service.
func (b *testBus) serve(s service, m *manager) *dbus.Conn {
	b.t.Helper()
	c := b.client()
	text := func(method string) func(int32, string) *dbus.Error {
		return func(link int32, v string) *dbus.Error { return m.take(method, " ", link, " ", v) }
	}
	methods := map[string]any{
		"SetLinkLLMNR": text("SetLinkLLMNR"), "SetLinkMulticastDNS": text("SetLinkMulticastDNS"),
		"SetLinkDNSOverTLS": text("SetLinkDNSOverTLS"), "SetLinkDNSSEC": text("SetLinkDNSSEC"),
		"SetLinkDefaultRoute": func(link int32, v bool) *dbus.Error { return m.take("SetLinkDefaultRoute", " ", link, " ", v) },
		"SetLinkDomains":      func(link int32, v []linkDomain) *dbus.Error { return m.take("SetLinkDomains", " ", link, " ", v) },
		"SetLinkDNSEx":        func(link int32, v []linkServer) *dbus.Error { return m.take("SetLinkDNSEx", " ", link, " ", v) },
		s.undo:                func(link int32) *dbus.Error { return m.take(s.undo, " ", link) },
		"FlushCaches":         func() *dbus.Error { return m.take("FlushCaches") },
	}
	if err := c.ExportMethodTable(methods, s.path, s.iface); err != nil {
		b.t.Fatal(err)
	}
	if r, err := c.RequestName(s.name, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		b.t.Fatal(r, err)
	}
	return c
}

// claims puts a property on the bus.
func (b *testBus) claims(name string, path dbus.ObjectPath, value string) {
	b.t.Helper()
	c := b.client()
	get := map[string]any{"Get": func(string, string) (dbus.Variant, *dbus.Error) { return dbus.MakeVariant(value), nil }}
	if err := c.ExportMethodTable(get, path, "org.freedesktop.DBus.Properties"); err != nil {
		b.t.Fatal(err)
	}
	if _, err := c.RequestName(name, 0); err != nil {
		b.t.Fatal(err)
	}
}

// startNames runs Names until the test ends.
func startNames(t *testing.T) *systemNames {
	t.Helper()
	n := NewNames(slog.New(slog.DiscardHandler)).(*systemNames)
	n.root = fstest.MapFS{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

var nameSettings = NameSettings{
	Link: 7, Name: "anode0", Server: netip.MustParseAddrPort("[fd12::1]:8753"), Domains: []string{"anode.internal", "8.7.d.f.ip6.arpa"},
}

// eventually waits for something that other programs do.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited too long for " + what)
		}
	}
}

// asked are the calls of one Apply.
var asked = []string{
	"SetLinkLLMNR 7 no", "SetLinkMulticastDNS 7 no", "SetLinkDNSOverTLS 7 no", "SetLinkDNSSEC 7 no", "SetLinkDefaultRoute 7 false",
	"SetLinkDomains 7 [{anode.internal true} {8.7.d.f.ip6.arpa true}]", "SetLinkDNSEx 7 [{10 [253 18 0 0 0 0 0 0 0 0 0 0 0 0 0 1] 8753 }]",
}

func TestNamesCalls(t *testing.T) {
	b := startTestBus(t)
	m := &manager{}
	b.serve(resolve1, m)
	n := startNames(t)
	if err := n.Apply(t.Context(), nameSettings); err != nil || !slices.Equal(m.taken(), asked) {
		t.Errorf("%v, %v", err, m.calls)
	}
	if r := n.Describe(); r != (NameReport{Manager: ManagerResolved, Applied: true}) {
		t.Errorf("%+v", r)
	}
	s := nameSettings
	s.Search, s.MulticastDNS, s.Server = true, true, netip.MustParseAddrPort("127.0.0.1:53")
	if err := n.Apply(t.Context(), s); err != nil {
		t.Error(err)
	}
	if got := strings.Join(m.taken(), "\n"); !strings.Contains(got, "{anode.internal false} {8.7.d.f.ip6.arpa true}") || !strings.Contains(got, "SetLinkMulticastDNS 7 yes") || !strings.Contains(got, "{2 [127 0 0 1] 53 }") {
		t.Error(got)
	}
	s.Link = 8 // the adapter was made again
	if err := n.Apply(t.Context(), s); err != nil {
		t.Error(err)
	}
	if got := m.taken(); got[0] != "RevertLink 7" || len(got) != len(asked)+1 {
		t.Error(got)
	}
	if err := n.Flush(t.Context()); err != nil || !slices.Equal(m.taken(), []string{"FlushCaches"}) {
		t.Error(err)
	}
	if err := n.Revert(t.Context()); err != nil || !slices.Equal(m.taken(), []string{"RevertLink 8"}) {
		t.Error(err)
	}
	if err := n.Flush(t.Context()); err != nil || len(m.taken()) != 0 || n.bus != nil {
		t.Errorf("after Revert: %v, %v", err, n.bus)
	}
	if r := n.Describe(); r.Applied || r.Manager != ManagerResolved {
		t.Errorf("%+v", r)
	}
}

func TestNamesRefused(t *testing.T) {
	const denied, busy, unknown = "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.resolve1.LinkBusy", "org.freedesktop.DBus.Error.UnknownMethod"
	type row struct {
		name              string
		resolved, network map[string]string // nil: it does not run
		systemd, nm       string
		resolvConf        string
		want              NameReport
	}
	refuse := func(name string) map[string]string { return map[string]string{"*": name} }
	for _, x := range []row{
		{name: "networkd's link", resolved: refuse(busy), network: refuse(""), want: NameReport{Manager: ManagerNetworkd, Applied: true}},
		{name: "busy, and no networkd", resolved: refuse(busy), want: busyReport("anode0")},
		{name: "networkd does not want", resolved: refuse(busy), network: refuse("org.freedesktop.network1.LinkNotManaged"), want: busyReport("anode0")},
		{name: "networkd denies", resolved: refuse(busy), network: refuse(denied), want: deniedReport(ManagerNetworkd, 0)},
		{name: "denied", resolved: refuse(denied), systemd: "252.39-1~deb12u2", want: deniedReport(ManagerResolved, 252)},
		{name: "would ask for a password", resolved: refuse("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"), want: deniedReport(ManagerResolved, 0)},
		{name: "denied by 258", resolved: refuse(denied), systemd: "v258.1", want: deniedReport(ManagerResolved, 258)},
		{name: "an old one", resolved: map[string]string{"SetLinkDNSOverTLS": unknown}, want: NameReport{Manager: ManagerResolved, Applied: true}},
		{name: "NetworkManager's dnsmasq", nm: "dnsmasq", want: foreignReport(otherNames{ManagerNetworkManager, PageNM}, noResolved)},
		{name: "nobody", want: foreignReport(otherNames{ManagerNone, PagePlain}, noResolved)},
		{name: "openresolv", resolvConf: "# Generated by resolvconf\nnameserver 10.0.0.1\n", want: foreignReport(otherNames{ManagerOpenresolv, PagePlain}, noResolved)},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := startTestBus(t)
			for s, refuse := range map[service]map[string]string{resolve1: x.resolved, network1: x.network} {
				if refuse != nil {
					b.serve(s, &manager{refuse: refuse})
				}
			}
			if x.systemd != "" {
				b.claims("org.freedesktop.systemd1", "/org/freedesktop/systemd1", x.systemd)
			}
			if x.nm != "" {
				b.claims("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager/DnsManager", x.nm)
			}
			n := startNames(t)
			n.root = fstest.MapFS{"etc/resolv.conf": {Data: []byte(x.resolvConf)}}
			err := n.Apply(t.Context(), nameSettings)
			if r := n.Describe(); r != x.want || (err == nil) != x.want.Applied {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, r, x.want)
			}
			if err := n.Revert(t.Context()); err != nil && x.want.Applied {
				t.Error(err)
			}
		})
	}
	t.Run("another error", func(t *testing.T) {
		b := startTestBus(t)
		b.serve(resolve1, &manager{refuse: refuse("org.example.Odd")})
		n := startNames(t)
		n.Apply(t.Context(), nameSettings)
		if r := n.Describe(); r.Applied || strings.ContainsRune(r.Why, '\x1b') || !strings.Contains(r.Why, "no ?[31m") {
			t.Errorf("%+v", r)
		}
	})
}

// TestNamesNewLink: the service hears of a new link a moment later than we do.
func TestNamesNewLink(t *testing.T) {
	b := startTestBus(t)
	m := &manager{refuse: map[string]string{"*": "org.freedesktop.resolve1.NoSuchLink"}}
	b.serve(resolve1, m)
	n := startNames(t)
	done := make(chan error, 1)
	go func() { done <- n.Apply(t.Context(), nameSettings) }()
	eventually(t, "a try", func() bool { return len(m.taken()) > 0 })
	m.set(func() { m.refuse = nil })
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestNamesAgain: what a service forgot is told again, and nothing else makes us talk.
func TestNamesAgain(t *testing.T) {
	b := startTestBus(t)
	m := &manager{}
	c := b.serve(resolve1, m)
	n := startNames(t)
	if err := n.Apply(t.Context(), nameSettings); err != nil {
		t.Fatal(err)
	}
	m.taken()
	for range 3 {
		c.Close()
		eventually(t, "a report that it is gone", func() bool { return !n.Describe().Applied })
		c = b.serve(resolve1, m)
		eventually(t, "a report that it is back", func() bool { return n.Describe().Applied })
		if got := m.taken(); !slices.Equal(got, asked) {
			t.Error(got)
		}
	}
	// Other users' signals do not count.
	liar := b.client()
	if err := liar.Emit("/org/freedesktop/DBus", busName+".NameOwnerChanged", resolve1.name, "", ":1.1"); err != nil {
		t.Fatal(err)
	}
	us := n.bus.Names()[0]
	liar.Send(&dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")), dbus.FieldInterface: dbus.MakeVariant(busName),
		dbus.FieldMember: dbus.MakeVariant("NameOwnerChanged"), dbus.FieldDestination: dbus.MakeVariant(us),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("")),
	}, Body: []any{resolve1.name}}, nil)
	liar.Object(us, "/").Call("org.freedesktop.DBus.Peer.Ping", 0) // behind the signal
	if err := n.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if got := m.taken(); !slices.Equal(got, []string{"FlushCaches"}) {
		t.Errorf("after a forged signal: %v", got)
	}
	// The bus goes and comes back, and resolved with it.
	b.stop()
	eventually(t, "a report that the bus is gone", func() bool { return strings.Contains(n.Describe().Why, "no D-Bus") })
	b.start()
	eventually(t, "the bus to be found again", func() bool { return strings.Contains(n.Describe().Why, noResolved) })
	b.serve(resolve1, m)
	eventually(t, "settings on the new bus", func() bool { return n.Describe().Applied })
	if got := m.taken(); !slices.Equal(got, asked) {
		t.Error(got)
	}
}

// TestNamesHang: a service that does not answer holds nobody up for long, and is told later.
func TestNamesHang(t *testing.T) {
	b := startTestBus(t)
	m := &manager{hang: make(chan struct{})}
	b.serve(resolve1, m)
	n := startNames(t)
	start := time.Now()
	err := n.Apply(t.Context(), nameSettings)
	if took := time.Since(start); err == nil || took > namesLimit+time.Second {
		t.Errorf("%v after %v", err, took)
	}
	close(m.hang)
	m.set(func() { m.hang = nil })
	eventually(t, "settings after the hang", func() bool { return n.Describe().Applied })
}

// TestNamesDeafBus: a socket that takes connections and says nothing.
func TestNamesDeafBus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	l := listenUnix(t, path)
	defer l.Close()
	t.Setenv(busVariable, "unix:path="+path)
	n := startNames(t)
	start := time.Now()
	if err := n.Apply(t.Context(), nameSettings); err == nil || time.Since(start) > namesLimit+time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestNamesNoBus(t *testing.T) {
	t.Setenv(busVariable, "unix:path="+filepath.Join(t.TempDir(), "none"))
	n := startNames(t)
	if err := n.Apply(t.Context(), nameSettings); err == nil {
		t.Error("no error")
	}
	if r := n.Describe(); r != foreignReport(otherNames{ManagerNone, PagePlain}, noBus) {
		t.Errorf("%+v", r)
	}
	if err := n.Revert(t.Context()); err != nil {
		t.Error(err)
	}
	for _, bad := range []NameSettings{{}, {Link: 1, Server: nameSettings.Server}, {Link: 1, Server: nameSettings.Server, Domains: []string{"."}}, {Link: 1, Server: nameSettings.Server, Domains: []string{"a/../b"}}} {
		if err := n.Apply(t.Context(), bad); err == nil || n.wanted != nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// TestNameRetries: the pauses grow and end.
func TestNameRetries(t *testing.T) {
	list, sum := retries(), time.Duration(0)
	for _, d := range list {
		sum += d
	}
	if !slices.IsSorted(list) || list[0] > 200*time.Millisecond || sum < 30*time.Second || sum > 5*time.Minute {
		t.Errorf("%v, together %v", list, sum)
	}
}

func TestFindForeign(t *testing.T) {
	const local, other = "# Generated by NetworkManager\nsearch lan\nnameserver 127.0.0.1\nnameserver 10.0.0.1\n", "nameserver 10.0.0.1\nnameserver 127.0.0.1\n"
	for _, x := range []struct {
		conf string
		file string
		want otherNames
	}{
		{local, "run/NetworkManager/dnsmasq.pid", otherNames{ManagerNetworkManager, PageNM}},
		{local, "run/dnsmasq/dnsmasq.pid", otherNames{ManagerDnsmasq, PageDnsmasq}},
		{"nameserver ::1\n", "run/unbound.pid", otherNames{ManagerUnbound, PageUnbound}},
		{other, "run/dnsmasq/dnsmasq.pid", otherNames{ManagerNone, PagePlain}},
		{local, "run/other", otherNames{ManagerLocal, ""}},
		{"# Generated by NetworkManager\nnameserver 10.0.0.1", "run/x", otherNames{ManagerNetworkManager, PageNM}},
		{"# Generated by resolvconf\nnameserver 10.0.0.1", "run/x", otherNames{ManagerOpenresolv, PagePlain}},
		{"# Generated by resolvconf\nnameserver 127.0.0.1", "run/x", otherNames{ManagerLocal, ""}},
		{"# Dynamic resolv.conf(5) file for glibc resolver(3) generated by resolvconf(8)\nnameserver 10.0.0.1", "run/x", otherNames{ManagerResolvconf, PagePlain}},
		{"# Generated by dhcpcd from eth0.dhcp\nnameserver 10.0.0.1", "run/x", otherNames{ManagerDhcpcd, PagePlain}},
		{"# Generated by Connection Manager\nnameserver ::1\nnameserver 127.0.0.1\n", "run/x", otherNames{ManagerConnMan, ""}},
		{"nameserver 127.0.0.1\n", "run/x", otherNames{ManagerLocal, ""}},
		{"", "run/x", otherNames{ManagerNone, PagePlain}},
	} {
		root := fstest.MapFS{"etc/resolv.conf": {Data: []byte(x.conf)}, x.file: {}}
		if got := findForeign(root); got != x.want {
			t.Errorf("%q, %s: %v, want %v", x.conf, x.file, got, x.want)
		}
	}
	if got := findForeign(fstest.MapFS{}); got != (otherNames{ManagerNone, PagePlain}) {
		t.Error(got)
	}
}

func TestBusPath(t *testing.T) {
	for address, want := range map[string]string{
		"": busSocket, "unix:path=/a": "/a", "unix:path=/a%20b,guid=12;tcp:host=x": "/a b", "unix:guid=1,path=/c": "/c",
		"tcp:host=localhost,port=1": "error", "unix:abstract=/x": "error", "unixexec:path=/bin/sh": "error", "unix:path=%zz": "error",
	} {
		got, err := busPath(address)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q, %v", address, got, err)
		}
	}
}

func TestLeadingNumber(t *testing.T) {
	for text, want := range map[string]int{"252.39-1~deb12u2": 252, "v258": 258, "258": 258, "": 0, "x": 0, "99999999999999999999": 0} {
		if got := leadingNumber(text); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func FuzzReadResolvConf(f *testing.F) {
	f.Add("# Generated by resolvconf\nnameserver 127.0.0.1\n")
	f.Add("nameserver\t::1 # x\noptions edns0\n")
	f.Fuzz(func(t *testing.T, text string) {
		local, header := readResolvConf(text)
		if local && !strings.Contains(text, "nameserver") || len(header) > len(text)+1 {
			t.Errorf("%v, %q", local, header)
		}
	})
}

func FuzzBusPath(f *testing.F) {
	f.Add("unix:path=/run/x,guid=1")
	f.Fuzz(func(t *testing.T, address string) {
		if path, err := busPath(address); err == nil && path != busSocket && !strings.HasPrefix(address, "unix:") {
			t.Errorf("%q", path)
		}
	})
}

// listenUnix takes connections, and never answers.
func listenUnix(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
