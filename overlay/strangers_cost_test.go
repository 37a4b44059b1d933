//go:build linux

package overlay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
)

// strangerHello is the first message of a stranger, from a site of its own.
type strangerHello struct {
	*remote
	packet []byte
}

func (c *crowd) strangerHello(k int) strangerHello {
	r := newRemote(c.tb, c.n.address, netip.AddrFrom4([4]byte{100 + byte(k>>16), byte(k >> 8), byte(k), 1}))
	return strangerHello{r, r.hello(c.clock)}
}

// coming has HELLOs of strangers come, one each time that it is called, as fast as they are answered.
func (c *crowd) coming(count int) (come func()) {
	const each = 6 * time.Millisecond
	var list []strangerHello
	for k := range count {
		list = append(list, c.strangerHello(k))
		list[k].set = nil
	}
	k := 0
	come = func() {
		c.clock.since += each
		c.feed(list[k%len(list)].packet, list[k%len(list)].ep)
		k++
	}
	for range 2 * strangersHeard {
		come()
		c.wire.take()
	}
	return come
}

// BenchmarkStrangerHello is what a stranger's HELLO costs a node that answers it, where more come than there are places.
func BenchmarkStrangerHello(b *testing.B) {
	c := newCrowd(b, 10)
	come := c.coming(2000)
	b.ReportAllocs()
	for b.Loop() {
		come()
		c.wire.take()
	}
}

// A HELLO of a stranger is answered by one packet: its WELCOME asks already whether it is where it says. What it
// allocates is bounded, since others decide how many come.
func TestStrangerHelloCost(t *testing.T) {
	c := newCrowd(t, 1)
	come := c.coming(500)
	sent := map[wire.Type]int{}
	var list []sentPacket
	allocs := testing.AllocsPerRun(200, func() {
		come()
		list = append(list, c.wire.take()...)
	})
	for _, p := range list {
		if h, _, err := wire.Parse(p.b); err == nil && p.to.Addr.Addr().As4()[0] >= 100 && p.to.Addr.Addr().As4()[0] < 108 {
			sent[h.Type]++
		}
	}
	t.Logf("%.0f allocations; sent: %v", allocs, sent)
	if allocs > 370 {
		t.Errorf("%.0f allocations for a HELLO", allocs)
	}
	if sent[wire.Welcome] < 200 || len(sent) != 1 {
		t.Errorf("200 HELLOs are answered by %v", sent)
	}
}

// spoof has packets of a type come from addresses that are not their senders', so many a second, until a time: nobody
// answers there. Their MACs are wrong if they are no HELLOs.
func (c *crowd) spoof(t wire.Type, perSecond int, end time.Duration) {
	var list [][]byte
	for k := range 256 { // that they come again does not matter where none is answered
		h := c.strangerHello(k)
		if t != wire.Hello {
			h.packet = h.plain(t, make([]byte, 16))
			h.packet[len(h.packet)-1] ^= 1
		}
		list = append(list, h.packet)
	}
	k := 0
	var next func()
	next = func() {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0a000001+uint32(k)<<8) // a site each
		from := endpointAt(netip.AddrFrom4(a))                    // a key agreement for each would be most of the test's time
		c.feed(list[k%len(list)], from)
		if k++; c.clock.since < end {
			c.later(time.Second/time.Duration(perSecond), next)
		}
	}
	c.later(0, next)
}

// Packets from forged addresses, ten times as many as there are key agreements for, take nothing from strangers who
// answer: those show a cookie.
func TestForgedPacketsAndStrangers(t *testing.T) {
	for _, of := range []wire.Type{wire.Hello, wire.EPCReq, wire.EPI} {
		t.Run(of.String(), func(t *testing.T) { forgedAndStrangers(t, of) })
	}
}

func forgedAndStrangers(t *testing.T, of wire.Type) {
	c := newCrowd(t, 1)
	began := c.clock.since
	c.spoof(of, 1700, began+20*time.Second)
	var honest []*visitor
	for k := range 20 {
		c.later(3*time.Second+time.Duration(k)*500*time.Millisecond, func() {
			v := c.visitor(netip.AddrFrom4([4]byte{150, 1, byte(k), 1}))
			honest = append(honest, v)
			v.come()
		})
	}
	c.until(began + 20*time.Second)
	for k, v := range honest {
		at, ok := c.first[v.local.Identity.Address()]
		if took := at - began - 3*time.Second - time.Duration(k)*500*time.Millisecond; !ok || took > 3*time.Second {
			t.Errorf("stranger %d: heard %v, after %v", k, ok, took)
		}
	}
	cookies, refused := c.n.counters[dCookie].Load(), c.n.counters[dBudget].Load()
	t.Logf("%d HELLOs without a cookie, %d packets for which there was no key agreement", cookies, refused)
	if of == wire.Hello && cookies == 0 || of != wire.Hello && refused == 0 {
		t.Error("there were too few forged packets to matter")
	}
}

// Strangers who name invitations that do not exist, 250 a second, do not keep out a guest with a good one.
func TestGuestBesideStrangers(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of key agreements")
	}
	const rate, seconds = 250, 12
	c := newCrowd(t, 1)
	good := c.issue()
	began := c.clock.since
	for k := range rate * seconds {
		c.later(time.Second*time.Duration(k)/rate, func() {
			v := c.visitor(netip.AddrFrom4([4]byte{100 + byte(k>>14), byte(k >> 8), byte(k), 1}))
			v.guest = &seal.Invitation{ID: InvitationID{0xff, byte(k >> 8), byte(k)}, PSK: [32]byte{9}}
			v.come()
		})
	}
	guests := map[time.Duration]*visitor{}
	for k := range 5 {
		at := 4*time.Second + time.Duration(k)*time.Second/2
		c.later(at, func() {
			guests[at] = c.visitor(netip.AddrFrom4([4]byte{150, byte(k), 1, 1}))
			guests[at].guest = &good
			guests[at].come()
		})
	}
	c.until(began + seconds*time.Second)
	for came, v := range guests {
		at, ok := c.guests[v.local.Identity.Address()]
		took := at - began - came
		t.Logf("let in %v, after %v", ok, took)
		if !ok || took > 5*time.Second {
			t.Errorf("a guest beside strangers: let in %v, after %v", ok, took)
		}
	}
	for _, k := range []counter{dStrangers, dBudget, dCookie, dInvitation, dClaims} {
		t.Logf("%s: %d", counterNames[k], c.n.counters[k].Load())
	}
}
