package people

import (
	"testing"
	"time"
)

// A guest that could not be written is taken again until it can be, and not any more once people here block it.
func TestGuestNotWritten(t *testing.T) {
	w := newWorld(t, 70, "a", "b")
	a, b := w.of("a"), w.of("b")
	l := a.invite(Invite{})
	a.failing = true
	b.join(l, false)
	w.pass(5 * time.Second)
	w.states("a", "b", Stranger)
	a.failing = false
	a.block(b)
	w.pass(5 * time.Second)
	if next := a.core.Next(w.now); next <= w.now.Mono {
		t.Error("something is due, again and again")
	}
	if w.states("a", "b", Blocked); a.core.Invitations(w.now)[0].Uses != 1 {
		t.Error("a guest that is blocked spends a use")
	}
}
