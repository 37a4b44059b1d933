package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	allNodes  = netip.MustParseAddr("ff02::1")
	limited   = netip.MustParseAddr("255.255.255.255")
	directed  = netip.MustParseAddr("10.77.0.255")
	neighbour = []netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fd77::2")}
)

func on(a netip.Addr, port uint16, index int) Endpoint {
	return Endpoint{Addr: netip.AddrPortFrom(a, port), If: index}
}

// TestBeacons: broadcasts and multicasts on a link without a default route reach the
// socket on Port as well as those that share it, and can be answered as they were read.
func TestBeacons(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			a, b := cable(t)
			s := &System{Rung: rung}
			from, own := a.listen(s, 0), b.listen(s, Port)
			shared := []Conn{b.listenBeacons(), b.listenBeacons()}
			w := from.NewWriter()
			answers := newInbox(t, from)
			in := newInbox(t, own)
			ins := []*inbox{in, newInbox(t, shared[0]), newInbox(t, shared[1])}
			for _, to := range []netip.Addr{directed, limited, allNodes} {
				b0 := []byte("beacon to " + to.String())
				write(t, w, Train{Buf: b0, Size: len(b0), Endpoint: on(to, Port, a.index())})
				for _, in := range ins {
					e := in.want(b0)
					if e.If != b.index() {
						t.Errorf("to %v: came in by %d, want %d", to, e.If, b.index())
					}
					if want := neighbour[0]; to.Is4() && e.Local != want {
						t.Errorf("to %v: local address %v, want %v", to, e.Local, want)
					}
					if to.Is6() && (e.Local.IsValid() || e.Addr.Addr() != netip.MustParseAddr("fe80::1")) {
						t.Errorf("to %v: from %v to %v", to, e.Addr, e.Local)
					}
					write(t, own.NewWriter(), Train{Buf: b0, Size: len(b0), Endpoint: e})
					answers.want(b0)
				}
			}
			// What is sent to the port alone reaches its owner alone.
			one := []byte("only one")
			for _, x := range neighbour {
				write(t, w, Train{Buf: one, Size: len(one), Endpoint: on(x, Port, a.index())})
				if e := in.want(one); e.Local != x {
					t.Errorf("came to %v, want %v", e.Local, x)
				}
			}
			for _, c := range shared {
				if n := c.Counters()["rx_packets"]; n != 3 {
					t.Errorf("a shared socket got %d packets, want 3", n)
				}
				if _, err := c.NewWriter().Write([]Train{{Buf: one, Endpoint: on(neighbour[0], 1, 0)}}); !errors.Is(err, ErrEndpoint) {
					t.Errorf("it writes: %v", err)
				}
			}
		})
	}
}

// TestOneOwner: a second node cannot take the port, and is told what to do. Those who
// only listen to beacons may come first.
func TestOneOwner(t *testing.T) {
	n := newNamespace(t)
	n.ip("link set lo up")
	n.listenBeacons()
	first := n.listen(new(System), Port)
	for range 2 {
		var err error
		n.do(func() { _, err = new(System).Listen(Port) })
		if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), fmt.Sprintf("(process %d) of user", os.Getpid())) {
			t.Errorf("second Listen: %v", err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	n.listen(new(System), Port)
}

// TestLink sends trains of every shape over a real link, to every kind of address.
func TestLink(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			a, b := cable(t)
			from, dst := a.listen(&System{Rung: rung}, 0), b.listen(&System{Rung: rung}, 0)
			w, in := from.NewWriter(), newInbox(t, dst)
			back, answers := dst.NewWriter(), newInbox(t, from)
			for _, x := range neighbour {
				max := 1500 - 40 - 8
				if x.Is4() {
					max = 1500 - 20 - 8
				}
				for i, size := range []int{1, 100, 1200, max} {
					buf := filled(min(MaxTrain, MaxSegments*size)-size/3, uint64(i))
					write(t, w, Train{Buf: buf, Size: size, Endpoint: on(x, dst.LocalPort(), a.index())})
					for off := 0; off < len(buf); off += size {
						e := in.want(buf[off:min(off+size, len(buf))])
						if e.Local != x || e.If != b.index() {
							t.Fatalf("came to %v by %d", e.Local, e.If)
						}
						if off == 0 {
							write(t, back, Train{Buf: buf[:size], Size: size, Endpoint: e})
							answers.want(buf[:size])
						}
					}
				}
				// Too large for the link: the last packet of the train alone goes.
				buf := filled(2*(max+1)+10, 9)
				sent, err := w.Write([]Train{{Buf: buf, Size: max + 1, Endpoint: on(x, dst.LocalPort(), a.index())}})
				if sent != 0 || !errors.Is(err, syscall.EMSGSIZE) {
					t.Errorf("sent %d, %v", sent, err)
				}
				in.want(buf[2*(max+1):])
			}
			if c := from.Counters(); from.Rung() != rung || c["tx_too_big"] != 6 || c["tx_split"] != 0 {
				t.Errorf("rung %s, %v", from.Rung(), c)
			}
		})
	}
}

