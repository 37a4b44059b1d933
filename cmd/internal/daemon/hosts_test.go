package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/vnet"
)

// hostScene is the resolver with a node and a DNS of the test's.
type hostScene struct {
	t     *testing.T
	hosts *hosts
	moved chan struct{} // the network changes
	log   bytes.Buffer  // after end

	mu      sync.Mutex
	entries []overlay.Peer
	states  map[anode.Address]overlay.PeerStatus
	hints   map[anode.Address][]wire.Endpoint
	answers map[string]func(ctx context.Context) ([]netip.Addr, error)
	asked   map[string]int
	asking  int
	most    int // that asked at once
	set     int // calls of SetHints
	watches map[*hostWatch]bool
	woken   int // events that were read
}

type hostWatch struct {
	scene *hostScene
	kinds []overlay.EventKind
	wake  chan overlay.Event
}

func (w *hostWatch) Next(ctx context.Context) ([]overlay.Event, error) {
	select {
	case e := <-w.wake:
		w.scene.mu.Lock()
		defer w.scene.mu.Unlock()
		w.scene.woken++
		return []overlay.Event{e}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *hostWatch) Close() {
	w.scene.mu.Lock()
	defer w.scene.mu.Unlock()
	delete(w.scene.watches, w)
}

// hostTest runs a test in a bubble, with the resolver running.
func hostTest(t *testing.T, f func(t *testing.T, s *hostScene)) {
	synctest.Test(t, func(t *testing.T) {
		s := &hostScene{
			t: t, moved: make(chan struct{}), states: map[anode.Address]overlay.PeerStatus{}, hints: map[anode.Address][]wire.Endpoint{},
			answers: map[string]func(context.Context) ([]netip.Addr, error){}, asked: map[string]int{}, watches: map[*hostWatch]bool{},
		}
		s.hosts = &hosts{node: s, self: newAddress(t).ULA(), watch: s.watch, resolve: s.resolve, network: s.network, log: slog.New(slog.NewTextHandler(&s.log, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.hosts.run(ctx) }()
		synctest.Wait()
		f(t, s)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(s.watches) > 0 {
			t.Errorf("%d watches were left open", len(s.watches))
		}
	})
}

func (s *hostScene) watch(kinds ...overlay.EventKind) hostEvents {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &hostWatch{s, kinds, make(chan overlay.Event, 64)}
	s.watches[w] = true
	return w
}

func (s *hostScene) network(ctx context.Context, changed func()) error {
	for {
		select {
		case <-s.moved:
			changed()
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *hostScene) resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	s.mu.Lock()
	s.asked[name]++
	s.asking++
	s.most = max(s.most, s.asking)
	answer := s.answers[name]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking--
	}()
	if answer == nil {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return answer(ctx)
}

func (s *hostScene) Entries() []overlay.Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries)
}

func (s *hostScene) PeerStatus(_ context.Context, a anode.Address) (overlay.PeerStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[a], nil
}

func (s *hostScene) SetHints(_ context.Context, a anode.Address, hints []wire.Endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set++
	s.hints[a] = hints
	return nil
}

// event tells the watchers, and lets them act.
func (s *hostScene) event(kind overlay.EventKind, a anode.Address) {
	s.mu.Lock()
	for w := range s.watches {
		if slices.Contains(w.kinds, kind) {
			w.wake <- overlay.Event{Kind: kind, Address: a}
		}
	}
	s.mu.Unlock()
	synctest.Wait()
}

// decide sets the names of a peer, as people do; with none it is removed.
func (s *hostScene) decide(a anode.Address, names ...string) {
	s.t.Helper()
	e := overlay.Peer{Address: a, Added: true}
	for _, name := range names {
		h, err := book.ParseHost(name)
		if err != nil {
			s.t.Fatal(err)
		}
		e.Hosts = append(e.Hosts, h)
	}
	s.mu.Lock()
	s.entries = slices.DeleteFunc(s.entries, func(e overlay.Peer) bool { return e.Address == a })
	if len(names) > 0 {
		s.entries = append(s.entries, e)
	}
	s.mu.Unlock()
	s.event(overlay.EventDecided, a)
}

// become gives a peer another state.
func (s *hostScene) become(a anode.Address, state overlay.PeerState, kind overlay.PathKind) {
	s.mu.Lock()
	s.states[a] = overlay.PeerStatus{Address: a, State: state, Path: overlay.PathStatus{Kind: kind}}
	s.mu.Unlock()
	s.event(overlay.EventPeer, a)
}

// answer has a name resolve to addresses from now on.
func (s *hostScene) answer(name string, texts ...string) {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = func(context.Context) ([]netip.Addr, error) { return list, nil }
}

func (s *hostScene) fail(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = func(context.Context) ([]netip.Addr, error) { return nil, err }
}

func (s *hostScene) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// has compares the hints of a peer.
func (s *hostScene) has(when string, a anode.Address, want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, e := range s.hints[a] {
		got = append(got, e.String())
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: the hints are %v, want %v", when, got, want)
	}
}

// wasAsked compares how often a name was asked for so far.
func (s *hostScene) wasAsked(when, name string, want int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.asked[name]; got != want {
		s.t.Errorf("%s: %s was asked for %d times, want %d", when, name, got, want)
	}
}

// shows compares what people see of a name.
func (s *hostScene) shows(when, name string, state control.HostState, problem string) {
	s.t.Helper()
	h, err := book.ParseHost(name)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := s.hosts.look(h); got.Endpoint != h || got.State != state || got.Problem != problem || got.Addresses == nil {
		s.t.Errorf("%s: %+v, want %s, %q", when, got, state, problem)
	}
}

// Without names nothing wakes except by what people decide.
func TestHostsWithoutNames(t *testing.T) {
	hostTest(t, func(t *testing.T, s *hostScene) {
		a := newAddress(t)
		s.become(a, overlay.StateUnreachable, overlay.PathNone)
		s.pass(time.Hour)
		if s.woken > 0 || s.set > 0 || len(s.watches) != 1 {
			t.Errorf("woken %d times, %d hints, %d watches", s.woken, s.set, len(s.watches))
		}
		s.decide(a, "home.example.org")
		s.decide(a)
		s.wasAsked("added and removed", "home.example.org", 1)
		if len(s.watches) != 1 {
			t.Errorf("%d watches when the name is gone", len(s.watches))
		}
		woken := s.woken
		s.become(a, overlay.StateUnreachable, overlay.PathNone)
		s.pass(time.Hour)
		if s.woken != woken {
			t.Error("it wakes after the last name has gone")
		}
	})
}

// A name is resolved when it appears, its addresses are the peer's hints, and they go with
// the name.
func TestHostsResolve(t *testing.T) {
	hostTest(t, func(t *testing.T, s *hostScene) {
		a, b := newAddress(t), newAddress(t)
		s.answer("home.example.org", "192.0.2.7", "2001:db8::7")
		s.shows("before", "home.example.org", control.HostAsking, "")
		s.decide(a, "home.example.org:1", "HOME.example.org:2")
		s.has("added", a, "udp:[2001:db8::7]:1", "udp:[2001:db8::7]:2", "udp:192.0.2.7:1", "udp:192.0.2.7:2")
		s.wasAsked("two endpoints of one name", "home.example.org", 1)
		s.shows("resolved", "home.example.org", control.HostFound, "")
		s.decide(b, "home.example.org")
		s.has("another peer", b, "udp:[2001:db8::7]:8737", "udp:192.0.2.7:8737")
		s.wasAsked("two peers of one name", "home.example.org", 1)

		s.answer("office.example.org", "198.51.100.1")
		s.decide(a, "office.example.org")
		s.has("another name", a, "udp:198.51.100.1:8737")
		s.decide(a, "nowhere.example.org")
		s.has("a name that is not found", a)
		s.decide(a)
		s.has("removed", a)
		s.has("the other", b, "udp:[2001:db8::7]:8737", "udp:192.0.2.7:8737")

		// Nobody asks while there is no need.
		s.pass(time.Hour)
		s.become(b, overlay.StateUp, overlay.PathDirect)
		s.pass(time.Hour)
		s.wasAsked("in use", "home.example.org", 1)

		// A peer that was removed and added again has lost its hints in the node.
		s.mu.Lock()
		delete(s.hints, b)
		s.mu.Unlock()
		s.event(overlay.EventDecided, b)
		s.has("added again", b, "udp:[2001:db8::7]:8737", "udp:192.0.2.7:8737")
	})
}

// A name is resolved again when the peer fails, less and less often, until it is reached.
func TestHostsAgain(t *testing.T) {
	hostTest(t, func(t *testing.T, s *hostScene) {
		a := newAddress(t)
		const name = "home.example.org"
		s.answer(name, "192.0.2.1")
		s.decide(a, name)
		s.become(a, overlay.StateUp, overlay.PathDirect)
		s.pass(time.Hour)
		s.wasAsked("while it is up", name, 1)

		s.answer(name, "192.0.2.2")
		s.become(a, overlay.StateUnreachable, overlay.PathNone)
		s.wasAsked("lost", name, 2)
		s.has("moved", a, "udp:192.0.2.2:8737")
		at := time.Now()
		var gaps []time.Duration
		for n, last := 2, at; time.Since(at) < 2*time.Hour; s.pass(time.Second) {
			s.mu.Lock()
			if s.asked[name] > n {
				n = s.asked[name]
				gaps = append(gaps, time.Since(last))
				last = time.Now()
			}
			s.mu.Unlock()
		}
		want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute}
		if len(gaps) < len(want) || !slices.Equal(gaps[:len(want)], want) || slices.Max(gaps) > 10*time.Minute {
			t.Errorf("asked again after %v", gaps)
		}

		// A change of the network makes it ask at once.
		s.pass(time.Minute)
		n := s.asked[name]
		s.moved <- struct{}{}
		s.pass(time.Second)
		s.wasAsked("the network changed", name, n+1)

		// So does a peer that was reached meanwhile, and that fails again.
		s.pass(12 * time.Hour)
		s.become(a, overlay.StateUp, overlay.PathDirect)
		n = s.asked[name]
		s.pass(15 * time.Second)
		s.become(a, overlay.StateUnreachable, overlay.PathNone)
		s.wasAsked("lost once more", name, n+1)
		s.become(a, overlay.StateConnecting, overlay.PathNone)
		s.wasAsked("sought at once", name, n+1)

		// A relay is no reason to rest: the peer has a better path under its name.
		s.become(a, overlay.StateUp, overlay.PathRelay)
		s.pass(time.Minute)
		s.wasAsked("relayed", name, n+2)
		s.become(a, overlay.StateIdle, overlay.PathNone)
		s.pass(time.Hour)
		s.wasAsked("idle", name, n+2)
	})
}

// What goes wrong is shown and logged once; the addresses of before stay.
func TestHostsFailures(t *testing.T) {
	var log string
	hostTest(t, func(t *testing.T, s *hostScene) {
		a := newAddress(t)
		const name = "home.example.org"
		s.decide(a, name)
		s.shows("no such name", name, control.HostNotFound, "not found")
		s.pass(time.Hour)
		s.mu.Lock()
		if n := s.asked[name]; n < 5 || n > 12 {
			t.Errorf("an idle peer's name was asked for %d times in an hour", n)
		}
		s.mu.Unlock()
		if got := s.hosts.look(book.Host{Name: name, Port: 8737}); got.Since == nil || time.Since(*got.Since) < 59*time.Minute {
			t.Errorf("not found since %v", got.Since)
		}

		s.answer(name, "192.0.2.1")
		s.pass(10 * time.Minute)
		s.has("found", a, "udp:192.0.2.1:8737")
		if got := s.hosts.look(book.Host{Name: name, Port: 8737}); got.Since == nil || time.Since(*got.Since) > 10*time.Minute {
			t.Errorf("found since %v", got.Since)
		}
		s.shows("found", name, control.HostFound, "")

		s.become(a, overlay.StateUnreachable, overlay.PathNone)
		for _, x := range []struct {
			err     error
			addrs   []string
			state   control.HostState
			problem string
		}{
			{err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}, state: control.HostFailed, problem: "no answer from DNS"},
			{err: fmt.Errorf("lookup: %w", context.DeadlineExceeded), state: control.HostFailed, problem: "no answer from DNS"},
			{err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}, state: control.HostFailed, problem: "DNS cannot be asked, or answers with an error"},
			{err: errors.New("broken"), state: control.HostFailed, problem: "DNS cannot be asked, or answers with an error"},
			{state: control.HostNotFound, problem: "not found: it has no address"},
			{addrs: []string{"127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1", "169.254.1.1", "255.255.255.255", "240.0.0.1", "0.1.2.3", "::ffff:127.0.0.1", s.hosts.self.String(), a.ULA().String()},
				state: control.HostUnusable, problem: "no address of it can be that of another machine"},
		} {
			if x.err != nil {
				s.fail(name, x.err)
			} else {
				s.answer(name, x.addrs...)
			}
			s.pass(10 * time.Minute)
			s.shows(fmt.Sprint(x.err, x.addrs), name, x.state, x.problem)
			s.has(fmt.Sprint(x.err, x.addrs), a, "udp:192.0.2.1:8737")
		}
		s.answer(name, "192.0.2.2")
		s.pass(10 * time.Minute)
		s.has("found again", a, "udp:192.0.2.2:8737")
		s.pass(time.Hour)
		log = s.log.String()
	})
	for line, times := range map[string]int{
		`host=home.example.org problem="not found" using=[]`:                   1,
		`msg="host name resolved" host=home.example.org addresses=[192.0.2.1]`: 1,
		`problem="no answer from DNS" using=[192.0.2.1]`:                       1, // both kinds
		`problem="no address of it can be that of another machine"`:            1,
		`msg="host name resolved" host=home.example.org addresses=[192.0.2.2]`: 1,
	} {
		if n := strings.Count(log, line); n != times {
			t.Errorf("%d times %s in\n%s", n, line, log)
		}
	}
}

