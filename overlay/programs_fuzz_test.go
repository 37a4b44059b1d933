package overlay

import (
	"bytes"
	"fmt"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Whatever is read as UDP lies within its message, and what is written is read again.
func FuzzReadUDP(f *testing.F) {
	f.Add([]byte("\x09\x00\x35\x10\x00hello"))
	f.Add([]byte("\x50\x60\x00\x00\x00\x11\x40\x10\x00\x00\x35\x00\x0a\x00\x00hi"))
	f.Add([]byte("\x53\x60\x00\x00\x00\x11\x40\x10\x00\x00\x35\x00\x08\x00\x00"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) == 0 {
			return
		}
		switch wire.Type(msg[0]) {
		case wire.Dgram, wire.IP6, wire.IP6P:
		default:
			return
		}
		m, unproved, ok := readUDP(msg)
		if !ok {
			return
		}
		if len(m.Payload) > len(msg) || !bytes.Contains(msg, m.Payload) {
			t.Errorf("a payload that is not in the message: %q", m.Payload)
		}
		if unproved != nil {
			soundUDP(unproved, &anode.ULA{0xfd}, &anode.ULA{0xfd, 1})
		}
		again, _, ok := readUDP(m.Append([]byte{byte(wire.Dgram)}))
		if !ok || again.Source != m.Source || again.Destination != m.Destination || !bytes.Equal(again.Payload, m.Payload) {
			t.Errorf("%+v became %+v", m, again)
		}
	})
}

// What is split can be put together again, and names no port 0.
func FuzzSplitTarget(f *testing.F) {
	for _, s := range []string{"north:80", "[fd00::1]:80", "fd00::1:80", ":", "[:1", "a:65536", "a]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := splitTarget(s)
		if err != nil {
			return
		}
		again, same, err := splitTarget(fmt.Sprintf("[%s]:%d", host, port))
		if port == 0 || err != nil || again != host || same != port {
			t.Errorf("%q: %q and %d, then %q and %d, %v", s, host, port, again, same, err)
		}
	})
}
