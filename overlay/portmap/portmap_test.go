package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	home = Route{Gateway: netip.MustParseAddr("192.168.1.1"), Source: netip.MustParseAddr("192.168.1.7"), Interface: "eth0", Index: 2}
	cafe = Route{Gateway: netip.MustParseAddr("10.1.0.1"), Source: netip.MustParseAddr("10.1.0.99"), Interface: "wlan0", Index: 3}
	six  = Route{Gateway: netip.MustParseAddr("fe80::1"), Source: netip.MustParseAddr("2001:db8::7"), Interface: "eth0", Index: 2}
)

// actor is a protocol that a test plays.
type actor struct {
	name  Kind
	route Route

	mu         sync.Mutex
	delay      time.Duration // before the answer to a probe
	probeErr   error
	addErr     error
	grant      grant
	removeHang bool

	probes, adds, removes atomic.Int32
	log                   *journal
}

func (a *actor) kind() Kind { return a.name }

// set changes what it does from now on.
func (a *actor) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *actor) probe(ctx context.Context) (err error) {
	a.probes.Add(1)
	a.set(func() { err = a.probeErr })
	select {
	case <-time.After(a.delay):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *actor) add(ctx context.Context, external uint16) (grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.adds.Add(1)
	a.note("add")
	g := a.grant
	a.grant.restarted = false
	if !g.external.IsValid() {
		g.external = netip.AddrPortFrom(outside, external)
		if a.route.Source.Is6() {
			g.external = netip.AddrPortFrom(a.route.Source, external)
		}
	}
	return g, a.addErr
}

func (a *actor) remove(ctx context.Context) error {
	a.removes.Add(1)
	if a.removeHang {
		<-ctx.Done()
	}
	a.note("remove")
	return ctx.Err()
}

func (a *actor) note(what string) {
	if a.log != nil {
		a.log.add(a.route.Interface + " " + what)
	}
}

// journal is what actors did, in order.
type journal struct {
	mu   sync.Mutex
	list []string
}

func (j *journal) add(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, what)
}

// stage is a Mapper with actors, in a bubble of virtual time.
type stage struct {
	t        *testing.T
	mapper   *Mapper
	states   []State
	actors   map[Route][]*actor
	stop     context.CancelFunc
	ended    chan error
	announce chan bool

	mu      sync.Mutex
	network Network
	lookErr error
}

// look returns the network of now.
func (s *stage) look() (Network, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.network, s.lookErr
}

// move changes the network, and says so.
func (s *stage) move(n Network, err error) {
	s.mu.Lock()
	s.network, s.lookErr = n, err
	s.mu.Unlock()
	s.mapper.NetworkChanged()
}

