package path

import (
	"fmt"
	"testing"
	"time"

	"anodenet/overlay/mono"
)

// burst runs an attempt with targets that do not answer, and returns when each request left.
func burst(s *Set, now mono.Time, end time.Duration) (at []string) {
	start := now
	for now.Sub(start) <= end {
		due, next := s.Requests(now)
		for _, r := range due {
			if !r.Burst {
				continue
			}
			at = append(at, fmt.Sprint(r.Way.Endpoint.Addr, " ", now.Sub(start)))
		}
		if next == mono.Never {
			break
		}
		now = max(next, now+1)
	}
	return at
}

func TestPunch(t *testing.T) {
	a, b, c := way("192.0.2.1:1"), way("192.0.2.2:1"), way("192.0.2.3:1")
	s, now := NewSet(ids()), mono.At(time.Hour)
	s.Add(now, c, Told, false) // known already, and behind the others in the attempt
	if n := s.Punch(now, []Target{{a, Predicted, false}, {b, Told, false}, {c, Told, false}}, 7, time.Second); n != 3 {
		t.Fatalf("%d targets", n)
	}
	got := fmt.Sprint(burst(s, now, 10*time.Second))
	want := fmt.Sprint([]string{"192.0.2.1:1 0s", "192.0.2.2:1 0s", "192.0.2.3:1 0s", "192.0.2.1:1 30ms", "192.0.2.2:1 30ms", "192.0.2.3:1 30ms", "192.0.2.1:1 80ms"})
	if got != want {
		t.Errorf("sent %v, want %v", got, want)
	}
	if s.Bursting() || s.Left() != 0 {
		t.Error("the attempt goes on")
	}
	for _, w := range s.Ways() {
		if w.State != Failed || !w.Punched {
			t.Errorf("%+v", w)
		}
	}
	// None is checked by itself, although there is a relay.
	r := via("198.51.100.1:1", 1)
	now = now.Add(time.Minute)
	s.Add(now, r, Relay, false)
	due, _ := s.Requests(now)
	s.Answered(now.Add(ms), due[0].ID, r.Endpoint, r.Via, 1)
	for range 100 {
		now = now.Add(5 * time.Second)
		for _, q := range func() []Request { d, _ := s.Requests(now); return d }() {
			t.Errorf("%v was asked", q.Way)
		}
	}
}

// A target that answers late is still taken, and one from which something came is asked at
// once.
func TestPunchAnswers(t *testing.T) {
	w := way("192.0.2.1:1")
	s, now := NewSet(ids()), mono.At(time.Hour)
	s.Punch(now, []Target{{w, Told, false}}, 64, time.Second)
	first, _ := s.Requests(now)
	s.Nudge(now.Add(10*ms), w)
	if due, _ := s.Requests(now.Add(10 * ms)); len(due) != 1 {
		t.Errorf("%d requests after something came", len(due))
	}
	burst(s, now.Add(11*ms), 800*time.Millisecond)
	if _, ok := s.Answered(now.Add(900*ms), first[0].ID, w.Endpoint, w.Via, 0); !ok {
		t.Error("a late answer is refused")
	}
	if b, ok := s.Best(); !ok || b.Way != w || b.First != Told {
		t.Errorf("best %+v", b)
	}
}

// However many endpoints are named, there is a bound on what is remembered, and ways of
// other origins keep their places.
func TestPunchMany(t *testing.T) {
	s, now := NewSet(ids()), mono.At(time.Hour)
	user := way("203.0.113.1:1")
	s.Add(now, user, Static, false)
	total := 0
	for k := range 200 {
		var list []Target
		for j := range 50 {
			list = append(list, Target{numbered(k*50 + j), Told, false}, Target{numbered(20000 + k*50 + j), Predicted, false})
		}
		s.Punch(now, list, 64, time.Second)
		total += len(burst(s, now, 1900*ms))
		now = now.Add(2 * time.Second)
		if n := len(s.Ways()); n > 2*maxTargets+1 {
			t.Fatalf("%d ways", n)
		}
	}
	if s.find(user) == nil {
		t.Error("the user's way is gone")
	}
	if total > 200*64 {
		t.Errorf("%d requests", total)
	}
}

