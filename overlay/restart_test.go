//go:build linux

package overlay

import (
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// A peer starts anew, and its first packet asks for an answer, which a program gives at once: before
// the loop has looked at it, what leaves is sealed in the session that the peer has now. A peer that
// only changes its key has both.
func TestAnswersAfterRestart(t *testing.T) {
	for name, c := range map[string]struct {
		before, after wire.Instance
		moves         bool
	}{
		"it has started anew":    {wire.Instance{1}, wire.Instance{2}, true},
		"a new key":              {wire.Instance{1}, wire.Instance{1}, false},
		"it said nothing":        {wire.Instance{}, wire.Instance{2}, false},
		"it says nothing now":    {wire.Instance{1}, wire.Instance{}, false},
		"it never says anything": {wire.Instance{}, wire.Instance{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newScaleWorld(t, 1)
			r := w.live[0]
			begin := func(it wire.Instance) (first []byte) {
				r.local.Instance = it
				w.feed(r.hello(w.clock), r.ep)
				for _, s := range w.wire.take() {
					for _, p := range r.take(w.clock, s.b) {
						first = p
					}
				}
				return first
			}
			w.feed(begin(c.before), r.ep)
			w.run(2 * time.Second)
			contact := w.contact(r)
			old := contact.Route.Load()
			first := begin(c.after)
			if now := contact.Route.Load(); now.Session != old.Session {
				t.Fatal("a HELLO alone changed the session")
			}
			w.rx.now = w.now()
			w.rx.train(&link.Train{Buf: first, Size: len(first), Endpoint: r.ep})
			now := contact.Route.Load()
			if moved := now.Session != old.Session; moved != c.moves {
				t.Errorf("the lane changed the session: %v, want %v", moved, c.moves)
			}
			if now.Line.Route.Load() != now || now.Way != old.Way || now.Datagram != old.Datagram {
				t.Errorf("the route is %+v, want %+v in another session", now, old)
			}
			w.l.now = w.now()
			w.l.tick(w.l.peers.get(contact.Address)) // for another reason
			if again := contact.Route.Load(); again.Session != now.Session {
				t.Error("the loop went back to the session before")
			}
			w.drain()
			if now := contact.Route.Load(); now == nil || now.Session == old.Session {
				t.Error("the loop has not changed the session")
			}
		})
	}
}