// newStage makes actors for the routes; what is missing answers nothing.
func newStage(t *testing.T, n Network, off Places, actors ...*actor) *stage {
	s := &stage{t: t, network: n, actors: make(map[Route][]*actor), ended: make(chan error, 1), announce: make(chan bool)}
	for _, a := range actors {
		s.actors[a.route] = append(s.actors[a.route], a)
	}
	var err error
	s.mapper, err = New(Config{
		Port: ourPort, Off: off, Network: s.look,
		Changed: func(st State) { s.states = append(s.states, st) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.mapper.hear = func(ctx context.Context, _ Route, heard func()) error {
		for {
			select {
			case <-s.announce:
				heard()
			case <-ctx.Done():
				return nil
			}
		}
	}
	s.mapper.make = func(r Route) (list []protocol) {
		for _, a := range s.actors[r] {
			list = append(list, a)
		}
		return list
	}
	return s
}

func (s *stage) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.ended <- s.mapper.Run(ctx) }()
}

// end ends the Mapper, and checks that it takes no longer than a second.
func (s *stage) end() {
	s.t.Helper()
	began := time.Now()
	s.stop()
	if err := <-s.ended; err != nil {
		s.t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > releaseTime {
		s.t.Errorf("ending took %v", took)
	}
}

// pass lets time pass.
func pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

var (
	silence = &failure{code: NoAnswer}
	refusal = &failure{code: Refused, detail: "NOT_AUTHORIZED"}
)

// all makes the three protocols of a route.
func all(r Route) []*actor {
	return []*actor{
		{name: PCP, route: r, grant: grant{lease: Lease}},
		{name: NATPMP, route: r, grant: grant{lease: Lease}},
		{name: UPnP, route: r, grant: grant{lease: Lease}},
	}
}

// TestPreference: which of the protocols is asked for the mapping, and that only one is.
func TestPreference(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(pcp, pmp, upnp *actor)
		want     Kind
		code     Code
		within   time.Duration
		attempts int32 // to add
	}{
		"all answer":           {func(_, _, _ *actor) {}, PCP, Mapped, 0, 1},
		"the best is slow":     {func(pcp, _, _ *actor) { pcp.delay = grace / 2 }, PCP, Mapped, grace / 2, 1},
		"the best is too slow": {func(pcp, _, _ *actor) { pcp.delay = 2 * grace }, NATPMP, Mapped, grace, 1},
		"all are slow":         {func(pcp, pmp, upnp *actor) { pcp.delay, pmp.delay, upnp.delay = time.Second, time.Second, time.Second }, PCP, Mapped, time.Second, 1},
		"only the last answers": {func(pcp, pmp, _ *actor) {
			pcp.probeErr, pcp.delay, pmp.probeErr, pmp.delay = silence, answerTime, silence, answerTime
		}, UPnP, Mapped, grace, 1},
		"only the last there is": {func(pcp, pmp, _ *actor) { pcp.probeErr, pmp.probeErr = silence, silence }, UPnP, Mapped, 0, 1},
		"one refuses":            {func(pcp, _, _ *actor) { pcp.addErr = refusal }, NATPMP, Mapped, 0, 2},
		"one refuses, the next is slow": {func(pcp, pmp, upnp *actor) {
			pcp.addErr, pmp.probeErr, pmp.delay, upnp.delay = refusal, silence, answerTime, time.Second
		}, UPnP, Mapped, time.Second, 2},
		"nobody answers":                   {func(pcp, pmp, upnp *actor) { pcp.probeErr, pmp.probeErr, upnp.probeErr = silence, silence, silence }, "", NoAnswer, 0, 0},
		"one refuses, nobody else answers": {func(pcp, pmp, upnp *actor) { pcp.addErr, pmp.probeErr, upnp.probeErr = refusal, silence, silence }, "", Refused, 0, 1},
		"two NATs":                         {func(pcp, _, _ *actor) { pcp.grant.external = netip.MustParseAddrPort("100.64.3.4:8737") }, PCP, BehindNAT, 0, 1},
		"for ever":                         {func(pcp, _, _ *actor) { pcp.grant.lease = 0 }, PCP, Mapped, 0, 1},
		"an unknown error": {func(pcp, pmp, upnp *actor) {
			pcp.probeErr, pmp.probeErr, upnp.probeErr = errors.New("x"), silence, silence
		}, "", Failed, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				list := all(home)
				c.change(list[0], list[1], list[2])
				s := newStage(t, Network{Route4: home}, Places{}, list...)
				began := time.Now()
				s.start()
				pass(c.within)
				r := s.mapper.State().IPv4
				if r.Code != c.code || r.Mapping.Kind != c.want || r.Local != home.Source || r.Gateway != home.Gateway {
					t.Errorf("%+v", r)
				}
				adds := int32(0)
				for _, a := range list {
					adds += a.adds.Load()
				}
				if adds != c.attempts {
					t.Errorf("%d mappings were asked for", adds)
				}
				if (c.want == "") != (len(r.Tried) == 3) {
					t.Errorf("tried: %+v", r.Tried)
				}
				if want := list[0].grant.lease; c.want != "" && want > 0 && !r.Mapping.Expires.Equal(began.Add(c.within+want)) {
					t.Errorf("expires %v", r.Mapping.Expires)
				}
				if last := s.states[len(s.states)-1]; !last.same(s.mapper.State()) {
					t.Errorf("Changed got %+v", last)
				}
				s.end()
				removes := int32(0)
				for _, a := range list {
					removes += a.removes.Load()
				}
				if want := int32(min(len(c.want), 1)); removes != want {
					t.Errorf("%d mappings were removed", removes)
				}
			})
		})
	}
}