func TestPlan(t *testing.T) {
	var p Plan
	var b Allowance
	start := mono.At(time.Hour)
	now := start
	var at []time.Duration
	for range 8 {
		now = max(now, p.Next())
		at = append(at, now.Sub(start))
		most := p.Begin(now, 8, &b)
		if want := 8 * perTarget; now.Sub(start) < firstMinute && most != want || now.Sub(start) >= firstMinute && most > laterRequests {
			t.Errorf("%d requests at %v", most, now.Sub(start))
		}
	}
	s := time.Second
	if want := fmt.Sprint([]time.Duration{0, 2 * s, 7 * s, 22 * s, 82 * s, 382 * s, 682 * s, 982 * s}); fmt.Sprint(at) != want {
		t.Errorf("attempts at %v, want %v", at, want)
	}
	p.Reset()
	if p.Next() != 0 {
		t.Error("no attempt after a reset")
	}
}

// Whatever resets the plan, no minute has more than 300 requests, and what the peer says
// resets it seldom.
func TestPlanBudget(t *testing.T) {
	for name, reset := range map[string]func(*Plan, mono.Time){
		"ours":  func(p *Plan, _ mono.Time) { p.Reset() },
		"peer":  func(p *Plan, now mono.Time) { p.ResetBy(now) },
		"never": func(*Plan, mono.Time) {},
	} {
		var p Plan
		var b Allowance
		sent := map[int]int{}
		for k := range 10 * 600 {
			now := mono.At(time.Hour).Add(time.Duration(k) * 100 * time.Millisecond)
			reset(&p, now)
			sent[k] = p.Begin(now, 1000, &b)
			minute := 0
			for j := max(k-599, 0); j <= k; j++ {
				minute += sent[j]
			}
			if minute > 300 {
				t.Fatalf("%s: %d requests in a minute", name, minute)
			}
		}
	}
	var p Plan
	var b Allowance
	resets := 0
	for k := range 600 {
		now := mono.At(time.Hour).Add(time.Duration(k) * 100 * time.Millisecond)
		p.Begin(now, 1, &b)
		if p.ResetBy(now); p.Next() == 0 {
			resets++
		}
	}
	if resets > 4 {
		t.Errorf("%d resets by the peer in a minute", resets)
	}
}

// A direct way that is unproven, small or stale comes after a relay, and before a silent
// one; with none, it is used.
func TestFitness(t *testing.T) {
	relayed, direct := via("198.51.100.1:1", 1), numbered(1)
	for _, f := range []Fitness{Unproven, Small, Stale} {
		n := newNet(t)
		n.confirm(direct, Told, false, 10*ms)
		n.s.Judge(func(*Info) Fitness { return f })
		if n.best() != direct {
			t.Errorf("%v: the only way is not used", f)
		}
		n.confirm(relayed, Relay, false, 40*ms)
		n.s.Judge(func(*Info) Fitness { return f })
		if n.best() != relayed {
			t.Errorf("%v: used although there is a relay", f)
		}
		delete(n.alive, relayed)
		n.s.Check(n.now, relayed)
		n.run(300 * ms)
		if n.best() != direct {
			t.Errorf("%v: not used when the relay is silent", f)
		}
		n.alive[relayed] = 40 * ms
		n.run(time.Second)
		n.s.Judge(func(*Info) Fitness { return Fit })
		if n.best() != direct {
			t.Errorf("%v: not used after it was found fit", f)
		}
	}
}

