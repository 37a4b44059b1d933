package path

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

func way(s string) Way {
	return Way{Endpoint: link.Endpoint{Addr: netip.MustParseAddrPort(s)}}
}

func via(s string, relay byte) Way {
	w := way(s)
	w.Via[0] = relay
	return w
}

// numbered returns a way of its own for each n.
func numbered(n int) Way {
	return way(fmt.Sprintf("192.0.2.%d:%d", n%250+1, n/250+1))
}

// net is a set and the ways that answer, with their round trips.
type net struct {
	t     *testing.T
	s     *Set
	now   mono.Time
	alive map[Way]time.Duration
	acks  []epc
	sent  map[Way]int
	total int
}

type epc struct {
	at  mono.Time
	req Request
}

func newNet(t *testing.T) *net {
	return &net{t: t, s: NewSet(ids()), now: mono.At(time.Hour), alive: map[Way]time.Duration{}, sent: map[Way]int{}}
}

// run sends what is due and brings the answers, in steps of 10 ms, or of what is left.
func (n *net) run(d time.Duration) {
	n.t.Helper()
	for end := n.now.Add(d); n.now < end; n.now = min(end, n.now.Add(10*ms)) {
		n.step()
	}
	n.step()
}

func (n *net) step() {
	n.t.Helper()
	for len(n.acks) > 0 && n.acks[0].at <= n.now {
		w := n.acks[0].req.Way
		n.s.Answered(n.now, n.acks[0].req.ID, w.Endpoint, w.Via, 0)
		n.acks = n.acks[1:]
	}
	due, next := n.s.Requests(n.now)
	if next < n.now || len(due) > 0 && next == n.now {
		n.t.Fatalf("due at %v, and it is %v", next, n.now)
	}
	for _, r := range due {
		n.sent[r.Way]++
		n.total++
		if rtt, ok := n.alive[r.Way]; ok {
			k := 0
			for k < len(n.acks) && n.acks[k].at <= n.now.Add(rtt) {
				k++
			}
			n.acks = append(n.acks[:k:k], append([]epc{{n.now.Add(rtt), r}}, n.acks[k:]...)...)
		}
	}
}

func (n *net) best() Way {
	b, _ := n.s.Best()
	return b.Way
}

func (n *net) state(w Way) State {
	if i := n.s.find(w); i != nil {
		return i.State
	}
	return 99
}

// confirm adds a way that answers.
func (n *net) confirm(w Way, o Origin, onLink bool, rtt time.Duration) {
	n.t.Helper()
	n.alive[w] = rtt
	n.s.Add(n.now, w, o, onLink)
	n.run(rtt + 10*ms)
	if n.state(w) != Confirmed {
		n.t.Fatalf("%v is not confirmed", w)
	}
}

func TestLearnedOnlyByEPC(t *testing.T) {
	relay := anode.Address{1}
	direct, relayed := way("192.0.2.1:8737"), via("192.0.2.1:8737", 1)
	for _, c := range []struct {
		name string
		w    Way
		id   uint32 // beside the right one
		src  string
		via  anode.Address
		ok   bool
	}{
		{"as asked", direct, 0, "192.0.2.1:8737", anode.Address{}, true},
		{"an ID that is not pending", direct, 1, "192.0.2.1:8737", anode.Address{}, false},
		{"from elsewhere", direct, 0, "192.0.2.2:8737", anode.Address{}, false},
		{"from a relay's endpoint", direct, 0, "192.0.2.1:8737", relay, false},
		{"through the relay", relayed, 0, "192.0.2.1:8737", relay, true},
		{"through another relay", relayed, 0, "192.0.2.1:8737", anode.Address{2}, false},
		{"not through the relay", relayed, 0, "192.0.2.1:8737", anode.Address{}, false},
	} {
		s, now := NewSet(ids()), mono.At(0)
		s.Add(now, c.w, Heard, false)
		if _, ok := s.Best(); ok {
			t.Errorf("%s: a candidate is used", c.name)
		}
		due, _ := s.Requests(now)
		if len(due) != 1 || !due[0].First {
			t.Fatalf("%s: due %v", c.name, due)
		}
		src := netip.MustParseAddrPort(c.src)
		take := func() bool {
			_, ok := s.Answered(now.Add(20*ms), due[0].ID+c.id, link.Endpoint{Addr: src}, c.via, 0)
			return ok
		}
		if take() != c.ok || take() {
			t.Errorf("%s: taken wrongly, or twice", c.name)
		}
		if b, ok := s.Best(); ok != c.ok || ok && (b.Way != c.w || b.RTT != 20*ms) {
			t.Errorf("%s: best %+v", c.name, b)
		}
	}
}