// TestRenewal: a mapping is renewed at half of its time, and nothing else happens.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := all(home)
		s := newStage(t, Network{Route4: home}, Places{}, list...)
		s.start()
		pass(24 * time.Hour)
		if n := list[0].adds.Load(); n < 96 || n > 108 {
			t.Errorf("%d times in a day", n)
		}
		if list[0].probes.Load() != 1 || list[1].adds.Load()+list[2].adds.Load() != 0 {
			t.Errorf("%d probes", list[0].probes.Load())
		}
		s.end()
	})
}

// TestShortLease: a gateway cannot make us ask more than once a minute.
func TestShortLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := all(home)
		list[0].grant.lease = time.Second
		s := newStage(t, Network{Route4: home}, Places{}, list...)
		s.start()
		pass(time.Hour)
		if n := list[0].adds.Load(); n < 50 || n > 61 {
			t.Errorf("%d times in an hour", n)
		}
		s.end()
	})
}

// TestBackOff: a gateway that does not help is asked less and less often.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &actor{name: PCP, route: home, probeErr: silence}
		s := newStage(t, Network{Route4: home}, Places{}, a)
		s.start()
		pass(59 * time.Minute)
		if n := a.probes.Load(); n < 4 || n > 5 { // after 0, 1, 5, 21 minutes, or a tenth earlier
			t.Errorf("%d probes in an hour", n)
		}
		pass(23 * time.Hour)
		if a.probes.Load() < 24 || a.probes.Load() > 32 {
			t.Errorf("%d probes in a day", a.probes.Load())
		}
		if len(s.states) != 2 { // asking, no answer
			t.Errorf("%d states", len(s.states))
		}
		before := a.probes.Load()
		s.mapper.NetworkChanged()
		pass(time.Second)
		a.set(func() { a.probeErr = nil })
		pass(time.Minute) // after a change it is the first minute again
		if a.probes.Load() != before+2 || s.mapper.State().IPv4.Code != Mapped {
			t.Errorf("%d probes after a change, %+v", a.probes.Load()-before, s.mapper.State())
		}
		s.end()
	})
}

// TestGatewaySaysWhen: a gateway that says how long it will refuse is left alone for so long,
// but not for more than an hour.
func TestGatewaySaysWhen(t *testing.T) {
	for _, c := range []struct{ says, want time.Duration }{{20 * time.Minute, 20 * time.Minute}, {1000 * time.Hour, time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			a := &actor{name: PCP, route: home, addErr: &failure{code: NoPort, wait: c.says}}
			s := newStage(t, Network{Route4: home}, Places{}, a)
			s.start()
			pass(c.want * 9 / 10)
			if a.adds.Load() != 1 {
				t.Errorf("asked %d times in nine tenths of %v", a.adds.Load(), c.want)
			}
			pass(c.want / 10)
			if a.adds.Load() != 2 {
				t.Errorf("asked %d times in %v", a.adds.Load(), c.want)
			}
			s.end()
		})
	}
}

// TestStorm: a network that changes all the time does not make us flood it.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := []*actor{{name: PCP, route: home, probeErr: silence}, {name: PCP, route: cafe, probeErr: silence}}
		s := newStage(t, Network{Route4: home}, Places{}, list...)
		s.start()
		for i := range 6000 {
			s.move(Network{Route4: []Route{home, cafe}[i/3%2]}, nil)
			pass(100 * time.Millisecond)
		}
		if n := list[0].probes.Load() + list[1].probes.Load(); n > 2*maxAddresses+600/20 {
			t.Errorf("%d probes in 10 minutes", n)
		}
		s.end()
	})
}

