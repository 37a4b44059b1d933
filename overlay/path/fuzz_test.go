package path

import (
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/mono"
)

// FuzzSet checks that whatever happens in whatever order, the set is bounded, best is
// confirmed, the user's ways stay, and time goes on.
func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 200, 0, 2, 2})
	f.Add([]byte("the ways to one machine of a peer"))
	f.Add([]byte("808B\xd110002ZCA\xd1y9A2\xd1\xd1y0080C880008Y")) // as many ways as there can be
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 200 {
			return
		}
		s, now := NewSet(ids()), mono.At(0)
		static := way("198.51.100.1:1")
		s.Add(now, static, Static, false)
		most := maxConfirmed
		for _, n := range places {
			most += n
		}
		var sent []Request
		for k, b := range in {
			now = now.Add(time.Duration(b) * 4 * ms)
			w := numbered(k * int(b) % 30)
			if b&32 != 0 {
				w.Via = anode.Address{1 + b&1}
			}
			switch b % 12 {
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
			case 8:
				list := []Target{{w, Told, b&64 == 0}, {numbered(int(b)), Predicted, false}, {static, Static, false}}
				s.Punch(now, list[:k%4], k%9, time.Second)
			case 9:
				s.Judge(func(i *Info) Fitness { return Fitness(int(b)/12+k) % (Stale + 1) })
			case 10:
				s.Proved(now, w, time.Duration(k)*ms)
			case 11:
				s.Check(now, w)
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
			if len(s.ways) > most+2*maxTargets+maxConfirmed || s.find(static) == nil {
				t.Fatalf("%d ways", len(s.ways))
			}
			for _, i := range s.ways {
				if len(i.check.asked) > openTries { // of an attempt; others end earlier
					t.Fatalf("%d outstanding", len(i.check.asked))
				}
			}
			for o := range Static + 1 {
				for _, connected := range []bool{false, true} {
					if n := s.count(o, connected); n > placesOf(o, connected) {
						t.Fatalf("%d ways of %v", n, o)
					}
				}
			}
			if b, ok := s.Best(); ok && b.State != Confirmed {
				t.Fatalf("best %+v", b)
			}
		}
	})
}

// FuzzSearch checks that whatever happens in whatever order, sizes and memory are
// bounded, and no due time is in the past.
func FuzzSearch(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 0, 200, 1, 100})
	f.Add([]byte("search for what one way carries"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 200 {
			return
		}
		now, limit, used := mono.At(0), 1472, Traffic{}
		s := NewSearch(limit, ids())
		var sent []Probe
		for k, b := range in {
			now = now.Add(time.Duration(b) * 5 * ms)
			switch b % 12 {
			case 0, 1, 2:
				if len(sent) > 0 {
					p := sent[(k*7+int(b))%len(sent)]
					s.Answered(now, p.ID, p.Size)
				}
			case 3:
				used.Large = now
			case 4:
				used.Heard = now
			case 5:
				s.Recheck()
			case 6:
				limit = 300 + int(b)*250
				s.Restart(limit)
			case 7:
				s.Answered(now, uint32(b), int(b)*100)
			}
			probes, next := s.Due(now, time.Duration(b)*ms, used, b&64 == 0)
			if next <= now {
				t.Fatalf("due at %d, and it is %d", next, now)
			}
			for _, p := range probes {
				if p.Size > limit && p.Size != trainSize || p.Size < min(limit, 256) {
					t.Fatalf("a probe of %d, limit %d", p.Size, limit)
				}
			}
			sent = append(probes, sent[:min(len(sent), 40)]...)
			if s.Size() > limit || s.Size() < min(limit, 300) {
				t.Fatalf("size %d, limit %d", s.Size(), limit)
			}
			if len(probes) > 20 || len(s.sizes.sent.list) > maxSent {
				t.Fatalf("%d probes, %d outstanding", len(probes), len(s.sizes.sent.list))
			}
		}
	})
}
