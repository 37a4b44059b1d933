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

// run brings the answers, and sends what is due: at once, when the timer says so and
// after an answer.
func (n *net) run(d time.Duration) {
	n.t.Helper()
	end := n.now.Add(d)
	for next := n.now; ; n.now = min(end, n.now.Add(10*ms)) {
		if n.answers() || next <= n.now {
			next = n.ask()
		}
		if n.now == end {
			return
		}
	}
}

func (n *net) answers() (some bool) {
	for len(n.acks) > 0 && n.acks[0].at <= n.now {
		w := n.acks[0].req.Way
		n.s.Answered(n.now, n.acks[0].req.ID, w.Endpoint, w.Via, 0)
		n.acks = n.acks[1:]
		some = true
	}
	return some
}

func (n *net) ask() mono.Time {
	n.t.Helper()
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
	return next
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
		if len(due) != 1 || due[0].Try != 0 {
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
			}
			for _, i := range n.s.Ways() {
				n.s.Nudge(n.now, i.Way)
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
	if due, _ := s.Requests(now.Add(1100 * ms)); len(due) != 1 || due[0].Try != 0 {
		t.Errorf("due %v", due)
	}
	s.Nudge(now.Add(1100*ms), way("192.0.2.2:1"))
}

// A way that the user gave is never given up, and costs nothing while nobody wants it:
// once it failed it is checked when it is named again, or while all others are relayed.
func TestStaticIsTriedAgain(t *testing.T) {
	s := NewSet(ids())
	now := mono.At(0)
	s.Add(now, way("192.0.2.1:1"), Static, false)
	fails := func() {
		t.Helper()
		checks := 0
		for next := now; next != mono.Never; now = min(next, now.Add(time.Hour)) {
			var due []Request
			due, next = s.Requests(now)
			if checks += len(due); checks > maxTries {
				t.Fatalf("%d checks", checks)
			}
		}
		if checks != maxTries {
			t.Errorf("%d checks, want %d", checks, maxTries)
		}
	}
	fails()
	now = now.Add(24 * time.Hour)
	if r := s.Add(now, way("192.0.2.1:1"), Static, false); r != New {
		t.Errorf("named again: %v", r)
	}
	fails()
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

// Withdraw forgets the ways of one origin that are not given any more, and keeps one that
// works until it fails.
func TestWithdraw(t *testing.T) {
	for _, o := range []Origin{Named, Static} {
		n := newNet(t)
		other := Named + Static - o
		works, kept, gone := numbered(0), numbered(1), numbered(2)
		n.confirm(works, o, false, 10*ms)
		n.s.Add(n.now, kept, o, false)
		n.s.Add(n.now, gone, o, false)
		n.s.Add(n.now, numbered(3), o, false)
		n.s.Add(n.now, numbered(4), other, false)
		n.s.Add(n.now, via("192.0.2.9:1", 1), o, false) // a relay's, which nobody gave
		n.s.Withdraw(o, func(ep link.Endpoint) bool { return ep == kept.Endpoint })
		got := map[Way]Origin{}
		for _, i := range n.s.Ways() {
			got[i.Way] = i.Origin
		}
		want := map[Way]Origin{works: Stored, kept: o, numbered(4): other}
		for w, origin := range want {
			if got[w] != origin {
				t.Errorf("%v: %v is %v, want %v", o, w, got[w], origin)
			}
		}
		if _, there := got[gone]; there {
			t.Errorf("%v: %v is still there", o, gone)
		}
		if best, ok := n.s.Best(); !ok || best.Way != works {
			t.Errorf("%v: the best is %v", o, best)
		}
		for k := range 2 { // their places are free
			if r := n.s.Add(n.now, numbered(10+k), o, false); r != New {
				t.Errorf("%v: another one is %v", o, r)
			}
		}
	}
}

// An exchange lasts while something comes, and begins anew after a pause.
func TestExchange(t *testing.T) {
	n := newNet(t)
	w := way("192.0.2.1:8737")
	n.confirm(w, Heard, false, 20*ms)
	i := n.s.find(w)
	start := i.Heard
	for _, x := range []struct{ at, want time.Duration }{{time.Second, time.Second}, {9 * time.Second, 9 * time.Second}, {20 * time.Second, 0}, {22 * time.Second, 2 * time.Second}} {
		n.s.Heard(start.Add(x.at), w.Endpoint, anode.Address{})
		if got := i.Exchange(); got != x.want {
			t.Errorf("after %v: %v, want %v", x.at, got, x.want)
		}
	}
}