// A resolver that does not answer holds up nobody: not other names beyond the bound, not
// the end.
func TestHostsSlow(t *testing.T) {
	hostTest(t, func(t *testing.T, s *hostScene) {
		const names = 11
		began := time.Now()
		for k := range names {
			name := fmt.Sprintf("h%d.example.org", k)
			s.answers[name] = func(ctx context.Context) ([]netip.Addr, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			s.decide(newAddress(t), name)
		}
		s.pass(3*queryLimit - time.Second) // each four at a time
		s.mu.Lock()
		asked := 0
		for _, n := range s.asked {
			asked += n
		}
		if s.most != maxQueries || asked != names {
			t.Errorf("%d queries at once, %d in all", s.most, asked)
		}
		s.mu.Unlock()
		s.shows("late", "h0.example.org", control.HostFailed, "no answer from DNS")
		s.answer("quick.example.org", "192.0.2.9")
		a := newAddress(t)
		s.decide(a, "quick.example.org")
		s.pass(queryLimit)
		s.has("beside slow ones", a, "udp:192.0.2.9:8737")
		if time.Since(began) > time.Minute {
			t.Error("it took long")
		}
	})
}

// Of many addresses a few are used, of both families, whatever their order.
func TestHostsChosen(t *testing.T) {
	parse := func(texts string) (list []netip.Addr) {
		for text := range strings.FieldsSeq(texts) {
			list = append(list, netip.MustParseAddr(text))
		}
		return list
	}
	inside := map[netip.Addr]bool{netip.MustParseAddr("fd00::7"): true}
	for answer, want := range map[string]string{
		"":                              "",
		"192.0.2.1":                     "192.0.2.1",
		"192.0.2.2 192.0.2.1 192.0.2.2": "192.0.2.1 192.0.2.2",
		"::ffff:192.0.2.1 192.0.2.1":    "192.0.2.1",
		"192.0.2.5 192.0.2.4 192.0.2.3 192.0.2.2 192.0.2.1":                 "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4",
		"192.0.2.3 192.0.2.2 192.0.2.1 2001:db8::3 2001:db8::2 2001:db8::1": "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2",
		"2001:db8::1 192.0.2.3 192.0.2.2 192.0.2.1":                         "2001:db8::1 192.0.2.1 192.0.2.2 192.0.2.3",
		"127.0.0.1 10.0.0.1 fd00::7 fd00::8 fe80::1":                        "fd00::8 10.0.0.1",
	} {
		if got := chosen(parse(answer), inside); !slices.Equal(got, parse(want)) {
			t.Errorf("%s: %v, want %s", answer, got, want)
		}
	}
}

// A daemon takes names from its configuration, again at each reload, and from people. It
// reaches a peer by a name alone, and shows over the socket what became of it.
func TestReloadHosts(t *testing.T) {
	w := vnet.New(vnet.Seed(t))
	t.Cleanup(w.Close)
	router := w.Router("internet")
	place := func(name string, net byte) *vnet.Host {
		s, h := w.Segment(name, vnet.Link{}), w.Host(name)
		gateway := netip.AddrFrom4([4]byte{51, 0, net, 254})
		router.Attach(s, netip.PrefixFrom(gateway, 24))
		h.Attach(s, netip.PrefixFrom(netip.AddrFrom4([4]byte{51, 0, net, 1}), 24))
		h.Gateway(gateway)
		return h
	}
	a, b := newMachine(t, place("a", 1)), newMachine(t, place("b", 2))
	a.options.Resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
		if name == "b.example.org" {
			return []netip.Addr{netip.MustParseAddr("51.0.2.1")}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	peer := func(endpoint string) string {
		return "[[peers]]\naddress = \"" + b.identity(t).String() + "\"\nendpoints = [\"" + endpoint + "\"]\n"
	}
	a.configure(t, peer("nowhere.example.org"))
	b.configure(t, "[[peers]]\naddress = \""+a.identity(t).String()+"\"\n")
	a.start(t)
	b.start(t)
	ctx := t.Context()
	hosts := func(r control.EndpointsRequest) (texts []string) {
		t.Helper()
		r.Address = b.identity(t)
		list, err := a.client.Endpoints(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range list.Hosts {
			texts = append(texts, fmt.Sprint(h.Endpoint, " ", h.State, " ", h.Addresses, h.Problem))
		}
		return texts
	}
	a.log.wait(`msg="host name not resolved; it will be retried" host=nowhere.example.org problem="not found"`)
	if got := hosts(control.EndpointsRequest{}); !slices.Equal(got, []string{"udp:nowhere.example.org:8737 not_found []not found"}) {
		t.Errorf("%q", got)
	}
	a.hangUp(t, peer("udp:b.example.org:8737"))
	a.log.wait(`msg="host name resolved" host=b.example.org addresses=[51.0.2.1]`)
	reply, err := a.client.Ping(ctx, control.PingRequest{Address: b.identity(t), Size: 100, TimeoutMS: 10_000})
	if err != nil || reply.Path.Endpoint != "udp:51.0.2.1:8737" {
		t.Errorf("%+v, %v", reply, err)
	}
	if got := hosts(control.EndpointsRequest{}); !slices.Equal(got, []string{"udp:b.example.org:8737 found [51.0.2.1]"}) {
		t.Errorf("%q", got)
	}

	// The peer is people's own from now on.
	if _, err := a.client.Add(ctx, control.AddRequest{Address: b.identity(t)}); err != nil {
		t.Fatal(err)
	}
	other, err := book.ParsePlace("other.example.org")
	if err != nil {
		t.Fatal(err)
	}
	hosts(control.EndpointsRequest{Add: []book.Place{other}})
	a.log.wait("host=other.example.org")
	if got := hosts(control.EndpointsRequest{}); len(got) != 2 || got[1] != "udp:other.example.org:8737 not_found []not found" {
		t.Errorf("%q", got)
	}
	if got := hosts(control.EndpointsRequest{Remove: []book.Place{other}}); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