// TestExit: the end takes a second at most, even if the gateway is silent.
func TestExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := []*actor{
			{name: PCP, route: home, grant: grant{lease: Lease}, removeHang: true},
			{name: PCP, route: six, grant: grant{lease: Lease}, removeHang: true},
		}
		s := newStage(t, Network{Route4: home, Route6: six}, Places{}, list...)
		s.start()
		pass(time.Minute)
		s.end()
		if list[0].removes.Load() != 1 || list[1].removes.Load() != 1 {
			t.Error("not removed")
		}
	})
}

// TestRoaming: in another network another gateway is asked, and the mapping of the old one
// is removed if that is possible. Back in the first, the new mapping comes after the old
// one's removal.
func TestRoaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		list := []*actor{
			{name: PCP, route: home, grant: grant{lease: Lease}, log: &log, removeHang: true},
			{name: NATPMP, route: cafe, grant: grant{lease: Lease}, log: &log},
		}
		s := newStage(t, Network{Route4: home}, Places{}, list...)
		s.start()
		pass(time.Minute)
		s.move(Network{Route4: cafe}, nil)
		pass(100 * time.Millisecond)
		if r := s.mapper.State().IPv4; r.Mapping.Kind != NATPMP || r.Gateway != cafe.Gateway {
			t.Errorf("%+v", r)
		}
		s.move(Network{Route4: home}, nil)
		pass(100 * time.Millisecond)
		if r := s.mapper.State().IPv4; r.Code != Asking || r.Mapping != (Mapping{}) {
			t.Errorf("%+v", r)
		}
		pass(time.Second)
		if r := s.mapper.State().IPv4; r.Code != Mapped || r.Mapping.Kind != PCP {
			t.Errorf("%+v", r)
		}
		if want := []string{"eth0 add", "wlan0 add", "wlan0 remove", "eth0 remove", "eth0 add"}; !slices.Equal(log.list, want) {
			t.Errorf("%q", log.list)
		}
		s.move(Network{}, nil)
		pass(time.Second)
		if st := s.mapper.State(); st.IPv4.Code != NoGateway || len(st.Mappings()) != 0 {
			t.Errorf("%+v", st)
		}
		s.end()
	})
}

// TestRestartedGateway: what one answer tells, all keepers of it learn.
func TestRestartedGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := []*actor{{name: PCP, route: home, grant: grant{lease: Lease}}, {name: PCP, route: six, grant: grant{lease: 7 * 24 * time.Hour}}}
		s := newStage(t, Network{Route4: home, Route6: six}, Places{}, list...)
		s.start()
		pass(time.Minute)
		list[0].set(func() { list[0].grant.restarted = true })
		pass(14 * time.Minute)
		if n := list[1].adds.Load(); n < 2 {
			t.Error("the pinhole was not renewed")
		}
		s.end()
	})
}

// TestAnnouncement: what the gateway announces has all mappings renewed at once.
func TestAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := []*actor{{name: PCP, route: home, grant: grant{lease: Lease}}, {name: PCP, route: six, grant: grant{lease: Lease}}}
		s := newStage(t, Network{Route4: home, Route6: six}, Places{}, list...)
		s.start()
		pass(time.Minute)
		s.announce <- true
		pass(time.Millisecond)
		if a, b := list[0].adds.Load(), list[1].adds.Load(); a != 2 || b != 2 {
			t.Errorf("asked %d and %d times", a, b)
		}
		s.end()
	})
}

