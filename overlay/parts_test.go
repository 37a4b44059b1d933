package overlay

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// frag sends one part of a message.
func (n *testNode) frag(to *testNode, id uint32, at, total int, part []byte) {
	n.t.Helper()
	m := wire.FragMsg{ID: id, Offset: uint16(at), Total: uint16(total), Part: part}
	n.seals(to, m.Append([]byte{byte(wire.Frag)}))
}

// Unfinished messages of strangers, or of one peer, leave room for those of others; the
// memory has its bounds.
func TestFragmentQuotas(t *testing.T) {
	for _, who := range []string{"strangers", "a peer"} {
		t.Run(who, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				n := newTestNode(t, w.Host("n"), nil)
				b := newTestNode(t, w.Host("b"), nil)
				adds(n, b)
				nodes, hosts := []*testNode{n, b}, []*vnet.Host{n.host, b.host}
				for k := range 5 {
					x := newTestNode(t, w.Host(fmt.Sprint("x", k)), nil)
					x.cfg.Peers = []Peer{{Address: n.address0()}}
					if who == "a peer" && k == 0 {
						n.cfg.Peers = append(n.cfg.Peers, Peer{Address: x.address0()})
					}
					nodes, hosts = append(nodes, x), append(hosts, x.host)
				}
				lan(w, "lan", 0, hosts...).SetLink(vnet.Link{Delay: time.Millisecond, MTU: 1280})
				for _, x := range nodes {
					x.start()
					defer x.stop()
				}
				settle(time.Second)
				for _, x := range nodes[1:] {
					x.say(n, "session")
				}
				settle(3 * time.Second)
				failed := 0
				for k := range 200 {
					for i, x := range nodes[2:] {
						if who == "a peer" && i > 0 {
							break
						}
						for j := range 5 {
							x.frag(n, uint32(k*10+j%4), (k%50)*1000+1, 0xfffe, make([]byte, 1000))
						}
					}
					settle(10 * time.Millisecond)
					if k%20 == 0 {
						if _, err := b.longPing(n); err != nil {
							failed++
						}
					}
					f := &n.fragments
					f.mu.Lock()
					if f.all > fragmentsAll || f.strangers > fragmentsStrangers+1<<11 {
						t.Errorf("%d bytes are held, of strangers %d", f.all, f.strangers)
					}
					for _, p := range f.of {
						if p.held > fragmentsOne {
							t.Errorf("%d bytes of one", p.held)
						}
					}
					f.mu.Unlock()
				}
				if failed > 0 {
					t.Errorf("%d of 10 long pings of another peer failed", failed)
				}
				settle(3 * time.Second)
				b.longPing(n) // has what is too old given up
				n.fragments.mu.Lock()
				defer n.fragments.mu.Unlock()
				if n.fragments.all > 4096 {
					t.Errorf("%d bytes are held when all is over", n.fragments.all)
				}
			})
		})
	}
}

// longPing sends the longest ping that there is.
func (n *testNode) longPing(to *testNode) (PingReply, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Second)
	defer cancel()
	return n.Ping(ctx, to.address0(), MaxPing)
}

// Of five messages that arrive in turns only the oldest is given up.
func TestFiveInterleaved(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "session")
		settle(time.Second)
		const parts, size = 4, 300
		whole := func(m int) []byte { return ip6(fmt.Sprint(m) + string(bytes.Repeat([]byte{'.'}, parts*size))) }
		for at := 0; at < len(whole(1)); at += size {
			for m := range 5 {
				msg := whole(m)
				a.frag(b, uint32(100+m), at, len(msg), msg[at:min(at+size, len(msg))])
				settle(time.Millisecond)
			}
		}
		settle(100 * time.Millisecond)
		got := 0
		for _, d := range b.dev.delivered() {
			if len(d.msg) > parts*size {
				got++
			}
		}
		if got != 4 {
			t.Errorf("%d of 5 messages arrived, want 4", got)
		}
	})
}

// A long ping over a short path travels in parts, both ways.
func TestLongPingOverShortPath(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		s.SetLink(vnet.Link{Delay: time.Millisecond, MTU: 1280})
		settle(time.Second)
		a.say(b, "session")
		settle(3 * time.Second)
		tap := record(s)
		for range 5 {
			if r, err := a.longPing(b); err != nil || r.Size != MaxPing {
				t.Errorf("ping: %+v, %v", r, err)
			}
		}
		for _, p := range tap.all() {
			if len(p.Data) > 1280-28 {
				t.Errorf("%v", p)
			}
		}
		if n := tap.from("10.0.0.2"); n < 10 {
			t.Errorf("the answers were %d packets, want two each", n)
		}
	})
}
