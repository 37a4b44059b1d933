package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/cmd/internal/config"
	"anodenet/overlay/vnet"
)

// toldGroups is a node that notes when it was told of groups.
type toldGroups struct {
	start time.Time
	at    []time.Duration
	last  []netip.Addr
	err   error
}

func (n *toldGroups) SetGroups(_ context.Context, groups []netip.Addr) error {
	n.at, n.last = append(n.at, time.Since(n.start)), groups
	return n.err
}

// followGroups runs the part that reads groups, lets a test report changes, and returns what the node was told.
func followGroups(t *testing.T, read func(int) ([]netip.Addr, error), change func(l *virtualLAN)) (n *toldGroups, ended bool) {
	synctest.Test(t, func(t *testing.T) {
		l := &virtualLAN{log: slog.New(slog.DiscardHandler), reports: make(chan struct{}, 1), read: read}
		n = &toldGroups{start: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx, n, func() int { return 7 }) }()
		synctest.Wait()
		change(l)
		synctest.Wait()
		ended = len(done) == 1
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n, ended
}

// oneGroup is what programs joined, whatever happens.
func oneGroup(int) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("224.0.0.251")}, nil
}

// The groups are read at the start, soon after a change, and once a second while changes go on. The last
// change of all is never missed.
func TestGroupsAreRead(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name   string
		change func(l *virtualLAN)
		want   []time.Duration
	}{
		{"nothing", func(*virtualLAN) { time.Sleep(time.Hour) }, []time.Duration{0}},
		{"one", func(l *virtualLAN) {
			time.Sleep(5 * time.Second)
			l.report()
			time.Sleep(time.Hour)
		}, []time.Duration{0, 5050 * ms}},
		{"at once", func(l *virtualLAN) {
			l.report() // the first look may have been before it
			time.Sleep(time.Hour)
		}, []time.Duration{0, 1000 * ms}},
		{"a burst", func(l *virtualLAN) {
			time.Sleep(5 * time.Second)
			for range 40 {
				l.report()
				time.Sleep(ms)
			}
			time.Sleep(time.Hour)
		}, []time.Duration{0, 5050 * ms}},
		{"for long", func(l *virtualLAN) {
			time.Sleep(5 * time.Second)
			for range 250 {
				l.report()
				time.Sleep(10 * ms)
			}
			time.Sleep(time.Hour)
		}, []time.Duration{0, 5050 * ms, 6050 * ms, 7050 * ms, 8050 * ms}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, _ := followGroups(t, oneGroup, test.change)
			if !slices.Equal(n.at, test.want) {
				t.Errorf("told at %v, want %v", n.at, test.want)
			}
			if len(n.last) != 1 {
				t.Errorf("told of %v", n.last)
			}
		})
	}
}

// A failure to read is no end, unless the system cannot tell groups at all.
func TestGroupsThatCannotBeRead(t *testing.T) {
	tries := 0
	read := func(index int) ([]netip.Addr, error) {
		if tries++; tries == 1 {
			return nil, errors.New("no memory")
		}
		return oneGroup(index)
	}
	change := func(l *virtualLAN) {
		time.Sleep(2 * time.Second)
		l.report()
		time.Sleep(time.Second)
	}
	if n, ended := followGroups(t, read, change); ended || len(n.at) != 1 {
		t.Errorf("ended: %v, told at %v", ended, n.at)
	}
	read = func(int) ([]netip.Addr, error) { return nil, errors.ErrUnsupported }
	if n, ended := followGroups(t, read, change); !ended || len(n.at) != 0 {
		t.Errorf("unsupported: ended: %v, told at %v", ended, n.at)
	}
}

