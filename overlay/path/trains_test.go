package path

import (
	"testing"
	"time"

	"anodenet/overlay/mono"
)

func TestTrains(t *testing.T) {
	const hour = time.Hour
	w := newWorld(t, 1472, 1)
	w.mtu, w.large = always(1472), yes
	w.run(time.Minute)
	if !w.s.Trains() || w.trials != 1 {
		t.Errorf("trains %v after %d trials", w.s.Trains(), w.trials)
	}
	w.trains = func(at time.Duration) bool { return at > 3*hour }
	w.run(2 * time.Minute)
	if !w.s.Trains() {
		t.Error("disproved without a trial")
	}
	w.s.Recheck()
	w.run(w.at() + 2*time.Second)
	if w.s.Trains() || w.trials != 1+lostTrains {
		t.Errorf("trains %v after %d trials", w.s.Trains(), w.trials)
	}
	n := w.trials
	w.run(3 * hour)
	if n = w.trials - n; n < 5 || n > 12 {
		t.Errorf("tried again %d times in 3 h", n)
	}
	w.run(3*hour + 31*time.Minute)
	if !w.s.Trains() {
		t.Error("not used again after they arrive again")
	}
}

// Only what is answered around a lost train disproves trains; silence says nothing.
func TestTrials(t *testing.T) {
	const before, train, after = 1, 2, 4
	for _, c := range []struct {
		name   string
		trials []int // what is answered of each
		works  bool
	}{
		{"all of the first", []int{before | train | after}, true},
		{"nothing", []int{0}, true},
		{"the peer leaves in the first", []int{before, 0}, true},
		{"the peer leaves in the third", []int{before | after, before | after, before, 0}, true},
		{"only what came after", []int{after, after, after, after, after, after}, true},
		{"lost", []int{before | after, before | after, before | after}, false},
		{"lost, with losses between", []int{before | after, before, before | after, after, before | after}, false},
		{"the third arrives", []int{before | after, before | after, train}, true},
	} {
		s := NewSearch(1472, ids())
		now := mono.At(0)
		probes, _ := s.Due(now, 0, Traffic{}, true)
		s.Answered(now, probes[0].ID, 1472)
		trials := 0
		for range 50 {
			probes, next := s.Due(now, 0, Traffic{}, true)
			for i, p := range probes {
				if trials < len(c.trials) && c.trials[trials]&(1<<i) != 0 {
					s.Answered(now, p.ID, p.Size)
				}
			}
			if len(probes) > 0 {
				trials++
			}
			if next == mono.Never {
				break
			}
			now = next
		}
		if s.Trains() != c.works || trials > maxTrials {
			t.Errorf("%s: trains %v after %d trials", c.name, s.Trains(), trials)
		}
	}
}

// Toward strangers there is no trial.
func TestNoTrainForStrangers(t *testing.T) {
	s := NewSearch(1472, ids())
	now, used := mono.At(0), Traffic{}
	for range 100 {
		probes, next := s.Due(now, 0, used, false)
		for _, p := range probes {
			if p.Count > 1 {
				t.Fatal("a train for a stranger")
			}
		}
		if next == mono.Never {
			break
		}
		now = next
	}
}
