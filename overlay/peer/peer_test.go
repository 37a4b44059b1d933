package peer

import (
	"testing"
)

func TestMeets(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	is(t, "state of b", b.p.State(), Up)
	is(t, "machines", len(a.p.Each()), 1)
	is(t, "peer ID", a.p.Each()[0].ID(), 2)
	is(t, "the unknown machine is gone", a.p.unknown, nil)
	is(t, "failed", len(a.failed), 0)
	if !b.p.Current(w.now) {
		t.Error("b has no session")
	}
	if f := b.p.Forward.Load(); f == nil || len(*f) != 1 || (*f)[0] != (Hop{1, ep(1)}) {
		t.Errorf("b forwards to %v", f)
	}
}
