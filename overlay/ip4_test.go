package overlay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// ip4 is an IPv4 packet of n bytes, as the adapter sends it.
func ip4(fragment uint16, proto byte, n int, fill byte) []byte {
	m := []byte{byte(wire.IP4), 0, 0, 7, byte(fragment >> 8), byte(fragment), 64, proto}
	return append(m, bytes.Repeat([]byte{fill}, n-20)...)
}

// got counts how often a message came from a node.
func (n *testNode) got(from *testNode, msg []byte) (count int) {
	for _, d := range n.dev.delivered() {
		if d.from == from.address0().ULA() && d.msg == string(msg) {
			count++
		}
	}
	return count
}

// An IPv4 packet that may not be cut on its way is answered if it is too long for the path.
// Others arrive, whatever the path takes.
func TestNarrowPathIP4(t *testing.T) {
	const df = 0x4000
	for _, mtu := range []int{1400, 1280} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, s := pair(t, w)
				defer a.stop()
				defer b.stop()
				s.SetLink(vnet.Link{Delay: time.Millisecond, MTU: mtu})
				settle(time.Second)
				a.say(b, "small")
				settle(1500 * time.Millisecond)
				to := b.address0().ULA()
				send := func(msg []byte) {
					a.dev.out <- outgoing{to, [][]byte{bytes.Clone(msg)}}
					settle(time.Second)
				}
				long, whole := ip4(df, 200, 1440, 'x'), ip4(0, 200, 1440, 'y')
				send(long)
				send(whole)
				if b.got(a, long) != 0 || b.got(a, whole) != 1 {
					t.Errorf("heard what may not be cut %d times, and what may %d times", b.got(a, long), b.got(a, whole))
				}
				e := a.dev.answers()
				if len(e) != 1 || e[0].what != "too big" || e[0].mtu > mtu-28-mtuOverhead4 && e[0].mtu > minMTU || e[0].mtu < minMTU {
					t.Fatalf("our apps were told %v", e)
				}
				fits := ip4(df, 200, e[0].mtu, 'z')
				send(fits)
				if b.got(a, fits) != 1 {
					t.Error("what fits did not arrive")
				}
				more := ip4(df, 200, e[0].mtu+1, 'z')
				send(more)
				if b.got(a, more) != 0 || len(a.dev.answers()) != 2 {
					t.Error("a byte more than fits is not answered")
				}
			})
		})
	}
}

// IPv4 comes in from added peers alone.
func TestIP4OfStrangers(t *testing.T) {
	for _, stranger := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			a := newTestNode(t, w.Host("a"), nil)
			b := newTestNode(t, w.Host("b"), nil)
			if adds(a, b); stranger {
				b.cfg.Peers = nil
			}
			lan(w, "lan", 0, a.host, b.host)
			a.start()
			b.start()
			defer a.stop()
			defer b.stop()
			settle(time.Second)
			a.say(b, "hello")
			settle(time.Second)
			before := b.counter("drop_standing")
			msg := ip4(0x4000, 17, 60, 1)
			a.seals(b, bytes.Clone(msg))
			settle(time.Second)
			came, refused := b.got(a, msg), b.counter("drop_standing")-before
			if came+int(refused) != 1 || (refused == 1) != stranger {
				t.Errorf("stranger %v: came in %d times, refused %d times", stranger, came, refused)
			}
		})
	}
}

// The mark of congestion is in the class of IPv4.
func TestMarkIP4(t *testing.T) {
	for class, want := range map[byte]byte{0: 0, 1: 3, 2: 3, 3: 3, 0xb8: 0xb8, 0xb9: 0xbb} {
		msg := ip4(0, 6, 40, 1)
		msg[1] = class
		marked := markCE(msg)
		if msg[1] != want || marked != (class != want) || msg[2] != 0 {
			t.Errorf("class %#x became %#x, %v", class, msg[1], marked)
		}
	}
	if markCE([]byte{byte(wire.IP4), 2, 0}) {
		t.Error("three bytes are no packet")
	}
}

// A flow is the same in both directions, and all fragments are one.
func TestFlowOfIP4(t *testing.T) {
	msg := func(fragment uint16, proto byte, a, b uint16) []byte {
		m := ip4(fragment, proto, 60, 0)
		binary.BigEndian.PutUint16(m[8:], a)
		binary.BigEndian.PutUint16(m[10:], b)
		return m
	}
	there, ok := flowOf(msg(0xc000, 6, 80, 5000))
	if back, _ := flowOf(msg(0x8000, 6, 5000, 80)); !ok || there != back {
		t.Errorf("%x, and back %x", there, back)
	}
	if other, _ := flowOf(msg(0xc000, 6, 80, 5001)); other == there {
		t.Error("another port, and the same flow")
	}
	if udp, _ := flowOf(msg(0xc000, 17, 80, 5000)); udp == there {
		t.Error("UDP, and the same flow")
	}
	first, ok := flowOf(msg(0x2000, 17, 80, 5000))
	if later, ok2 := flowOf(msg(0x0007, 17, 1, 2)); ok || ok2 || first != later {
		t.Errorf("fragments are of flows %x and %x", first, later)
	}
	for n := 1; n < 9; n++ {
		flowOf(msg(0, 6, 1, 2)[:n])
	}
	if n := packetSize(ip4(0, 6, 1234, 0)); n != 1234 {
		t.Errorf("a packet of 1234 bytes has %d", n)
	}
}
