package path

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
)

func way(s string) Way {
	return Way{Endpoint: link.Endpoint{Addr: netip.MustParseAddrPort(s)}}
}

func via(s string, relay byte) Way {
	w := way(s)
	w.Via[0] = relay
	return w
}

// ids gives 1, 2, 3, ...
func ids() func() uint32 {
	var n uint32
	return func() uint32 { n++; return n }
}

const ms = time.Millisecond

// answer confirms the newest check of a way, rtt after now.
func answer(t *testing.T, s *Set, now time.Duration, w Way, rtt time.Duration, hops int) {
	t.Helper()
	due, _ := s.Requests(now)
	for _, r := range due {
		if r.Way == w {
			if got, ok := s.Answered(now+rtt, r.ID, w.Endpoint, hops, 3); !ok || got != w {
				t.Fatalf("the answer to %v was not taken", w)
			}
			return
		}
	}
	t.Fatalf("no check of %v is due: %v", w, due)
}

func TestLearnedOnlyByEPC(t *testing.T) {
	s := NewSet(ids())
	w := way("192.0.2.1:8737")
	if !s.Add(0, w, Heard, false) {
		t.Fatal("not new")
	}
	if _, ok := s.Best(); ok {
		t.Error("a candidate is used")
	}
	due, _ := s.Requests(0)
	if len(due) != 1 || !due[0].First {
		t.Fatalf("due %v", due)
	}
	id := due[0].ID
	if _, ok := s.Answered(ms, id+1, w.Endpoint, 0, 1); ok {
		t.Error("an ID that is not pending was taken")
	}
	if _, ok := s.Answered(ms, id, way("192.0.2.2:8737").Endpoint, 0, 1); ok {
		t.Error("an answer from elsewhere was taken")
	}
	if _, ok := s.Answered(20*ms, id, w.Endpoint, 0, 5); !ok {
		t.Fatal("the answer was not taken")
	}
	if _, ok := s.Answered(20*ms, id, w.Endpoint, 0, 5); ok {
		t.Error("an answer was taken twice")
	}
	b, ok := s.Best()
	if !ok || b.Way != w || b.RTT != 20*ms || b.PeerID != 5 || b.State != Confirmed {
		t.Errorf("best %+v", b)
	}
}

func TestRetriesBackOffAndEnd(t *testing.T) {
	s := NewSet(ids())
	s.Add(0, way("192.0.2.1:1"), Heard, false)
	var at []time.Duration
	for now := time.Duration(0); ; {
		due, next := s.Requests(now)
		for range due {
			at = append(at, now)
		}
		if next == 0 {
			break
		}
		if next <= now {
			t.Fatalf("next %v at %v", next, now)
		}
		now = next
	}
	want := []time.Duration{0, 250 * ms, 750 * ms, 1750 * ms, 3750 * ms}
	if len(at) != len(want) {
		t.Fatalf("checked at %v", at)
	}
	for i := range at {
		if at[i] != want[i] {
			t.Errorf("checked at %v, want %v", at, want)
		}
	}
	if w := s.Ways(); len(w) != 1 || w[0].State != Failed {
		t.Errorf("ways %+v", w)
	}
	if s.Requests(retain + time.Hour); len(s.Ways()) != 0 {
		t.Error("a failed way is kept for ever")
	}
}

// A way from which something came is checked at once, though its next check is far.
func TestNudge(t *testing.T) {
	s := NewSet(ids())
	w := way("192.0.2.1:1")
	s.Add(0, w, Heard, false)
	for _, now := range []time.Duration{0, 250 * ms, 750 * ms} {
		s.Requests(now)
	}
	s.Nudge(800*ms, w)
	if due, _ := s.Requests(800 * ms); len(due) != 0 {
		t.Error("checked again within 250 ms")
	}
	s.Nudge(1100*ms, w)
	if due, _ := s.Requests(1100 * ms); len(due) != 1 || !due[0].First {
		t.Errorf("due %v", due)
	}
	s.Nudge(1100*ms, way("192.0.2.2:1"))
}