// TestHear: only the gateway's announcements count, and not all of many.
func TestHear(t *testing.T) {
	at := func(s string) *net.UDPConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ear, gateway, other := at("127.0.0.1:0"), at("127.0.0.2:0"), at("127.0.0.3:0")
	ctx, cancel := context.WithCancel(within(t))
	heard, ended := make(chan bool, 100), make(chan error, 1)
	go func() {
		ended <- hearOn(ctx, ear, gateway.LocalAddr().(*net.UDPAddr).AddrPort(), func() { heard <- true })
	}()
	pmp := []byte{0, 128, 0, 0, 0, 0, 0, 1, 198, 51, 100, 7}
	pcp := append([]byte{2, 128}, make([]byte, 22)...)
	other.WriteTo(pmp, ear.LocalAddr())
	gateway.WriteTo([]byte("hello"), ear.LocalAddr())
	gateway.WriteTo(pmp[:11], ear.LocalAddr())
	gateway.WriteTo(make([]byte, 2000), ear.LocalAddr())
	for range 50 {
		gateway.WriteTo(pmp, ear.LocalAddr())
		gateway.WriteTo(pcp, ear.LocalAddr())
	}
	<-heard
	<-heard
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || len(heard) != 0 {
		t.Errorf("%v, heard %d more", err, len(heard))
	}
	for _, c := range []struct {
		b    []byte
		want bool
	}{{pmp, true}, {pcp, true}, {pmp[:11], false}, {pcp[:20], false}, {nil, false}, {[]byte{0, 128, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0}, false}} {
		if isAnnouncement(c.b) != c.want {
			t.Errorf("%x: %v", c.b, !c.want)
		}
	}
}

// TestSilentLater: a mapping stands while it may, and is gone afterwards or when the gateway
// says so.
func TestSilentLater(t *testing.T) {
	for _, c := range []struct {
		err   *failure
		still int // mappings after half of the time
		code  Code
	}{{silence, 1, NoAnswer}, {refusal, 0, Refused}} {
		synctest.Test(t, func(t *testing.T) {
			a := &actor{name: PCP, route: home, grant: grant{lease: Lease}}
			s := newStage(t, Network{Route4: home}, Places{}, a)
			s.start()
			pass(time.Second)
			a.set(func() { a.probeErr, a.addErr = c.err, c.err })
			pass(Lease / 2)
			if st := s.mapper.State(); len(st.Mappings()) != c.still {
				t.Errorf("after half of the time: %+v", st)
			}
			pass(Lease)
			if st := s.mapper.State(); st.IPv4.Code != c.code || len(st.Mappings()) != 0 {
				t.Errorf("after the time: %+v", st)
			}
			a.set(func() { a.probeErr, a.addErr = nil, nil })
			pass(time.Hour)
			if st := s.mapper.State(); st.IPv4.Code != Mapped {
				t.Errorf("after the gateway is back: %+v", st)
			}
			s.end()
		})
	}
}

// TestPlan: for which of our addresses who is asked.
func TestPlan(t *testing.T) {
	public := home
	public.Source = netip.MustParseAddr("203.0.113.9")
	carrier := home
	carrier.Source = netip.MustParseAddr("100.64.0.9")
	unknown := home
	unknown.Gateway = netip.Addr{}
	many := []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::2"), six.Source, netip.MustParseAddr("192.168.1.7")}
	for i := range byte(9) {
		many = append(many, netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 15: i}))
	}
	ula := six
	ula.Source = netip.MustParseAddr("fd12::1")
	off := func(words ...string) Places {
		p, err := ParsePlaces(words)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, c := range map[string]struct {
		network Network
		off     Places
		four    Code // Asking: it is asked
		six     int  // addresses
	}{
		"nothing":             {Network{}, Places{}, NoGateway, 0},
		"home":                {Network{Route4: home}, Places{}, Asking, 0},
		"both":                {Network{Route4: home, Route6: six}, Places{}, Asking, 1},
		"many addresses":      {Network{Route6: six, Addresses: many}, Places{}, NoGateway, maxAddresses},
		"only a ULA":          {Network{Route6: ula, Addresses: many[:2]}, Places{}, NoGateway, 0},
		"a ULA first":         {Network{Route6: ula, Addresses: many[:4]}, Places{}, NoGateway, 1},
		"no NAT":              {Network{Route4: public}, Places{}, NotNeeded, 0},
		"no NAT, a firewall":  {Network{Route4: public, Route6: six}, Places{}, NotNeeded, 1},
		"a carrier's NAT":     {Network{Route4: carrier}, Places{}, Asking, 0},
		"a router not known":  {Network{Route4: unknown}, Places{}, NoGateway, 0},
		"off by interface":    {Network{Route4: home, Route6: six}, off("eth0"), Off, 0},
		"off elsewhere":       {Network{Route4: home, Route6: six}, off("wlan0", "192.168.7.0/24"), Asking, 1},
		"off by prefix":       {Network{Route4: home, Route6: six}, off("192.168.0.0/16"), Off, 1},
		"off by router":       {Network{Route4: home, Route6: six}, off("192.168.1.1"), Off, 1},
		"off by IPv6 prefix":  {Network{Route4: home, Route6: six}, off("2001:db8::/32"), Asking, 0},
		"off by IPv6 address": {Network{Route6: six, Addresses: many[:6]}, off("2001:db8::7"), NoGateway, 2},
	} {
		p := newPlan(c.network, c.off)
		four, count := p.none.Code, 0
		for _, r := range p.routes {
			if r.Source.Is4() {
				four = Asking
			} else {
				count++
			}
		}
		if four != c.four || count != c.six {
			t.Errorf("%s: %s, %d of IPv6: %+v", name, four, count, p)
		}
	}
}