// An alias that was a peer's leads to the adapter for as long as the daemon runs.
func TestFormerAliases(t *testing.T) {
	list := func(names ...string) (l []netip.Addr) {
		for _, n := range names {
			l = append(l, netip.MustParseAddr("100.64.0."+n))
		}
		return l
	}
	var f former
	for _, step := range []struct{ now, want []netip.Addr }{
		{list("1", "2", "3"), nil},
		{list("1", "3"), list("2")},
		{list("1", "3"), list("2")},
		{nil, list("2", "1", "3")},         // all are removed, or IPv4 is refused for a while
		{list("3", "4"), list("2", "1")},   // one is a peer's again
		{list("2"), list("1", "3", "4")},   // whosever it is now
		{list("1", "2", "3", "4"), list()}, // and all
	} {
		if got := f.without(step.now); !slices.Equal(got, step.want) {
			t.Errorf("%v: %v, want %v", step.now, got, step.want)
		}
	}
	var many []netip.Addr
	for k := range formerMost + 5 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24+uint32(k))
		many = append(many, netip.AddrFrom4(b))
	}
	f = former{}
	f.without(many)
	if got := f.without(nil); !slices.Equal(got, many[5:]) {
		t.Errorf("%d are kept", len(got))
	}
}

// Who is in the virtual LAN follows a reload.
func TestReloadLAN(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, "")
	m.start(t)
	for _, all := range []bool{true, false} {
		text := map[bool]string{true: "lan.peers = \"all\"", false: "lan.peers = \"chosen\""}[all]
		m.hangUp(t, text)
		m.log.wait(`msg="a setting changed" key=lan.peers`)
		m.log.wait("was reloaded")
		status, err := m.client.Status(t.Context())
		if err != nil || status.LAN.All != all {
			t.Errorf("%s: %+v, %v", text, status.LAN, err)
		}
	}
	m.hangUp(t, "lan.ip4 = \"198.18.0.0/15\"")
	m.log.wait(`msg="a setting needs a restart" key=lan.ip4`)
}

// Games without an adapter are refused, and those with one need aliases.
func TestGamesNeedAnAdapter(t *testing.T) {
	l := newLAN(config.LAN{}, newAddress(t).ULA(), nil, slog.New(slog.DiscardHandler))
	if err := l.SetGames(true); err == nil || l.View().Games {
		t.Errorf("without an adapter: %v", err)
	}
	l.follow(new(routes))
	if err := l.SetGames(true); err == nil || l.View().Games {
		t.Errorf("without aliases: %v", err)
	}
}

// A node begins to show itself on the real LAN as soon as a reload says so, and not before.
func TestReloadDiscovery(t *testing.T) {
	w := vnet.New(vnet.Seed(t))
	t.Cleanup(w.Close)
	s := w.Segment("lan", vnet.Link{})
	host := w.Host("a")
	host.Attach(s, netip.MustParsePrefix("10.0.0.1/24"))
	beacons := make(chan struct{}, 1)
	s.Tap(func(p vnet.Packet) {
		if p.To.Addr().IsMulticast() || p.To.Addr() == netip.MustParseAddr("10.0.0.255") || p.To.Addr() == netip.MustParseAddr("255.255.255.255") {
			select {
			case beacons <- struct{}{}:
			default:
			}
		}
	})
	m := newMachine(t, host)
	m.configure(t, "discovery.announce = \"off\"")
	m.start(t)
	m.hangUp(t, "discovery.announce = \"off\"\ndiscovery.quiet = [\"10.0.0.0/24\"]")
	m.log.wait(`key=discovery.quiet`)
	m.log.wait("was reloaded")
	m.hangUp(t, "discovery.announce = \"all\"\ndiscovery.quiet = [\"10.0.0.0/24\"]")
	m.log.wait(`key=discovery.announce`)
	m.log.wait("was reloaded")
	if len(beacons) != 0 {
		t.Fatal("it showed itself")
	}
	m.hangUp(t, "discovery.announce = \"all\"")
	m.log.wait("was reloaded")
	select {
	case <-beacons:
	case <-time.After(30 * time.Second):
		t.Error("it does not show itself")
	}
	m.hangUp(t, "discovery.quiet = [\"nonsense/99\"]")
	m.log.wait("the old one stays")
}
