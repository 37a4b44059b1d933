package overlay

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

const (
	nonceSize = 16 // random bytes that lead a ping's payload
	maxPings  = 256

	// MaxPing is the longest payload of a ping in bytes, the nonce included.
	MaxPing = 1392
)

// pings is the table of the node's own outstanding pings. The in loop looks here
// before it takes a PONG for an answer to one of the system's.
type pings struct {
	waiting atomic.Int32

	mu sync.Mutex
	m  map[[nonceSize]byte]*ping
}

type ping struct {
	contact *peer.Contact
	sent    mono.Time
	now     func() mono.Time
	answer  chan pong
}

type pong struct {
	rtt  time.Duration
	ep   link.Endpoint
	hop  uint8
	size int
}

func (t *pings) add(nonce [nonceSize]byte, p *ping) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.m) >= maxPings {
		return fmt.Errorf("%d pings are on their way already", maxPings)
	}
	if t.m == nil {
		t.m = map[[nonceSize]byte]*ping{}
	}
	t.m[nonce] = p
	t.waiting.Store(int32(len(t.m)))
	return nil
}

func (t *pings) remove(nonce [nonceSize]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, nonce)
	t.waiting.Store(int32(len(t.m)))
}

// answer takes a PONG's payload and reports whether it was for one of these.
func (t *pings) answer(from *peer.Contact, payload []byte, ep link.Endpoint, hop uint8) bool {
	if t.waiting.Load() == 0 || len(payload) < nonceSize {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.m[[nonceSize]byte(payload)]
	if p == nil || p.contact != from {
		return false
	}
	delete(t.m, [nonceSize]byte(payload))
	t.waiting.Store(int32(len(t.m)))
	p.answer <- pong{p.now().Sub(p.sent), ep, hop, len(payload)}
	return true
}

// Ping sends one sealed PING with size bytes of payload and waits for its PONG. The
// time includes the handshake where there was no session yet. It returns an
// *UnreachableError when no way was found or ctx ended first.
func (n *Node) Ping(ctx context.Context, a anode.Address, size int) (PingReply, error) {
	if a == n.address {
		return PingReply{}, ErrSelf
	}
	if size > MaxPing {
		return PingReply{}, fmt.Errorf("a ping of %d bytes is too long: at most %d", size, MaxPing)
	}
	msg := make([]byte, 1+max(size, nonceSize))
	msg[0] = byte(wire.Ping)
	rand.Read(msg[1 : 1+nonceSize])
	nonce := [nonceSize]byte(msg[1:])
	p := &ping{sent: n.now(), now: n.now, answer: make(chan pong, 1)}
	failed := make(chan error, 1)
	err := n.call(ctx, func(l *loop) error {
		to, err := l.meet(a, noSite)
		if err != nil {
			return err
		}
		p.contact = to.Contact
		if err := n.pings.add(nonce, p); err != nil {
			return err
		}
		to.Send(l.now, peer.Waiting{Msg: msg, Failed: failed})
		l.touch(to)
		return nil
	})
	if err != nil {
		return PingReply{}, err
	}
	defer n.pings.remove(nonce)
	select {
	case r := <-p.answer:
		return n.pingReply(ctx, a, r)
	case err := <-failed:
		return PingReply{}, err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return PingReply{}, n.why(context.WithoutCancel(ctx), a)
		}
		return PingReply{}, ctx.Err()
	case <-n.done:
		return PingReply{}, ErrClosed
	}
}

// why returns the error for a caller who waited for a peer in vain.
func (n *Node) why(ctx context.Context, a anode.Address) error {
	var why error = &UnreachableError{Reason: ReasonNoAnswer}
	err := n.call(ctx, func(l *loop) error {
		if p := l.peers.get(a); p != nil {
			why = p.Why(l.now)
		}
		return nil
	})
	return cmp.Or(err, why)
}

func (n *Node) pingReply(ctx context.Context, a anode.Address, r pong) (PingReply, error) {
	reply := PingReply{Address: a, Size: r.size, RTT: r.rtt, Hops: int(r.hop), Sealed: true}
	err := n.call(ctx, func(l *loop) error {
		if p := l.peers.get(a); p != nil {
			reply.Path = l.describe(p, r.ep, r.hop)
		}
		return nil
	})
	return reply, err
}