// TestUnpinned: when the address or the interface of an endpoint is gone, packets
// go as the system would send them.
func TestUnpinned(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			a, b := cable(t)
			from, dst := a.listen(&System{Rung: rung}, 0), b.listen(&System{Rung: rung}, 0)
			w, in := from.NewWriter(), newInbox(t, dst)
			unpinned := uint64(0)
			for _, x := range []struct{ to, local string }{{"10.77.0.2", "10.1.2.3"}, {"fd77::2", "fd99::9"}} {
				e := on(netip.MustParseAddr(x.to), dst.LocalPort(), a.index())
				e.Local = netip.MustParseAddr(x.local)
				buf := filled(2500, 1)
				write(t, w, Train{Buf: buf, Size: 1000, Endpoint: e})
				for i := range 3 {
					in.want(buf[i*1000 : min(len(buf), (i+1)*1000)])
				}
				if n := from.Counters()["tx_unpinned"]; n <= unpinned {
					t.Errorf("to %s: counted %d", x.to, n)
				} else {
					unpinned = n
				}
			}
			// A link-local address means nothing without its interface.
			e := on(neighbour[1], dst.LocalPort(), 99)
			if sent, err := w.Write([]Train{{Buf: []byte("x"), Size: 1, Endpoint: e}}); sent != 0 || err == nil {
				t.Errorf("sent %d, %v", sent, err)
			}
		})
	}
}

// TestRoutes: packets that the routing table refuses are skipped, and counted by reason.
func TestRoutes(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			a, b := cable(t)
			a.ip("route add unreachable 10.1.0.0/16", "route add prohibit 10.2.0.0/16")
			from, dst := a.listen(&System{Rung: rung}, 0), b.listen(&System{Rung: rung}, 0)
			w, in := from.NewWriter(), newInbox(t, dst)
			good := Train{Buf: []byte("good"), Size: 4, Endpoint: on(neighbour[0], dst.LocalPort(), 0)}
			bad := func(a string) Train {
				return Train{Buf: []byte("badbad"), Size: 3, Endpoint: on(netip.MustParseAddr(a), 1, 0)}
			}
			ts := []Train{bad("10.1.0.1"), good, bad("10.2.0.1"), bad("10.3.0.1"), good, bad("2001:db8::1")}
			for _, x := range [][]Train{ts, slices.Repeat(ts, 40)} {
				sent, err := w.Write(x)
				if sent != len(x)/3 || !errors.Is(err, syscall.EHOSTUNREACH) {
					t.Fatalf("sent %d, %v", sent, err)
				}
				for range sent {
					in.want(good.Buf)
				}
			}
			c := from.Counters()
			if c["tx_unreachable"] != 41*6 || c["tx_denied"] != 41*2 {
				t.Errorf("counters %v", c)
			}
		})
	}
}

// TestBackpressure: a writer waits while the socket's buffer is full of packets for a
// neighbour that does not answer, and Close ends the wait. (On the plain rung the
// waiting is package net's.)
func TestBackpressure(t *testing.T) {
	for _, rung := range []string{RungGSO, RungBatch} {
		t.Run(rung, func(t *testing.T) {
			a, _ := cable(t)
			c := a.listen(&System{Rung: rung, sendBuffer: 1 << 12}, 0)
			done := make(chan error)
			go func() {
				w := c.NewWriter()
				e := on(netip.MustParseAddr("10.77.0.99"), 1, 0)
				for {
					if _, err := w.Write([]Train{{Buf: make([]byte, 6000), Size: 1000, Endpoint: e}}); errors.Is(err, ErrClosed) {
						done <- err
						return
					}
				}
			}()
			for c.Counters()["tx_waits"] == 0 {
				time.Sleep(time.Millisecond)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
}

// TestTruncated: what does not fit the buffer is dropped and counted.
func TestTruncated(t *testing.T) {
	a, b := cable(t)
	from, dst := a.listen(new(System), 0), b.listenBeacons()
	w, in := from.NewWriter(), newInbox(t, dst)
	a.ip("link set lan mtu 5000")
	b.ip("link set lan mtu 5000")
	e := on(directed, Port, a.index())
	write(t, w, Train{Buf: make([]byte, beaconSize+1), Size: beaconSize + 1, Endpoint: e},
		Train{Buf: make([]byte, beaconSize), Size: beaconSize, Endpoint: e})
	in.want(make([]byte, beaconSize))
	if c := dst.Counters(); c["rx_truncated"] != 1 || c["rx_packets"] != 1 {
		t.Errorf("counters %v", c)
	}
}

// TestWithoutLoopback: where the self-test cannot run, the kernel is trusted.
func TestWithoutLoopback(t *testing.T) {
	a, b := cable(t)
	from, dst := a.listen(new(System), 0), b.listen(new(System), 0)
	if from.Rung() != RungGSO {
		t.Errorf("on rung %s", from.Rung())
	}
	buf := filled(5000, 1)
	write(t, from.NewWriter(), Train{Buf: buf, Size: 1000, Endpoint: on(neighbour[0], dst.LocalPort(), 0)})
	in := newInbox(t, dst)
	for i := range 5 {
		in.want(buf[i*1000 : (i+1)*1000])
	}
}

// TestWithoutIPv6: the sysctl that many hosts have.
func TestWithoutIPv6(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			n := newNamespace(t)
			n.ip("link set lo up", "addr flush dev lo scope host", "addr add 127.0.0.1/8 dev lo")
			from, dst := n.listen(&System{Rung: rung}, 0), n.listen(&System{Rung: rung}, 0)
			write(t, from.NewWriter(), Train{Buf: []byte("four"), Size: 4, Endpoint: to(v4, dst)})
			newInbox(t, dst).want([]byte("four"))
			if sent, err := from.NewWriter().Write([]Train{{Buf: []byte("six"), Size: 3, Endpoint: on(neighbour[2], 1, 0)}}); sent != 0 || err == nil {
				t.Errorf("sent %d, %v", sent, err)
			}
		})
	}
}