func TestRetriesBackOffAndEnd(t *testing.T) {
	s := NewSet(ids())
	start := mono.At(0)
	s.Add(start, way("192.0.2.1:1"), Heard, false)
	var at []time.Duration
	for now := start; now != mono.Never; {
		due, next := s.Requests(now)
		for range due {
			at = append(at, now.Sub(start))
		}
		now = next
	}
	if want := fmt.Sprint([]time.Duration{0, 250 * ms, 750 * ms, 1750 * ms, 3750 * ms}); fmt.Sprint(at) != want {
		t.Errorf("checked at %v, want %v", at, want)
	}
	if w := s.Ways(); len(w) != 1 || w[0].State != Failed {
		t.Errorf("ways %+v", w)
	}
	if s.Requests(start.Add(retain + time.Hour)); len(s.Ways()) != 0 {
		t.Error("a failed way is kept for ever")
	}
}

// Each origin has its places; no flood of one kind takes those of another, a candidate
// that may still answer, a confirmed way or one of the user's.
func TestPlaces(t *testing.T) {
	for flood := Beacon; flood <= Static; flood++ {
		for victim := Beacon; victim <= Static; victim++ {
			n := newNet(t)
			confirmed, w, user := numbered(1), numbered(2), numbered(3)
			n.confirm(confirmed, Heard, false, 20*ms)
			n.s.Add(n.now, user, Static, false)
			if r := n.s.Add(n.now, w, victim, false); r != New {
				t.Fatalf("%v: %v", victim, r)
			}
			for k := range 200 {
				n.s.Add(n.now, numbered(k+10), flood, false)
				n.run(20 * ms)
			}
			if n.s.find(confirmed) == nil || n.s.find(w) == nil || n.s.find(user) == nil {
				t.Errorf("%v took the place of a confirmed way, of a candidate of %v or of the user's", flood, victim)
			}
			if len(n.s.ways) > 20 {
				t.Errorf("%d ways", len(n.s.ways))
			}
			if flood == victim {
				continue
			}
			// In the middle of the flood, a way of another origin is found.
			good := numbered(5)
			n.alive[good] = 20 * ms
			n.s.Remove(func(i *Info) bool { return i.Way == w || i.Way == user })
			n.s.Add(n.now, good, victim, false)
			n.run(time.Second)
			if n.state(good) != Confirmed {
				t.Errorf("%v kept a way of %v from being found", flood, victim)
			}
		}
	}
}

func TestAddResults(t *testing.T) {
	n := newNet(t)
	add := func(k int, o Origin, want Result) {
		t.Helper()
		if got := n.s.Add(n.now, numbered(k), o, false); got != want {
			t.Errorf("adding %d as %v: %v, want %v", k, o, got, want)
		}
	}
	for k := range places[Told] {
		add(k, Told, New)
	}
	add(0, Told, Known)
	add(9, Told, Full)
	add(9, Stored, New)
	add(0, Static, Known) // and leaves a place
	add(10, Told, New)
	n.run(20 * time.Second)
	for k := range places[Told] {
		add(20+k, Told, New) // in the place of one that failed
	}
	add(30, Told, Full)
	n.s.Remove(func(*Info) bool { return true })
	got := New
	for k := 0; got == New && k < 50; k++ {
		n.s.Remove(func(*Info) bool { return true })
		got = n.s.Add(n.now, numbered(k), Told, false)
	}
	if got != Budget {
		t.Errorf("%v after 50 hints at once", got)
	}
}

