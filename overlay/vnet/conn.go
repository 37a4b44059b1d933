package vnet

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"anodenet/overlay/link"
)

// QueueSize is how many packets wait for a socket to read them; more are dropped.
const QueueSize = 4096

// Conn is a host's socket.
type Conn struct {
	host   *Host
	port   uint16
	shared bool // it receives only broadcasts, and cannot write

	// under the world's mu
	ready  sync.Cond
	closed bool
	queue  []received
	count  map[string]uint64

	// owned by the goroutine that reads
	buf []byte
}

// received is a packet to be read.
type received struct {
	from link.Endpoint
	data []byte
}

func newConn(h *Host, port uint16) *Conn {
	c := &Conn{host: h, port: port, count: make(map[string]uint64)}
	c.ready.L = &h.w.mu
	return c
}

// put appends a packet to the queue.
func (c *Conn) put(from link.Endpoint, data []byte) {
	if len(c.queue) == QueueSize {
		c.count["rx_dropped"]++
		c.host.w.count["drop_socket_full"]++
		return
	}
	c.host.w.count["delivered"]++
	c.queue = append(c.queue, received{from, data})
	c.ready.Signal()
}

// Read implements link.Conn. Waiting packets that follow one another like those of a
// train come as one train.
func (c *Conn) Read(ts []link.Train) (int, error) {
	w := c.host.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(c.queue) == 0 && !c.closed {
		c.ready.Wait()
	}
	if c.closed {
		return 0, link.ErrClosed
	}
	n, taken := 0, 0
	c.buf = c.buf[:0]
	// Sized first: trains must not move while they are made.
	total := 0
	for _, r := range c.queue {
		total += len(r.data)
	}
	c.buf = slices.Grow(c.buf, total)
	for n < len(ts) && taken < len(c.queue) {
		k := train(c.queue[taken:])
		start := len(c.buf)
		for _, r := range c.queue[taken : taken+k] {
			c.buf = append(c.buf, r.data...)
		}
		first := c.queue[taken]
		ts[n] = link.Train{Buf: c.buf[start:len(c.buf):len(c.buf)], Size: len(first.data), Endpoint: first.from}
		c.count["rx_packets"] += uint64(k)
		c.count["rx_bytes"] += uint64(len(ts[n].Buf))
		c.count["rx_trains"]++
		n++
		taken += k
	}
	c.queue = slices.Delete(c.queue, 0, taken)
	return n, nil
}

// train is how many packets at the head of q make one train.
func train(q []received) int {
	size := len(q[0].data)
	n, total := 1, size
	for n < len(q) && n < link.MaxSegments && size > 0 {
		r := &q[n]
		total += len(r.data)
		if r.from != q[0].from || len(r.data) > size || len(r.data) == 0 || total > link.MaxTrain {
			break
		}
		n++
		if len(r.data) < size {
			break
		}
	}
	return n
}

// LocalPort implements link.Conn.
func (c *Conn) LocalPort() uint16 { return c.port }

// Rung implements link.Conn: trains stay trains if possible.
func (c *Conn) Rung() string { return link.RungGSO }

// Counters implements link.Conn.
func (c *Conn) Counters() map[string]uint64 {
	c.host.w.mu.Lock()
	defer c.host.w.mu.Unlock()
	m := make(map[string]uint64, len(c.count))
	for k, v := range c.count {
		m[k] = v
	}
	return m
}

// Close implements link.Conn.
func (c *Conn) Close() error {
	h := c.host
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if !c.closed {
		c.shut()
		if c.shared {
			h.beacons = slices.DeleteFunc(h.beacons, func(x *Conn) bool { return x == c })
		} else {
			delete(h.conns, c.port)
		}
	}
	return nil
}

func (c *Conn) shut() {
	c.closed = true
	c.queue = nil
	c.ready.Broadcast()
}

// NewWriter implements link.Conn.
func (c *Conn) NewWriter() link.Writer {
	h := c.host
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.writers++
	return &writer{conn: c, sender: h.number<<32 | h.writers}
}

type writer struct {
	conn   *Conn
	sender uint64
	number uint64
}

// leaving is a packet that was written.
type leaving struct {
	p packet
	x path
}

// Write implements link.Writer.
func (w *writer) Write(ts []link.Train) (sent int, err error) {
	c, h := w.conn, w.conn.host
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if c.closed {
		return 0, link.ErrClosed
	}
	var out []leaving
	for i := range ts {
		e := w.train(&ts[i], &out)
		if e == nil {
			sent++
			c.count["tx_trains"]++
		} else if err == nil {
			err = e
		}
	}
	if len(out) > 0 {
		w.number++
		h.w.later(time.Now().Add(Tick), w.sender, w.number, func() {
			for _, l := range out {
				h.send(l.p, l.x)
			}
		})
	}
	return sent, err
}

// train appends the packets of t that can be sent to out.
func (w *writer) train(t *link.Train, out *[]leaving) (err error) {
	c, h := w.conn, w.conn.host
	e := t.Endpoint
	e.Addr = netip.AddrPortFrom(e.Addr.Addr().Unmap(), e.Addr.Port())
	if c.shared || !e.Addr.Addr().IsValid() || e.Addr.Port() == 0 {
		c.count["tx_bad_endpoint"]++
		return link.ErrEndpoint
	}
	if h.refuses {
		c.count["tx_refused"]++
		return syscall.EPERM
	}
	x, err := h.find(e)
	scoped := e.Addr.Addr() == limitedBroadcast || e.Addr.Addr().IsMulticast() || e.Addr.Addr().IsLinkLocalUnicast()
	if err != nil && (e.Local.IsValid() || e.If != 0) && !scoped { // as link.System does
		c.count["tx_unpinned"]++
		e.Local, e.If = netip.Addr{}, 0
		x, err = h.find(e)
	}
	if err != nil {
		c.count["tx_unreachable"]++
		return err
	}
	buf := slices.Clone(t.Buf)
	for off, end := 0, 0; ; off = end {
		if end = off + t.Size; t.Size <= 0 || end > len(buf) {
			end = len(buf)
		}
		p := packet{from: netip.AddrPortFrom(x.from, c.port), to: e.Addr, data: buf[off:end:end], hops: 64}
		if x.out != nil && p.size() > x.out.seg.mtu {
			c.count["tx_too_big"]++
			err = syscall.EMSGSIZE
		} else {
			c.count["tx_packets"]++
			c.count["tx_bytes"] += uint64(len(p.data))
			h.w.count["sent"]++
			*out = append(*out, leaving{p, x})
		}
		if end == len(buf) {
			return err
		}
	}
}
