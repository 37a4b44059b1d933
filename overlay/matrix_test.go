package overlay

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// matrixSeeds is how many seeds each pair of NATs is tried with.
var matrixSeeds = flag.Int("matrix.seeds", 1, "seeds for each pair of kinds of sites; 6 make 1014 runs")

// What may come of a pair of sites.
type outcome uint8

const (
	byRelay  outcome = iota // there is no direct way, or none that can be found
	byChance                // a direct way may be found
	direct
	nothing // not even a relay can be reached: UDP does not pass
)

func (o outcome) String() string { return [...]string{"relay", "either", "direct", "nothing"}[o] }

// traits are what decides whether two sites can reach each other (RFC 5128, 3.3).
type traits struct {
	family       int  // of IP
	open         bool // nothing filters what comes in
	anyPort      bool // lets in what comes from an address that it sent to, whatever the port
	dependent    bool // each remote endpoint sees another port
	foreseeable  bool // the next port can be told from the last one
	blocked      bool
	twins, hairy bool
}

func traitsOf(k vnet.Kind) traits {
	switch k {
	case vnet.Open:
		return traits{family: 4, open: true}
	case vnet.FullCone:
		return traits{family: 4, open: true}
	case vnet.Restricted:
		return traits{family: 4, anyPort: true}
	case vnet.SymmetricRandom:
		return traits{family: 4, dependent: true}
	case vnet.SymmetricSequential:
		return traits{family: 4, dependent: true, foreseeable: true}
	case vnet.Twins:
		return traits{family: 4, twins: true}
	case vnet.TwinsHairpin:
		return traits{family: 4, twins: true, hairy: true}
	case vnet.IPv6Firewall:
		return traits{family: 6}
	case vnet.UDPBlocked:
		return traits{family: 4, blocked: true}
	}
	return traits{family: 4}
}

// expected is what should come of a pair.
func expected(a, b vnet.Kind) outcome {
	x, y := traitsOf(a), traitsOf(b)
	switch {
	case x.blocked || y.blocked:
		return nothing
	case x.family != y.family:
		return byRelay
	case a == b && x.twins && !x.hairy:
		return byRelay
	case !x.dependent && !y.dependent, x.open, y.open:
		return direct
	case x.dependent && y.dependent:
		if x.foreseeable && y.foreseeable {
			return byChance
		}
		return byRelay
	case y.dependent:
		x, y = y, x
	}
	// Now x alone is dependent.
	if y.anyPort || x.foreseeable {
		return direct
	}
	return byRelay
}

// run is what became of a pair.
type matrixRun struct {
	a, b   vnet.Kind
	first  time.Duration // until the first packet arrived; 0: it did not
	direct time.Duration // until the path was direct; 0: it was never
	kept   bool          // it was direct at the end, and packets arrived
	minute int           // packets of a and b in the first minute after the first packet
	later  int           // and in the minute after that, without data
}

// play lets two nodes of a pair of sites speak, which a relay serves.
func play(t *testing.T, w *vnet.World, a, b vnet.Kind) (r matrixRun) {
	r = matrixRun{a: a, b: b}
	net := w.Internet(vnet.Link{Delay: oneWay / 2})
	relay := newTestNode(t, net.Public("relay").Host, nil)
	ha, hb, sites := net.Pair(a, b)
	x, y := newTestNode(t, ha, nil), newTestNode(t, hb, nil)
	adds(x, y, relay)
	for _, n := range []*testNode{x, y} {
		for i := range n.cfg.Peers {
			if n.cfg.Peers[i].Address == relay.address0() {
				n.cfg.Peers[i].Endpoints = publicEndpoints(relay.host)
			}
		}
	}
	traffic := &tally{}
	for _, s := range sites {
		s.Access.Tap(func(p vnet.Packet) { traffic.note() })
	}
	for _, n := range []*testNode{relay, x, y} {
		n.start()
		defer n.stop()
	}
	settle(3 * time.Second)
	traffic.take()
	began := time.Now()
	for k := range 300 { // data for three seconds
		if k%5 == 0 {
			x.say(y, fmt.Sprint("packet ", k))
		}
		settle(10 * time.Millisecond)
		since := time.Since(began)
		if r.first == 0 && y.hasHeard(x) {
			r.first = since
		}
		if r.direct == 0 && (x.peer(y).Path.Kind == PathDirect || x.peer(y).Path.Kind == PathLAN) {
			r.direct = since
		}
		if r.first != 0 && r.direct != 0 && k > 100 {
			break
		}
	}
	x.say(y, "last")
	settle(2 * time.Second)
	kind := x.peer(y).Path.Kind
	r.kept = (kind == PathDirect || kind == PathLAN) && slices.ContainsFunc(y.dev.delivered(), func(d delivered) bool { return d.msg == string(ip6("last")) })
	settle(time.Minute - time.Since(began))
	r.minute = traffic.take()
	settle(time.Minute)
	r.later = traffic.take()
	return r
}