// Whatever a peer names and however it behaves, it makes us send a handful of packets a
// second to places that do not answer.
func TestHintsCost(t *testing.T) {
	for _, relayed := range []bool{false, true} {
		n := newNet(t)
		good := way("198.51.100.1:1")
		if relayed {
			good = via("198.51.100.1:1", 1)
		}
		n.confirm(good, Stored, false, 20*ms)
		n.run(10 * time.Second)
		const seconds = 120
		for k := range seconds * 50 {
			for o := range Relay {
				n.s.Add(n.now, numbered(k), o, false)
				n.s.Nudge(n.now, numbered(max(k-7, 0)))
				n.s.Nudge(n.now, numbered(k/100))
			}
			if k%50 == 0 {
				n.s.Suspect(n.now)
			}
			n.run(20 * ms)
			if len(n.s.ways) > 20 {
				t.Fatalf("%d ways", len(n.s.ways))
			}
		}
		if rate := float64(n.total-n.sent[good]) / seconds; rate > 8 {
			t.Errorf("%.1f packets a second to places that were named", rate)
		} else {
			t.Logf("%.1f packets a second", rate)
		}
	}
}

// A new endpoint that answers wins over the old one that is silent, whatever the round
// trips and whoever noticed the move.
func TestMoved(t *testing.T) {
	old, fresh := numbered(1), numbered(2)
	for name, rtt := range map[string][2]time.Duration{
		"quicker": {50 * ms, 10 * ms}, "slower": {10 * ms, 400 * ms}, "far": {600 * ms, 700 * ms},
	} {
		for _, onLink := range []bool{false, true} {
			n := newNet(t)
			n.confirm(old, Told, onLink, rtt[0])
			n.run(time.Minute)
			if n.best() != old {
				t.Fatal("not used")
			}
			delete(n.alive, old)
			n.alive[fresh] = rtt[1]
			n.s.Add(n.now, fresh, Roamed, false)
			n.run(rtt[1] + max(firstRetry, min(2*rtt[0], slowRetry)) + 20*ms)
			if n.best() != fresh {
				t.Errorf("%s: best %v, want the one that answers", name, n.best())
			}
			n.run(time.Minute)
			if n.state(old) == Confirmed {
				t.Errorf("%s: the old one is %v", name, n.state(old))
			}
			// It is back once it answers and is better.
			n.alive[old] = 5 * ms
			n.s.Add(n.now, old, Roamed, onLink)
			n.run(time.Second)
			if n.best() != old && rtt[1] > 10*ms {
				t.Errorf("%s: best %v, want the better one back", name, n.best())
			}
		}
	}
}

// Two confirmed ways, and the peer is heard on the other only: the one in use is asked,
// left if it does not answer, kept and rarely asked if it does.
func TestHeardElsewhere(t *testing.T) {
	for _, alive := range []bool{true, false} {
		n := newNet(t)
		a, b := numbered(1), numbered(2)
		n.confirm(a, Told, false, 10*ms)
		n.confirm(b, Told, false, 60*ms)
		n.run(time.Minute)
		if n.best() != a {
			t.Fatal("the quicker one is not used")
		}
		if !alive {
			delete(n.alive, a)
		}
		before := n.sent[a]
		for range 10 {
			n.s.Heard(n.now, b.Endpoint, anode.Address{})
			n.run(100 * ms)
		}
		if (n.best() == a) != alive {
			t.Errorf("alive %v: best %v", alive, n.best())
		}
		for range 90 {
			n.s.Heard(n.now, b.Endpoint, anode.Address{})
			n.run(100 * ms)
		}
		if got := n.sent[a] - before; got > 6 {
			t.Errorf("alive %v: asked %d times in 10 s", alive, got)
		}
	}
	// What comes from a relay's endpoint is not heard on the direct way, nor the reverse.
	n := newNet(t)
	n.confirm(numbered(1), Told, false, 10*ms)
	heard := n.s.find(numbered(1)).Heard
	n.s.Heard(n.now, numbered(1).Endpoint, anode.Address{1})
	if n.s.find(numbered(1)).Heard != heard {
		t.Error("heard on a way that the packet did not take")
	}
}

