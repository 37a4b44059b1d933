package overlay

import (
	"bytes"
	"slices"
	"testing"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// Only packets whose sender understands the mark get it, and nothing else of them changes.
func TestMarkCE(t *testing.T) {
	message := func(typ wire.Type, class byte) []byte {
		word := uint32(6)<<28 | uint32(class)<<20 | 0xabcde
		return append([]byte{byte(typ), byte(word >> 24), byte(word >> 16), byte(word >> 8), byte(word), 6, 64}, "segment"...)
	}
	for _, c := range []struct {
		typ     wire.Type
		class   byte
		becomes byte
		marked  bool
	}{
		{wire.IP6, 0, 0, false},
		{wire.IP6, 1, 3, true},
		{wire.IP6, 2, 3, true},
		{wire.IP6, 3, 3, false},
		{wire.IP6P, 0xb8, 0xb8, false},
		{wire.IP6P, 0xb9, 0xbb, true},
		{wire.IP6P, 0xfe, 0xff, true},
		{wire.Dgram, 2, 2, false},
		{wire.Ping, 2, 2, false},
		{wire.Frag, 2, 2, false},
	} {
		msg := message(c.typ, c.class)
		if marked, want := markCE(msg), message(c.typ, c.becomes); marked != c.marked || !bytes.Equal(msg, want) {
			t.Errorf("%v with class %#x: %x, marked %v; want %x, %v", c.typ, c.class, msg, marked, want, c.marked)
		}
	}
	for n := range 1 + wire.IP6Header {
		if n > 0 && markCE(message(wire.IP6, 2)[:n]) {
			t.Errorf("%d bytes are no packet", n)
		}
	}
}

// busy is a writer whose queues to some endpoints are crowded.
type busy struct {
	link.Writer
	crowded []link.Endpoint
}

func (b *busy) Crowded(ep *link.Endpoint) bool {
	return slices.ContainsFunc(b.crowded, func(x link.Endpoint) bool { return x.Same(ep) })
}

// A sender asks about the queues of connections alone.
func TestSenderKnowsCrowds(t *testing.T) {
	tcp, other, udp := link.Endpoint{Kind: link.TCP, Conn: 1}, link.Endpoint{Kind: link.HTTP, Conn: 2}, link.Endpoint{Conn: 1}
	var n counters
	s := newSender(&busy{crowded: []link.Endpoint{tcp, udp}}, 0, sendSize, &n)
	for ep, want := range map[link.Endpoint]bool{tcp: true, other: false, udp: false} {
		if got := s.crowded(&peer.Route{Way: path.Way{Endpoint: ep}}); got != want {
			t.Errorf("%v: %v", ep.Kind, got)
		}
	}
	s = newSender(struct{ link.Writer }{}, 0, sendSize, &n)
	if s.crowded(&peer.Route{Way: path.Way{Endpoint: tcp}}) {
		t.Error("a writer without queues is crowded")
	}
}
