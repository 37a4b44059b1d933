package link

import (
	"errors"
	"net/netip"
	"testing"
)

// sealed makes a packet of n bytes for a receiver index.
func sealed(index byte, n int, seed uint64) []byte {
	b := filled(n, seed)
	b[flagsAt], b[indexAt] = flagSealed, index
	return b
}

// TestGroup: packets of one sender are spread by receiver index, trains too; what is
// not sealed comes to the first socket alone, except broadcasts, which come to all.
func TestGroup(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			const n = 3
			a, b := cable(t)
			s := &System{Rung: rung}
			var group []Conn
			var err error
			b.do(func() { group, err = s.ListenGroup(Port, n) })
			if err != nil {
				t.Fatal(err)
			}
			var ins []*inbox
			for _, c := range group {
				b.closing(c, nil)
				ins = append(ins, newInbox(t, c))
			}
			shared := newInbox(t, b.listenBeacons())
			from := a.listen(s, 0)
			w := from.NewWriter()
			answers := newInbox(t, from)
			var total [n]uint64
			for i := range 20 {
				for _, x := range neighbour {
					e := on(x, Port, a.index())
					index := byte(i * 37)
					train := sealed(index, 4000, uint64(i))
					for off := 0; off < 4000; off += 1000 {
						copy(train[off:], train[:4])
					}
					write(t, w, Train{Buf: train, Size: 1000, Endpoint: e})
					in := ins[int(index)%n]
					for off := 0; off < 4000; off += 1000 {
						from := in.want(train[off : off+1000])
						write(t, group[int(index)%n].NewWriter(), Train{Buf: train[:9], Size: 9, Endpoint: from})
						if got := answers.want(train[:9]); got.Addr != e.Addr {
							t.Errorf("answer from %v, want %v", got.Addr, e.Addr)
						}
					}
					total[int(index)%n] += 4
					// Not sealed, or too short to name a session.
					for _, b := range [][]byte{{}, {1}, {0, flagSealed}, {0, flagSealed, 1}, {0, 0, 1, 1, 1}} {
						write(t, w, Train{Buf: b, Size: len(b), Endpoint: e})
						ins[0].want(b)
						total[0]++
					}
				}
			}
			for _, x := range []netip.Addr{directed, limited, allNodes} {
				b := []byte("beacon to " + x.String())
				b[flagsAt] &^= flagSealed
				write(t, w, Train{Buf: b, Size: len(b), Endpoint: on(x, Port, a.index())})
				for i := range ins {
					ins[i].want(b)
					total[i]++
				}
				shared.want(b)
			}
			for i, c := range group {
				if got := c.Counters()["rx_packets"]; got != total[i] || got == 0 {
					t.Errorf("socket %d got %d packets, want %d", i, got, total[i])
				}
			}
			// Nobody else joins the group.
			b.do(func() { _, err = s.ListenGroup(Port, n) })
			if !errors.Is(err, errInUse) {
				t.Errorf("second group: %v", err)
			}
			b.do(func() { _, err = s.Listen(Port) })
			if !errors.Is(err, errInUse) {
				t.Errorf("Listen: %v", err)
			}
		})
	}
}

func TestGroupOfAnyPort(t *testing.T) {
	s := new(System)
	group, err := s.ListenGroup(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	port := group[0].LocalPort()
	if _, err := s.ListenGroup(port, 2); !errors.Is(err, errInUse) {
		t.Errorf("second group: %v", err)
	}
	for _, c := range group {
		if c.LocalPort() != port {
			t.Errorf("port %d, want %d", c.LocalPort(), port)
		}
		c.Close()
	}
	if group, err = s.ListenGroup(port, 1); err != nil {
		t.Fatal(err)
	}
	group[0].Close()
	for _, n := range []int{0, -1, 257} {
		if _, err := s.ListenGroup(0, n); err == nil {
			t.Errorf("a group of %d", n)
		}
	}
}
