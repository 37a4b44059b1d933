package peer

import (
	"math/rand/v2"
	"testing"
	"time"

	"anodenet/overlay/mono"
)

// The budget allows what a bucket of whole tokens does.
func TestBudget(t *testing.T) {
	for _, rate := range []mono.Rate{{PerSecond: 1, Burst: 1}, {PerSecond: 10, Burst: 5}, {PerSecond: 200, Burst: 400}} {
		r := rand.New(rand.NewPCG(uint64(rate.Burst), 1))
		var b Budget
		each := int64(1e9 / rate.PerSecond)
		full := int64(rate.Burst) * each // of the reference, in units of time
		level, last := full, mono.At(time.Hour)
		now := last
		allowed := 0
		for range 5000 {
			level = min(full, level+int64(now-last))
			last = now
			want := level >= each
			if want {
				level -= each
				allowed++
			}
			if got := b.Allow(now, rate); got != want {
				t.Fatalf("%+v at %v: %v, want %v with %d left", rate, now, got, want, level)
			}
			now += mono.Time(r.Int64N(each * 3 / 2))
			if r.IntN(2000) == 0 {
				now = now.Add(time.Hour)
			}
		}
		if allowed < 1000 || allowed == 5000 {
			t.Errorf("%+v: %d allowed", rate, allowed)
		}
	}
}

func TestMachinesFlows(t *testing.T) {
	up := func(id uint8) *Line {
		l := new(Line)
		l.Route.Store(&Route{PeerID: id, Line: l})
		return l
	}
	var none *Machines
	three, five := up(3), up(5)
	m := none.with([16]*Line{3: three, 5: five})
	r := rand.New(rand.NewPCG(1, 1))
	newest := map[uint64]uint64{} // flow by slot
	machine := map[uint64]uint8{}
	for range 5000 {
		flow, id := r.Uint64(), uint8(3+2*r.IntN(2))
		m.Note(flow, id)
		newest[flow%flowSlots], machine[flow] = flow, id
	}
	check := func(what string, m *Machines, up func(uint8) bool) {
		t.Helper()
		for flow, id := range machine {
			got := m.Route(flow)
			switch known := newest[flow%flowSlots] == flow; {
			case known && up(id) && (got == nil || got.PeerID != id):
				t.Fatalf("%s: flow %x is with %d, and goes to %v", what, flow, id, got)
			case (!known || !up(id)) && got != nil:
				t.Fatalf("%s: flow %x is not known, and goes to %v", what, flow, got)
			}
		}
	}
	check("both", m, func(uint8) bool { return true })
	m = m.with([16]*Line{3: three, 9: up(9)})
	check("5 left and 9 came", m, func(id uint8) bool { return id == 3 })
	m = m.with([16]*Line{3: three, 5: five})
	three.Route.Store(nil)
	check("3 has no route", m, func(id uint8) bool { return id == 5 })
	if none.with(m.Routes).Route(0) != nil {
		t.Error("a flow that nobody noted has a route")
	}
}

func TestForwardTo(t *testing.T) {
	f := Forward{{3, ep(3)}, {0, ep(9)}, {5, ep(5)}}
	for _, c := range []struct {
		id   uint8
		want byte
	}{{3, 3}, {5, 5}, {0, 3}, {7, 3}} {
		got, ok := f.To(c.id)
		is(t, "there is one", ok, true)
		is(t, "endpoint", got, ep(c.want))
	}
	if _, ok := (Forward{}).To(3); ok {
		t.Error("an endpoint of nobody")
	}
}
