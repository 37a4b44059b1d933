package people

import (
	"testing"
	"time"
)

// Who removes a peer and joins it again at once, by the next link, is in soon: what it said before is no reason to
// have it wait.
func TestJoinAgainSoon(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.of("a"), w.of("b")
	for n := range 5 {
		l := a.invite(Invite{})
		b.join(l, false)
		w.pass(5 * time.Second)
		if a.state(b) != Friend || b.state(a) != Friend {
			t.Fatalf("join %d: %v and %v", n+1, a.state(b), b.state(a))
		}
		b.remove(a)
		w.pass(100 * time.Millisecond)
	}
}
