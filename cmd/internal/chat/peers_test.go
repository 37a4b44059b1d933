package chat

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
)

// fakeNode has the peers that a test gives it, and counts who asks.
type fakeNode struct {
	mu    sync.Mutex
	peers []Peer
	asked int
}

func (n *fakeNode) Peers(context.Context) ([]Peer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return n.peers, nil
}

func (n *fakeNode) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func (n *fakeNode) set(peers ...Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = peers
}

// dials notes which addresses are dialled, none of which answers.
type dials struct {
	mu   sync.Mutex
	list []netip.Addr
}

func (d *dials) dial(_ context.Context, to netip.AddrPort) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, to.Addr())
	return nil, syscall.ECONNREFUSED
}

func (d *dials) take() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}

// nobody is a listener that nobody comes to.
type nobody struct{ end chan struct{} }

func (l nobody) Accept() (net.Conn, error) { <-l.end; return nil, net.ErrClosed }
func (l nobody) Close() error {
	select {
	case <-l.end:
	default:
		close(l.end)
	}
	return nil
}
func (l nobody) Addr() net.Addr { return &net.TCPAddr{} }

// TestPeersChanged: being told is enough, and nothing is asked without it. A peer that
// could not be reached is dialled again when it comes up, once.
func TestPeersChanged(t *testing.T) {
	store := newStore(t)
	synctest.Test(t, func(t *testing.T) {
		ula, north, south := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::3")
		node, out := &fakeNode{}, &dials{}
		settings := config.Default().Info2
		c, err := New(Config{
			Settings: settings, ULA: ula, Node: node, Store: store, Log: quietLog(),
			Watch: func(ctx context.Context, _ func()) error { <-ctx.Done(); return nil },
			Adapter: Transport{Dial: out.dial, Listen: func(context.Context, uint16) (net.Listener, error) {
				return nobody{make(chan struct{})}, nil
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		expect := func(what string, want ...netip.Addr) {
			t.Helper()
			time.Sleep(20 * time.Second)
			got := out.take()
			if len(got) != len(want) {
				t.Errorf("%s: dialled %v, want %v", what, got, want)
				return
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("%s: dialled %v, want %v", what, got, want)
				}
			}
		}
		expect("nobody is there")
		node.set(Peer{ULA: north, Name: "north"})
		c.PeersChanged()
		expect("a peer is added", north)
		if !c.peers.circle.has(north) || c.peers.circle.name(north) != "north" {
			t.Error("it is not in the circle")
		}
		node.set(Peer{ULA: north, Up: true})
		c.PeersChanged()
		expect("it is up", north)
		c.PeersChanged()
		expect("it still is")
		if node.count() != 4 {
			t.Errorf("the node was asked %d times", node.count())
		}
		time.Sleep(10 * time.Minute)
		out.take()
		asked := node.count()
		if asked != 4 {
			t.Errorf("the node was asked %d times without a reason", asked-4)
		}
		// Somebody who looks is a reason to try again whoever is up.
		if _, err := c.Status(ctx); err != nil {
			t.Error(err)
		}
		expect("a look", north)
		for range 10 {
			if _, err := c.Status(ctx); err != nil {
				t.Error(err)
			}
		}
		expect("many looks", north)
		if node.count() != asked+2 {
			t.Errorf("looks asked the node %d times", node.count()-asked)
		}
		node.set(Peer{ULA: south})
		c.PeersChanged()
		expect("another peer", south)
		if _, err := c.Say(ctx, control.SayRequest{Text: "x"}); err == nil {
			t.Error("somebody has heard it")
		}
		node.set()
		c.PeersChanged()
		synctest.Wait()
		if c.peers.circle.has(south) {
			t.Error("a peer that was removed is in the circle")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
