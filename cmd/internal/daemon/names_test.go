package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/dns"
	"anodenet/overlay/book"
	"anodenet/platform"
)

// fakeResolver notes what it is told.
type fakeResolver struct {
	mu      sync.Mutex
	applied []platform.NameSettings
	when    []time.Time
	flushed int
	revert  int
	err     error
}

func (f *fakeResolver) Apply(_ context.Context, s platform.NameSettings) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied, f.when = append(f.applied, s), append(f.when, time.Now())
	return f.err
}

func (f *fakeResolver) Revert(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revert++
	return nil
}

func (f *fakeResolver) Flush(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushed++
	return nil
}

func (f *fakeResolver) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (f *fakeResolver) Describe() platform.NameReport {
	return platform.NameReport{Manager: "fake", Applied: true}
}

// namesWorld is a service of names without an adapter.
type namesWorld struct {
	*nameService
	fake    *fakeResolver
	book    []book.Entry
	another anode.Address
}

func newNamesWorld(t *testing.T) *namesWorld {
	t.Helper()
	address := func(z anode.Zone) anode.Address {
		id, err := anode.NewIdentity(z)
		if err != nil {
			t.Fatal(err)
		}
		return id.Address()
	}
	log := slog.New(slog.DiscardHandler)
	w := &namesWorld{fake: &fakeResolver{}, another: address(0xdeadbeef)}
	w.book = []book.Entry{{Address: address(0), Name: "north", Added: true}, {Address: address(7), Name: "foe", Added: true, Blocked: true}}
	self := address(0)
	w.nameService = &nameService{
		self: self, log: log, server: dns.NewServer(log, func() time.Duration { return time.Hour }), resolver: w.fake,
		lan:     newLAN(config.LAN{Peers: config.LANChosen}, self.ULA(), nil, log),
		changed: make(chan struct{}, 1), moved: make(chan struct{}, 1), apply: make(chan struct{}, 1),
		settings: config.Default().Names,
		entries:  func() []book.Entry { return w.book },
		link:     func() platform.State { return platform.State{Name: "anode0", Index: 9} },
	}
	return w
}

// says asks the snapshot for a name.
func (w *namesWorld) says(t *testing.T, name string, kind dnsmessage.Type) dnsmessage.Message {
	t.Helper()
	q := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + ".anode.internal."), Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(dns.Answer(w.snapshot, b, false)); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestNamesOfBook: names are those of peers that were added and are not blocked, and services
// those that friends told.
func TestNamesOfBook(t *testing.T) {
	w := newNamesWorld(t)
	north := w.book[0].Address
	w.services = []dns.Service{{Port: 22, Proto: "tcp", Type: "ssh"}}
	w.friends = func() map[anode.Address][]dns.Service {
		return map[anode.Address][]dns.Service{north: {{Port: 80, Proto: "tcp", Type: "http"}}, w.another: {{Port: 81, Proto: "tcp", Type: "http"}}, w.self: {{Port: 1, Proto: "tcp", Type: "ssh"}}}
	}
	w.publish()
	for name, code := range map[string]dnsmessage.RCode{"north": 0, "foe": dnsmessage.RCodeNameError, "self": 0} {
		if m := w.says(t, name, dnsmessage.TypeAAAA); m.RCode != code {
			t.Errorf("%s: %v", name, m.RCode)
		}
	}
	if m := w.says(t, "_http._tcp", dnsmessage.TypePTR); len(m.Answers) != 1 {
		t.Errorf("%+v", m.Answers)
	}
	if m := w.says(t, "_ssh._tcp.self", dnsmessage.TypeSRV); len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.SRVResource).Port != 22 {
		t.Errorf("%+v", m.Answers)
	}
	if want := []string{"anode.internal", dns.ReverseZone(0)}; !slices.Equal(w.domains, want) {
		t.Errorf("%q", w.domains)
	}
	w.book = append(w.book, book.Entry{Address: w.another, Added: true})
	w.publish()
	if want := []string{"anode.internal", dns.ReverseZone(0), dns.ReverseZone(0xdeadbeef)}; !slices.Equal(w.domains, want) {
		t.Errorf("%q", w.domains)
	}
}

