package gateway

import (
	"sync"

	"anodenet/anode"
)

const (
	maxConns   = 8192 // in all
	maxOfPeer  = 2048 // with one peer
	maxPending = 512  // that programs begin, while their streams are opened
	pendingOf  = 128  // of these, to one peer

	totalBuffer = 64 << 20  // bytes of all send and receive buffers
	mostBuffer  = 512 << 10 // of each
	fullShares  = totalBuffer / mostBuffer / 2
)

// flow is a connection of the system: the peer, its port, and the local one.
type flow struct {
	peer       anode.ULA
	port, near uint16
}

// load is how many connections there are with a peer.
type load struct{ all, pending int }

// table is what connections there are. Its owner holds a lock.
type table struct {
	all     map[*conn]struct{}
	flows   map[flow]*conn // those that programs began
	peers   map[anode.ULA]load
	pending int
	shares  int // that the buffers are divided into
}

func newTable() table {
	return table{all: make(map[*conn]struct{}), flows: make(map[flow]*conn), peers: make(map[anode.ULA]load), shares: fullShares}
}

// add notes a connection, and reports false if there are as many as may be.
func (t *table) add(c *conn) bool {
	n := t.peers[c.flow.peer]
	if len(t.all) >= maxConns || n.all >= maxOfPeer {
		return false
	}
	if c.pending {
		if t.pending >= maxPending || n.pending >= pendingOf {
			return false
		}
		t.flows[c.flow] = c
		t.pending++
		n.pending++
	}
	n.all++
	t.peers[c.flow.peer] = n
	t.all[c] = struct{}{}
	return true
}

// settle notes that a connection is not pending any more.
func (t *table) settle(c *conn) {
	if !c.pending {
		return
	}
	c.pending = false
	t.pending--
	n := t.peers[c.flow.peer]
	n.pending--
	t.peers[c.flow.peer] = n
}

// remove forgets a connection.
func (t *table) remove(c *conn) {
	t.settle(c)
	if t.flows[c.flow] == c {
		delete(t.flows, c.flow)
	}
	delete(t.all, c)
	n := t.peers[c.flow.peer]
	if n.all--; n.all > 0 {
		t.peers[c.flow.peer] = n
	} else {
		delete(t.peers, c.flow.peer)
	}
}

// share is the most bytes of a buffer.
func (t *table) share() int { return totalBuffer / 2 / t.shares }

// resize returns the share for the present number of connections, and whether it changed.
// It becomes smaller when there are more connections than shares, and larger when there are
// less than a quarter, so that it does not change back and forth.
func (t *table) resize() (share int, changed bool) {
	old := t.shares
	for t.shares < len(t.all) {
		t.shares *= 2
	}
	for t.shares > fullShares && len(t.all) < t.shares/4 {
		t.shares /= 2
	}
	return t.share(), t.shares != old
}

const (
	largeBuffer = 64 << 10 // of connections that move much
	smallBuffer = 4 << 10  // of the same, while there are many
	manyConns   = 512
)

// buffers are for bytes on their way, of connections that are not idle.
type buffers struct{ large, small sync.Pool }

func (b *buffers) init() {
	b.large.New = func() any { return newBuffer(largeBuffer) }
	b.small.New = func() any { return newBuffer(smallBuffer) }
}

func newBuffer(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// get returns a buffer that put takes back.
func (b *buffers) get(many bool) *[]byte {
	if many {
		return b.small.Get().(*[]byte)
	}
	return b.large.Get().(*[]byte)
}

func (b *buffers) put(p *[]byte) {
	if len(*p) == largeBuffer {
		b.large.Put(p)
	} else {
		b.small.Put(p)
	}
}