// hasHeard reports whether anything of another node's adapter has arrived.
func (n *testNode) hasHeard(from *testNode) bool {
	return slices.ContainsFunc(n.dev.delivered(), func(d delivered) bool { return d.from == from.address0().ULA() })
}

// publicEndpoints lists where a host can be reached from everywhere.
func publicEndpoints(h *vnet.Host) (list []wire.Endpoint) {
	s, _ := h.State()
	for _, i := range s.Interfaces {
		for _, p := range i.Prefixes {
			if p.Addr().IsGlobalUnicast() {
				list = append(list, wire.UDP(netip.AddrPortFrom(p.Addr(), link.Port)))
			}
		}
	}
	return list
}

// tally counts packets.
type tally struct {
	mu sync.Mutex
	n  int
}

func (c *tally) note() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

// take returns the count, and begins anew.
func (c *tally) take() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = 0
	return n
}

// problems are what is wrong with a run.
func (r matrixRun) problems() (list []string) {
	bad := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	want := expected(r.a, r.b)
	switch {
	case want == nothing:
		if r.first != 0 {
			bad("something arrived, although UDP is blocked")
		}
		return list
	case r.first == 0:
		bad("nothing arrived")
		return list
	}
	if most := 8*oneWay + 150*time.Millisecond; r.first > most {
		bad("the first packet took %v", r.first)
	}
	limit := time.Second
	if traitsOf(r.a).foreseeable || traitsOf(r.b).foreseeable {
		limit = 3 * time.Second
	}
	switch {
	case want == direct && r.direct == 0:
		bad("never direct")
	case want == direct && r.direct > limit:
		bad("direct after %v", r.direct)
	case want == direct && !r.kept:
		bad("direct, and then not any more")
	case want == byRelay && r.direct != 0:
		bad("said to be direct after %v, where no direct way exists", r.direct)
	}
	if r.minute > 700 { // of both, each counted where it leaves and where it arrives
		bad("%d packets in a minute", r.minute)
	}
	if r.direct == 0 && r.later > 80 {
		bad("%d packets in the second minute", r.later)
	}
	return list
}

// TestMatrix has two nodes find each other from each pair of kinds of sites.
func TestMatrix(t *testing.T) {
	runs := map[string][]matrixRun{}
	var mu sync.Mutex
	t.Run("pairs", func(t *testing.T) {
		for _, a := range vnet.Kinds() {
			for _, b := range vnet.Kinds() {
				name := string(a) + "," + string(b)
				for range *matrixSeeds {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						bubble(t, func(t *testing.T, w *vnet.World) {
							r := play(t, w, a, b)
							for _, p := range r.problems() {
								t.Error(p)
							}
							mu.Lock()
							defer mu.Unlock()
							runs[name] = append(runs[name], r)
						})
					})
				}
			}
		}
	})
	if testing.Verbose() {
		printMatrix(runs)
	}
}

// printMatrix shows the medians of all runs.
func printMatrix(runs map[string][]matrixRun) {
	var all []time.Duration
	for _, name := range slices.Sorted(maps.Keys(runs)) {
		var first, direct []time.Duration
		minute, later, directs, failed := 0, 0, 0, 0
		for _, r := range runs[name] {
			first = append(first, r.first)
			if r.direct != 0 {
				directs++
				direct = append(direct, r.direct)
				all = append(all, r.direct)
			}
			minute, later = max(minute, r.minute), max(later, r.later)
			if len(r.problems()) > 0 {
				failed++
			}
		}
		mark := ""
		if failed > 0 {
			mark = "FAILED " + strings.Repeat("!", failed)
		}
		a, b, _ := strings.Cut(name, ",")
		fmt.Fprintf(os.Stdout, "%-20s %-20s want %-7s direct %d/%d first %6v direct %6v packets %4d then %3d %s\n", a, b,
			expected(vnet.Kind(a), vnet.Kind(b)), directs, len(runs[name]), middle(first), middle(direct), minute, later, mark)
	}
	fmt.Fprintf(os.Stdout, "direct after %v in the median, %v at most, of %d\n", middle(all), slices.Max(append(all, 0)), len(all))
}

// middle is the median, in milliseconds.
func middle(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2].Round(time.Millisecond)
}