// A direct way is left for a relay only if it is much worse, and then until it is clearly
// better again.
func TestMuchWorse(t *testing.T) {
	for _, c := range []struct {
		relayed, direct time.Duration
		lossR, lossD    float64
		was, want       bool
	}{
		{40 * ms, 200 * ms, 0, 0, false, false},
		{40 * ms, 230 * ms, 0, 0, false, true},
		{40 * ms, 200 * ms, 0, 0, true, true},
		{40 * ms, 140 * ms, 0, 0, true, false},
		{40 * ms, 40 * ms, 0, 0.15, false, false},
		{40 * ms, 40 * ms, 0, 0.3, false, true},
		{40 * ms, 40 * ms, 0.2, 0.3, false, false},
		{40 * ms, 40 * ms, 0, 0.15, true, true},
	} {
		r := &Info{RTT: c.relayed, Loss: Loss{c.lossR, lossSamples}}
		d := &Info{RTT: c.direct, Loss: Loss{c.lossD, lossSamples}, worse: c.was}
		if got := d.muchWorse(r); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestLoss(t *testing.T) {
	var l Loss
	l.note(lossKnown-1, 0)
	if l.Rate() != 0 {
		t.Errorf("known after %d samples", lossKnown-1)
	}
	for range 200 {
		l.note(1, 1)
	}
	if r := l.Rate(); r < 0.4 || r > 0.6 {
		t.Errorf("%v of one in two", r)
	}
	l.note(0, 200)
	if r := l.Rate(); r > 0.01 {
		t.Errorf("%v of none", r)
	}
}

// The answer to a handshake confirms a way that something was sent along, and no other.
func TestProved(t *testing.T) {
	n := newNet(t)
	a, b := numbered(1), numbered(2)
	n.s.Add(n.now, a, Told, false)
	if n.s.Proved(n.now, a, 10*ms) {
		t.Error("proved although nothing was sent")
	}
	n.ask()
	if n.s.Proved(n.now, b, 10*ms) {
		t.Error("an unknown way is proved")
	}
	if !n.s.Proved(n.now.Add(30*ms), a, 30*ms) || n.best() != a {
		t.Error("not proved")
	}
	n.alive[a] = 10 * ms
	n.run(2 * time.Second) // its check went on
	if w, _ := n.s.Best(); w.RTT != 10*ms {
		t.Errorf("round trip %v, want that of the check", w.RTT)
	}
	// If that is never answered, the way fails.
	c := numbered(3)
	n.s.Add(n.now, c, Told, false)
	n.ask()
	n.s.Proved(n.now, c, 30*ms)
	n.run(time.Minute)
	if n.state(c) != Failed {
		t.Errorf("state %v", n.state(c))
	}
}

// The answer to another question than a check's confirms a way, whatever became of its checks,
// and ends the one that is under way.
func TestPonged(t *testing.T) {
	n := newNet(t)
	a, b := numbered(1), numbered(2)
	n.s.Add(n.now, a, Told, false)
	if n.s.Ponged(n.now, b, 10*ms) {
		t.Error("an unknown way is confirmed")
	}
	n.ask()
	if !n.s.Ponged(n.now.Add(30*ms), a, 30*ms) || n.best() != a {
		t.Error("not confirmed while it is checked")
	}
	n.run(time.Minute)
	if n.state(a) != Confirmed {
		t.Errorf("state %v after a check that had ended", n.state(a))
	}
	n.s.Turned()
	n.s.Suspect(n.now)
	n.run(time.Minute)
	if n.state(a) != Failed || !n.s.Turned() {
		t.Errorf("state %v after a check without an answer, or nobody was told", n.state(a))
	}
	if !n.s.Ponged(n.now, a, 20*ms) || n.best() != a {
		t.Error("not confirmed after it failed")
	}
	if w, _ := n.s.Best(); w.RTT != 20*ms {
		t.Errorf("round trip %v", w.RTT)
	}
	if n.s.Ponged(n.now, a, 20*ms) {
		t.Error("confirmed twice")
	}
}

// The first probes of a way on trial show what is needed in one round trip, whatever its
// limit.
func TestTrial(t *testing.T) {
	for _, carries := range []int{1472, 1464, 1424, 1300, 1232, 800} {
		s := NewSearch(1472, ids())
		s.Try()
		now := mono.At(time.Hour)
		var took time.Duration
		total := 0
		for end := now.Add(10 * time.Second); now < end; {
			probes, next := s.Due(now, 20*ms, Traffic{}, false)
			total += len(probes)
			for _, p := range probes {
				if p.Size <= carries {
					s.Answered(now.Add(20*ms), p.ID, p.Size)
				}
			}
			if s.Proven() && took == 0 {
				took = now.Add(20 * ms).Sub(mono.At(time.Hour))
			}
			if next == mono.Never {
				break
			}
			now = max(next, now.Add(20*ms))
		}
		if carries >= narrow && took != 20*ms || !s.Proven() || s.Size() > carries || s.Size() < carries-100 && carries >= narrow || total > 40 {
			t.Errorf("%d: proven %v after %v with %d probes, size %d", carries, s.Proven(), took, total, s.Size())
		}
	}
}