// TestResolverIsTold: once for several changes, not more often than each 200 ms, and it is taken
// back in the end.
func TestResolverIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNamesWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.tellResolver(ctx) }()
		told := func(n, flushed int) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			w.fake.mu.Lock()
			defer w.fake.mu.Unlock()
			if len(w.fake.applied) != n || w.fake.flushed != flushed {
				t.Fatalf("told %d times, want %d; %d flushes, want %d", len(w.fake.applied), n, w.fake.flushed, flushed)
			}
		}
		w.publish()
		told(0, 0) // there is no server yet
		w.mu.Lock()
		w.at = netip.AddrPortFrom(w.self.ULA().Addr(), 53)
		w.mu.Unlock()
		w.mended()
		told(1, 0)
		if s := w.fake.applied[0]; s.Link != 9 || s.Name != "anode0" || s.Server.Port() != 53 || s.Search || s.Domains[0] != "anode.internal" || len(s.Domains) != 2 {
			t.Errorf("%+v", s)
		}
		w.publish()
		told(1, 0) // nothing changed
		for range 10 {
			w.mended()
			time.Sleep(time.Millisecond)
		}
		told(3, 0) // at once, and what came then after a pause
		if d := w.fake.when[2].Sub(w.fake.when[1]); d < applyPause {
			t.Errorf("again after %v", d)
		}
		w.book[0].Name = "south"
		w.publish()
		told(4, 1)
		w.book = append(w.book, book.Entry{Address: w.another, Added: true})
		w.publish()
		told(5, 1)
		w.book = w.book[:2]
		w.publish()
		told(6, 1) // it had no name
		w.fake.err = errors.New("access denied")
		w.mended()
		told(7, 1)
		if v := w.View(); v.Resolver.Error != "access denied" || v.Resolver.Manager != "fake" {
			t.Errorf("%+v", v.Resolver)
		}
		off := w.settings
		off.Manage = config.ManageOff
		w.Set(off, nil)
		told(7, 1)
		if v := w.View(); w.fake.revert != 1 || v.Resolver.Managed || v.Resolver.Error != "" {
			t.Errorf("%d, %+v", w.fake.revert, v.Resolver)
		}
		off.Manage = config.ManageAuto
		w.Set(off, nil)
		told(8, 1)
		cancel()
		<-done
		if w.fake.revert != 2 {
			t.Errorf("it was taken back %d times", w.fake.revert)
		}
	})
}

// TestNamesReload: services can change alone, and nothing is said where nothing changed.
func TestNamesReload(t *testing.T) {
	w := newNamesWorld(t)
	list := []dns.Service{{Port: 22, Proto: "tcp", Type: "ssh", TXT: []string{"a=b"}}}
	if !w.setServices(list) || w.setServices(slices.Clone(list)) || !w.setServices(nil) {
		t.Error("what changed is not noticed")
	}
	next := w.settings
	next.Suffix, next.Port, next.Enabled = "home.example", 99, false
	w.Set(next, nil)
	if w.Suffix() != "home.example" || w.settings.Port != dns.Preferred || !w.settings.Enabled {
		t.Errorf("%+v", w.settings)
	}
}

// TestOwnAddrs: the ULA is ours even while the adapter does not have it.
func TestOwnAddrs(t *testing.T) {
	w := newNamesWorld(t)
	_, four, _ := net.ParseCIDR("10.0.0.0/24")
	four.IP = net.IPv4(10, 0, 0, 1)
	list := ownAddrs(w.self, []net.Addr{four, &net.UnixAddr{Name: "x"}})
	if want := []netip.Addr{w.self.ULA().Addr(), netip.MustParseAddr("10.0.0.1")}; !slices.Equal(list, want) {
		t.Errorf("%v", list)
	}
}

// TestNamesOff: without an adapter, or switched off, it says why.
func TestNamesOff(t *testing.T) {
	for _, c := range []struct {
		tun  string
		on   bool
		want string
	}{{config.NoTun, true, "no adapter"}, {"anode0", false, "names.enabled"}, {"anode0", true, ""}} {
		id, err := anode.NewIdentity(0)
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{identity: id, log: slog.New(slog.DiscardHandler)}
		d.cfg.Config = config.Default()
		d.cfg.Tun.Name, d.cfg.Names.Enabled = c.tun, c.on
		n := d.newNames()
		if (c.want == "") != (n.off == "") || !strings.Contains(n.off, c.want) || n.Suffix() != "anode.internal" {
			t.Errorf("%+v: %q", c, n.off)
		}
		if n.off != "" && n.View().Off != n.off {
			t.Errorf("%+v", n.View())
		}
		n.mended() // as the adapter calls it
	}
}