// A pair that reaches each other by a relay moves to a direct way as soon as one works.
func TestRelayedToDirect(t *testing.T) {
	for _, o := range []Origin{Told, Stored, Static} {
		n := newNet(t)
		relayed, direct := via("198.51.100.1:1", 1), numbered(1)
		n.confirm(relayed, Relay, false, 10*ms)
		n.s.Add(n.now, direct, o, false)
		n.run(20 * time.Minute)
		if !n.s.Relayed() || n.state(direct) == 99 {
			t.Fatalf("%v: relayed %v", o, n.s.Relayed())
		}
		if got := n.sent[direct]; got < 3*maxTries || got > 12*maxTries {
			t.Errorf("%v: %d requests in 20 min", o, got)
		}
		n.alive[direct] = 50 * ms
		n.s.Suspect(n.now)
		n.run(time.Second)
		if n.best() != direct || n.s.Relayed() {
			t.Errorf("%v: best %v 1 s after the links changed", o, n.best())
		}
		delete(n.alive, direct)
		n.s.Silent(n.now)
		n.run(20 * time.Second)
		if n.best() != relayed {
			t.Errorf("%v: best %v after the direct way died", o, n.best())
		}
		n.alive[direct] = 50 * ms
		n.run(20 * time.Second)
		if n.best() != direct {
			t.Errorf("%v: best %v after the direct way came back", o, n.best())
		}
	}
}

func TestSilent(t *testing.T) {
	n := newNet(t)
	direct, relayed, failed := numbered(1), via("198.51.100.1:1", 1), numbered(2)
	n.s.Add(n.now, failed, Told, false)
	n.confirm(direct, Told, false, 10*ms)
	n.confirm(relayed, Relay, false, 10*ms)
	n.run(20 * time.Second)
	before, named := n.sent[direct], n.sent[failed]
	for range 100 {
		if relay, checked := n.s.Silent(n.now); checked && relay != (anode.Address{}) {
			t.Fatal("the best way is not relayed")
		}
		n.run(10 * ms)
	}
	if got := n.sent[direct] - before; got != 2 {
		t.Errorf("%d requests in 1 s", got)
	}
	if n.sent[failed] != named {
		t.Error("a way was checked that is not in use")
	}
	delete(n.alive, direct)
	n.run(time.Second)
	n.s.Silent(n.now)
	n.run(300 * ms)
	if n.best() != relayed {
		t.Errorf("best %v", n.best())
	}
	n.run(time.Second)
	if relay, checked := n.s.Silent(n.now); !checked || relay != relayed.Via {
		t.Errorf("relay %v, %v", relay, checked)
	}
}

func TestBest(t *testing.T) {
	relayed, twice, far, near := via("192.0.2.9:1", 1), via("192.0.2.8:1", 2), way("192.0.2.1:1"), way("10.0.0.1:1")
	n := newNet(t)
	for _, c := range []struct {
		w      Way
		o      Origin
		rtt    time.Duration
		onLink bool
	}{{twice, Relay, 40 * ms, false}, {relayed, Relay, 20 * ms, false}, {far, Told, 60 * ms, false}, {near, Told, 90 * ms, true}} {
		n.confirm(c.w, c.o, c.onLink, c.rtt)
		if n.best() != c.w {
			t.Errorf("best %v, want the new %v", n.best(), c.w)
		}
	}
	// It stays with what it has unless another is clearly better.
	n.confirm(way("10.0.0.2:1"), Static, true, 80*ms)
	if n.best() != near {
		t.Errorf("left for %v", n.best())
	}
	// What owes an answer comes last, and is back when it has answered.
	n.run(time.Second)
	delete(n.alive, near)
	delete(n.alive, way("10.0.0.2:1"))
	n.s.Suspect(n.now)
	if n.best() != near {
		t.Errorf("left at once for %v", n.best())
	}
	n.run(300 * ms)
	if n.best() != far {
		t.Errorf("best %v, want the only one that answers", n.best())
	}
	n.alive[near] = 90 * ms
	n.run(time.Second)
	if n.best() != near {
		t.Errorf("best %v, want the near one back", n.best())
	}
}

