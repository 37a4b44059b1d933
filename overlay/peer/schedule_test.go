package peer

import (
	"math/rand/v2"
	"testing"

	"anodenet/anode"
	"anodenet/overlay/mono"
)

// The schedule against a list that is searched.
func TestSchedule(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var s Schedule
		peers := make([]*Peer, 20)
		touched := map[*Peer]bool{}
		gone := map[*Peer]bool{}
		for k := range peers {
			peers[k] = New(nil, anode.Address{byte(k)})
		}
		now := mono.At(1)
		for range 2000 {
			p := peers[r.IntN(len(peers))]
			switch r.IntN(10) {
			case 0, 1:
				s.Touch(p)
				touched[p] = !gone[p]
			case 2, 3, 4:
				if p.entry.due = now + mono.Time(r.IntN(50)); r.IntN(4) == 0 {
					p.entry.due = mono.Never
				}
				s.Update(p)
			case 5:
				if r.IntN(50) == 0 {
					s.Remove(p)
					gone[p] = true
					delete(touched, p)
				}
			case 6:
				now += mono.Time(r.IntN(10))
			default:
				got := s.Next(now)
				first := mono.Never
				for _, q := range peers {
					if !gone[q] && q.entry.slot != outside {
						first = min(first, q.entry.due)
					}
				}
				waiting := 0
				for _, there := range touched {
					if there {
						waiting++
					}
				}
				switch {
				case gone[got]:
					t.Fatal("a peer that was removed")
				case waiting > 0 && !touched[got]:
					t.Fatalf("%d were touched, and another was returned", waiting)
				case waiting == 0 && (got != nil) != (first <= now):
					t.Fatalf("at %d: %v, and the first is due at %d", now, got, first)
				case waiting == 0 && got != nil && got.entry.due != first:
					t.Fatalf("due at %d, the first at %d", got.entry.due, first)
				}
				delete(touched, got)
				is(t, "due", s.Due(), first)
				if got != nil && waiting == 0 { // ticked
					got.entry.due = now + 1 + mono.Time(r.IntN(50))
					s.Update(got)
				}
			}
			for k, q := range s.heap {
				if q.entry.slot != k {
					t.Fatalf("slot %d at %d", q.entry.slot, k)
				}
			}
		}
	}
}

// However often a peer is touched, it waits once.
func TestTouch(t *testing.T) {
	var s Schedule
	p := New(nil, anode.Address{})
	for range 1000 {
		s.Touch(p)
	}
	is(t, "waiting", len(s.touched), 1)
	is(t, "next", s.Next(1), p)
	is(t, "then", s.Next(1), nil)
	s.Touch(p)
	s.Remove(p)
	is(t, "removed", s.Next(1), nil)
	s.Touch(p)
	s.Update(p)
	is(t, "touched afterwards", s.Next(1), nil)
	is(t, "due", s.Due(), mono.Never)
}