// TestNothingIsSent: where nobody is to be asked, nobody is.
func TestNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Network{Route4: home}, Places{Interfaces: []string{"eth0"}})
		s.mapper.make = func(r Route) []protocol { t.Errorf("%+v", r); return nil }
		s.start()
		pass(24 * time.Hour)
		if st := s.mapper.State(); st.IPv4.Code != Off {
			t.Errorf("%+v", st)
		}
		s.move(Network{}, errors.New("no netlink"))
		pass(time.Second)
		if st := s.mapper.State(); st.IPv4.Code != NoGateway {
			t.Errorf("%+v", st)
		}
		s.end()
	})
}

func TestParsePlaces(t *testing.T) {
	p, err := ParsePlaces([]string{"eth0", "192.168.7.9/24", "fe80::1", "wl-p3s0.7"})
	if err != nil || !slices.Equal(p.Interfaces, []string{"eth0", "wl-p3s0.7"}) ||
		!slices.Equal(p.Prefixes, []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fe80::1/128")}) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, w := range []string{"", "a b", "192.168.7.0/33", "a/b"} {
		if p, err := ParsePlaces([]string{w}); err == nil {
			t.Errorf("%q: %+v", w, p)
		}
	}
}

func TestReachable(t *testing.T) {
	for a, want := range map[string]bool{
		"8.8.8.8": true, "198.51.100.1": true, "198.18.0.1": true, "2001:db8::1": true, "2a00::1": true, "100.63.0.1": true, "100.128.0.1": true,
		"10.0.0.1": false, "172.31.0.1": false, "192.168.0.1": false, "100.64.0.1": false, "100.127.255.255": false, "127.0.0.1": false,
		"169.254.1.1": false, "0.0.0.0": false, "0.1.2.3": false, "192.0.0.2": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "::ffff:8.8.8.8": false, "64:ff9b::1": false,
	} {
		if got := reachable(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if reachable(netip.Addr{}) {
		t.Error("no address is reachable")
	}
}

// TestEpoch: the gateway's clock against ours (RFC 6887 8.5).
func TestEpoch(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name   string
		passed time.Duration
		epoch  uint32
		want   bool
	}{
		{"as it should be", time.Hour, 13600, false},
		{"a little slow", time.Hour, 13500, false},
		{"a little fast", time.Hour, 13700, false},
		{"a second back", 0, 9999, false},
		{"back", time.Hour, 9000, true},
		{"began again, and is beyond", 48 * time.Hour, 11000, true},
		{"jumped", time.Hour, 100000, true},
	} {
		var e epoch
		if e.take(10000, now) {
			t.Error("the first answer")
		}
		if got := e.take(c.epoch, now.Add(c.passed)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestCodes: each code has words.
func TestCodes(t *testing.T) {
	for _, c := range append([]Code{Mapped, BehindNAT, Asking, NotNeeded, Off, NoGateway}, worst[:]...) {
		if c.Text() == string(c) {
			t.Errorf("%s has no words", c)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a Mapper without a port")
	}
}
