package overlay

import (
	"testing"

	"anodenet/overlay/link"
)

// Whoever floods a node with packets that look like a STUN server's answer does not keep the real
// one out: only what names a pending request is passed on, and it has an inbox of its own.
func TestSTUNFlood(t *testing.T) {
	w := newScaleWorld(t, 1)
	asked, from := stunID{1, 2, 3}, link.Endpoint{Addr: ap("192.0.2.1:3478")}
	take := func(id stunID) {
		p := stunReply(appendBinding(nil, id), ap("192.0.2.9:8737"))
		w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: from})
	}
	w.n.stunWaits.Store(&[]stunID{asked})
	for range 5000 {
		take(stunID{9})
	}
	for len(w.n.inbox.unsigned) < cap(w.n.inbox.unsigned) {
		w.n.inbox.unsigned <- event{kind: evUnsigned}
	}
	for w.rx.sources.Allow(w.now(), from.Addr.Addr()) {
	}
	if n := len(w.n.inbox.stun); n != 0 {
		t.Errorf("%d forged answers wait for the loop", n)
	}
	take(asked)
	if n := len(w.n.inbox.stun); n != 1 {
		t.Errorf("%d answers wait for the loop, and one was given", n)
	}
	w.n.stunWaits.Store(nil)
	take(asked)
	if n := len(w.n.inbox.stun); n != 1 {
		t.Errorf("an answer after the last was awaited: %d wait", n)
	}
}