func TestStaticIsTriedAgain(t *testing.T) {
	s := NewSet(ids())
	w := way("192.0.2.1:1")
	s.Add(0, w, Static, false)
	checks, last := 0, time.Duration(0)
	for now := time.Duration(0); now < 24*time.Hour; {
		due, next := s.Requests(now)
		checks += len(due)
		last = next - now
		if next == 0 {
			t.Fatal("given up")
		}
		now = next
	}
	if checks > 5*24*12*2 || last > lastRest {
		t.Errorf("%d checks a day, the last after %v", checks, last)
	}
	if len(s.Ways()) != 1 {
		t.Error("forgotten")
	}
}

func TestBest(t *testing.T) {
	relayed, twice, far, near := via("192.0.2.9:1", 1), via("192.0.2.8:1", 2), way("192.0.2.1:1"), way("10.0.0.1:1")
	s := NewSet(ids())
	now := time.Duration(0)
	for _, c := range []struct {
		w      Way
		rtt    time.Duration
		hops   int
		onLink bool
	}{{twice, ms, 2, false}, {relayed, 5 * ms, 1, false}, {far, 20 * ms, 0, false}, {near, 30 * ms, 0, true}} {
		s.Add(now, c.w, Heard, c.onLink)
		answer(t, s, now, c.w, c.rtt, c.hops)
		if b, ok := s.Best(); !ok || b.Way != c.w {
			t.Errorf("best %+v, want the new %v", b, c.w)
		}
		now += time.Second
	}
	// It stays with what it has unless another is clearly better.
	close := way("10.0.0.2:1")
	s.Add(now, close, Heard, true)
	answer(t, s, now, close, 25*ms, 0)
	if b, _ := s.Best(); b.Way != near {
		t.Errorf("left for %+v", b)
	}
	// What owes an answer comes last, and is back when it has answered.
	now += time.Second
	s.Suspect(now)
	if b, _ := s.Best(); b.Way != near {
		t.Errorf("left at once for %+v", b)
	}
	s.Requests(now)
	now += 300 * ms
	due, _ := s.Requests(now)
	for _, r := range due {
		if r.Way == far {
			s.Answered(now, r.ID, far.Endpoint, 0, 1)
		}
	}
	if b, _ := s.Best(); b.Way != far {
		t.Errorf("best %+v, want the only one that answers", b)
	}
	for _, r := range due {
		if r.Way == near {
			s.Answered(now, r.ID, near.Endpoint, 0, 1)
		}
	}
	if b, _ := s.Best(); b.Way != near {
		t.Errorf("best %+v, want the near one back", b)
	}
}

// Whatever is named and answered, the set is bounded, what is confirmed or given by
// the user stays, and time goes on.
func TestBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := NewSet(r.Uint32)
	static := way("198.51.100.1:1")
	s.Add(0, static, Static, false)
	now := time.Duration(0)
	var pending []Request
	for range 20000 {
		now += time.Duration(r.IntN(400)) * ms
		switch r.IntN(4) {
		case 0, 1:
			w := Way{Endpoint: link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(r.Uint32())}), 1)}}
			if r.IntN(3) == 0 {
				w.Via = anode.Address{byte(r.IntN(3))}
			}
			s.Add(now, w, Origin(r.IntN(3)), r.IntN(2) == 0)
		case 2:
			if len(pending) > 0 && r.IntN(5) == 0 {
				p := pending[r.IntN(len(pending))]
				s.Answered(now, p.ID, p.Way.Endpoint, r.IntN(4), 1)
			}
		case 3:
			if r.IntN(50) == 0 {
				s.Suspect(now)
			}
		}
		due, next := s.Requests(now)
		if next != 0 && next <= now {
			t.Fatalf("next %v at %v", next, now)
		}
		pending = append(due, pending[:min(len(pending), 20)]...)
		if len(s.Ways()) > maxWays {
			t.Fatalf("%d ways", len(s.Ways()))
		}
		if b, ok := s.Best(); ok && b.State != Confirmed {
			t.Fatalf("best %+v", b)
		}
	}
	if s.find(static) == nil {
		t.Error("what the user gave was forgotten")
	}
}
