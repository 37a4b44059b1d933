package link

import (
	"testing"
	"time"
)

// The system gets what a slow network sends in a moment, and never too little or too much.
func TestSpeedBoundsWhatTheSystemHas(t *testing.T) {
	for _, c := range []struct {
		rate  int // bytes a second
		ahead int
	}{
		{100_000, leastAhead}, {2_500_000, 25_000}, {100_000_000, notSent},
	} {
		var s speed
		now := time.Unix(0, 0)
		if s.ahead() != notSent || s.lasts(1000) != 0 {
			t.Errorf("before anything was written: %d ahead", s.ahead())
		}
		for range 100 {
			s.works(now)
			now = now.Add(5 * time.Millisecond)
			s.wrote(c.rate/200, now)
		}
		if a := s.ahead(); a < c.ahead*99/100 || a > c.ahead*101/100 {
			t.Errorf("%d bytes a second: %d ahead", c.rate, a)
		}
		if d := s.lasts(c.rate); d < 990*time.Millisecond || d > 1010*time.Millisecond {
			t.Errorf("%d bytes a second last %v", c.rate, d)
		}
	}
}

// Time in which nothing had to be written says nothing of the speed.
func TestSpeedLeavesOutRests(t *testing.T) {
	var s speed
	now := time.Unix(0, 0)
	for range 20 {
		s.works(now)
		for range 5 {
			now = now.Add(10 * time.Millisecond)
			s.wrote(20_000, now)
		}
		s.rests()
		now = now.Add(time.Minute)
	}
	if s.rate < 1_900_000 || s.rate > 2_100_000 {
		t.Errorf("%.0f bytes a second", s.rate)
	}
}

// As what the writer took is written, the rest of it is younger.
func TestStreamKnowsHowOldTheRestIs(t *testing.T) {
	m := NewMux(MuxConfig{})
	defer m.Close()
	s := newStream(m, Endpoint{Kind: TCP}, nil, nil)
	begun := time.Unix(1000, 0)
	s.writing, s.begun, s.taken = 1000, begun, begun.Add(100*time.Millisecond)
	m.queued.Store(1000)
	for k, want := range []time.Duration{25, 50, 75, 100} {
		s.wrote(250)
		if got := s.begun.Sub(begun).Round(time.Millisecond); got != want*time.Millisecond {
			t.Errorf("after %d quarters: %v", k+1, got)
		}
	}
	if s.writing != 0 || m.queued.Load() != 0 {
		t.Errorf("%d bytes left, %d in all", s.writing, m.queued.Load())
	}
}

// Who waits for room is patient from when something began to wait, not from when the writer last had
// something to do.
func TestStreamIsPatientFromWhenSomethingWaits(t *testing.T) {
	m := NewMux(MuxConfig{})
	defer m.Close()
	s := newStream(m, Endpoint{Kind: TCP}, nil, nil)
	s.written = time.Unix(1000, 0)
	if !s.queue(&Train{Buf: make([]byte, 100), Size: 100}, true) || !s.written.Equal(s.oldest) {
		t.Errorf("something waits since %v, room was made at %v", s.oldest, s.written)
	}
	s.close()
}