// A way from which something came is checked at once, though its next check is far.
func TestNudge(t *testing.T) {
	s := NewSet(ids())
	w, now := way("192.0.2.1:1"), mono.At(0)
	s.Add(now, w, Heard, false)
	for _, d := range []time.Duration{0, 250 * ms, 750 * ms} {
		s.Requests(now.Add(d))
	}
	s.Nudge(now.Add(800*ms), w)
	if due, _ := s.Requests(now.Add(800 * ms)); len(due) != 0 {
		t.Error("checked again within 250 ms")
	}
	s.Nudge(now.Add(1100*ms), w)
	if due, _ := s.Requests(now.Add(1100 * ms)); len(due) != 1 || !due[0].First {
		t.Errorf("due %v", due)
	}
	s.Nudge(now.Add(1100*ms), way("192.0.2.2:1"))
}

func TestStaticIsTriedAgain(t *testing.T) {
	s := NewSet(ids())
	start := mono.At(0)
	s.Add(start, way("192.0.2.1:1"), Static, false)
	checks, last := 0, time.Duration(0)
	for now := start; now.Sub(start) < 24*time.Hour; {
		due, next := s.Requests(now)
		checks += len(due)
		if next == mono.Never {
			t.Fatal("given up")
		}
		last, now = next.Sub(now), next
	}
	if checks > maxTries*24*12 || last > lastRest || len(s.Ways()) != 1 {
		t.Errorf("%d checks a day, the last after %v, %d ways", checks, last, len(s.Ways()))
	}
}

// A peer that nobody speaks with costs little.
func TestIdleSetIsSmall(t *testing.T) {
	s := NewSet(ids())
	if n := testing.AllocsPerRun(100, func() { s.Requests(1); s.Best(); s.Suspect(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if _, next := s.Requests(1); next != mono.Never {
		t.Error("there is a timer without ways")
	}
}

func TestNames(t *testing.T) {
	for o := range Static + 1 {
		if o.String() == "" {
			t.Error("an origin without a name")
		}
	}
	for got, want := range map[fmt.Stringer]string{Failed: "failed", Confirmed: "confirmed", Budget: "budget", Full: "full", raising: "raising"} {
		if got.String() != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// FuzzSet checks that whatever happens in whatever order, the set is bounded, best is
// confirmed, the user's ways stay, and time goes on.
func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 200, 0, 2, 2})
	f.Add([]byte("the ways to one machine of a peer"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 200 {
			return
		}
		s, now := NewSet(ids()), mono.At(0)
		static := way("198.51.100.1:1")
		s.Add(now, static, Static, false)
		var sent []Request
		for k, b := range in {
			now = now.Add(time.Duration(b) * 4 * ms)
			w := numbered(k * int(b) % 30)
			if b&32 != 0 {
				w.Via = anode.Address{1 + b&1}
			}
			switch b % 8 {
			case 0, 1:
				s.Add(now, w, Origin((int(b)/8+k)%len(places)), b&1 == 0)
			case 2, 3:
				if len(sent) > 0 {
					r := sent[(k+int(b))%len(sent)]
					s.Answered(now, r.ID, r.Way.Endpoint, r.Way.Via, int(b&3))
				}
			case 4:
				s.Suspect(now)
			case 5:
				s.Silent(now)
			case 6:
				s.Heard(now, w.Endpoint, w.Via)
			case 7:
				s.Nudge(now, w)
			}
			due, next := s.Requests(now)
			if next < now {
				t.Fatalf("due at %d, and it is %d", next, now)
			}
			if next == now {
				if _, next = s.Requests(now); next <= now {
					t.Fatal("no progress")
				}
			}
			sent = append(due, sent[:min(len(sent), 20)]...)
			if len(s.ways) > 20 || s.find(static) == nil {
				t.Fatalf("%d ways", len(s.ways))
			}
			for _, i := range s.ways {
				if len(i.check.asked) > maxTries {
					t.Fatalf("%d outstanding", len(i.check.asked))
				}
			}
			for o := range Static + 1 {
				if s.count(o) > places[o] {
					t.Fatalf("%d ways of %v", s.count(o), o)
				}
			}
			if b, ok := s.Best(); ok && b.State != Confirmed {
				t.Fatalf("best %+v", b)
			}
		}
	})
}
