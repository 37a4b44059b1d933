package stream

import "testing"

// The ring of a stream that was acknowledged everything serves the next one; an idle stream keeps none.
func TestRingsComeBack(t *testing.T) {
	const packets = 100
	var mem pool
	made := 0
	for range 100 { // of which a race detector's pool loses some
		s := newSent(1)
		for range packets {
			s.arrive(s.add(&mem, dataPacket, 0, 1))
		}
		if cap(s.ring) < packets {
			t.Fatalf("%d packets are in a ring of %d", packets, cap(s.ring))
		}
		s.advance(&mem)
		if !s.empty() || s.ring != nil {
			t.Fatal("an idle stream keeps its ring")
		}
		s.add(&mem, dataPacket, 0, 1)
		if len(s.ring) == firstRing {
			made++
		}
		if p := s.at(1 + packets); p.state != lost || p.times != 0 || p.size != 1 {
			t.Fatalf("a new packet in an old ring: %+v", p)
		}
	}
	if made > 60 {
		t.Errorf("%d of 100 rings were made anew", made)
	}
}
