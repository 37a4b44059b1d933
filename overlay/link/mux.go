package link

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"unique"
)

// Streams opens connections: the operating system (System), or a simulation (package vnet).
type Streams interface {
	// Dial opens a connection to host:port, over "tcp", "tcp4" or "tcp6".
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// ListenTCP takes connections to a port of all addresses.
	ListenTCP(port uint16) (net.Listener, error)
}

// Mux carries packets beside UDP: in connections, and over Ethernet. It is a Conn from which
// all is read that comes that way, and its Writer takes what goes there.
//
//	Writer ---- queue of a connection ---- goroutine that writes ---- network
//	Read <----- batch of a connection <--- goroutine that reads <---- network
//
// A queue has a bound in bytes and in time, since what waits too long is better lost: see
// stream. What was read is handed over in the buffer that it was read into, and the
// connection waits meanwhile.
type Mux struct {
	cfg     MuxConfig
	ctx     context.Context // ends with Close
	end     context.CancelFunc
	running sync.WaitGroup
	batches chan *delivery

	held *delivery // that the last Read returned; the reader's
	rest []Train   // of it

	mu        sync.Mutex
	outlets   map[Endpoint]outlet // by Place
	listeners []net.Listener
	number    uint32 // of the last connection that came in
	guests    guests

	web      *web // those who post to us
	proxies  proxies
	troubles troubles

	c muxCounters
}

// MuxConfig is what a Mux is made of.
type MuxConfig struct {
	Streams Streams
	Log     *slog.Logger // nil: nothing is logged
	// Ended is told each endpoint that can no longer be used, since its connection ended. It
	// must not wait. It may be nil.
	Ended func(Endpoint)
	// Web answers what is no POST on the TCP ports; nil: nothing is found there.
	Web http.Handler
	// Proxy returns the proxy to reach a URL by, as ProxyFunc of x/net/http/httpproxy does; a TCP endpoint is
	// asked for as https://IP:PORT. nil: none.
	Proxy func(*url.URL) (*url.URL, error)
	// Credentials returns who we are at a proxy, HOST:PORT. It may be nil, and return nothing:
	// then those in the proxy's URL are used.
	Credentials func(proxy string) (user, password string)
	// Roots are who may sign for servers; nil: whom the system trusts.
	Roots *x509.CertPool
}

// outlet is where packets to one endpoint go.
type outlet interface {
	// queue takes the packets of a train, all or none, and keeps none of its memory. It
	// never waits.
	queue(t *Train) (taken bool)
	// keep says that the other side has proved who it is.
	keep()
	// close ends it, and returns at once.
	close()
}

// delivery is what was read from one connection at a time.
type delivery struct {
	trains []Train
	done   chan struct{} // takes one: the reader needs the trains no more
}

func newDelivery() *delivery { return &delivery{done: make(chan struct{}, 1)} }

// muxCounters are added to once for each batch.
type muxCounters struct {
	rxPackets, rxBytes, txPackets, txBytes                                        atomic.Uint64
	accepted, dialled, dialFailed, ended                                          atomic.Uint64
	dropQueue, dropDelay, dropGone, dropMost                                      atomic.Uint64
	web                                                                           webCounters
	refusedGuests, refusedSite, refusedMost, endedFrame, endedSlow, endedUnproved atomic.Uint64
}

// NewMux makes a Mux without connections. Close ends it.
func NewMux(cfg MuxConfig) *Mux {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mux{cfg: cfg, batches: make(chan *delivery), outlets: make(map[Endpoint]outlet)}
	m.ctx, m.end = context.WithCancel(context.Background())
	m.guests.sites = make(map[netip.Addr]int)
	m.web = newWeb(m)
	return m
}

var _ Conn = (*Mux)(nil)

// Read implements Conn.
func (m *Mux) Read(ts []Train) (int, error) {
	for len(m.rest) == 0 {
		if m.held != nil {
			m.held.done <- struct{}{}
			m.held = nil
		}
		select {
		case m.held = <-m.batches:
			m.rest = m.held.trains
		case <-m.ctx.Done():
			return 0, ErrClosed
		}
	}
	n := copy(ts, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// deliver hands a batch to the reader, and waits until that needs it no more. Its error says
// that the Mux is closed; the memory may be in use then.
func (m *Mux) deliver(b *delivery) error {
	packets, bytes := 0, 0
	for i := range b.trains {
		packets += b.trains[i].Packets()
		bytes += len(b.trains[i].Buf)
	}
	select {
	case m.batches <- b:
	case <-m.ctx.Done():
		return ErrClosed
	}
	m.c.rxPackets.Add(uint64(packets))
	m.c.rxBytes.Add(uint64(bytes))
	select {
	case <-b.done:
		return nil
	case <-m.ctx.Done():
		return ErrClosed
	}
}

// NewWriter implements Conn. The writer takes trains of the Mux's kinds alone: see Join.
func (m *Mux) NewWriter() Writer { return &muxWriter{m: m} }

// LocalPort implements Conn: there is no one port.
func (m *Mux) LocalPort() uint16 { return 0 }

// Rung implements Conn.
func (m *Mux) Rung() string { return RungPlain }

// Close ends all connections, and returns when their goroutines have ended.
func (m *Mux) Close() error {
	m.end()
	m.mu.Lock()
	for _, l := range m.listeners {
		l.Close()
	}
	for _, o := range m.outlets {
		o.close()
	}
	m.mu.Unlock()
	m.web.close()
	m.running.Wait()
	return nil
}

// Keep says that who is at an endpoint has proved who it is: its connection lasts, and has its
// own bounds.
func (m *Mux) Keep(ep Endpoint) {
	m.mu.Lock()
	o := m.outlets[ep.Place()]
	m.mu.Unlock()
	if o != nil {
		o.keep()
	}
}

// find returns where packets to an endpoint go: a connection that is there, or one that is opened
// now. It is nil if there is none any more.
func (m *Mux) find(ep Endpoint) outlet {
	ep = ep.Place()
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.outlets[ep]; o != nil || ep.Conn != 0 || m.ctx.Err() != nil {
		return o
	}
	if len(m.outlets) >= maxConnections {
		m.c.dropMost.Add(1)
		return nil
	}
	var o outlet
	switch {
	case ep.Kind == TCP && ep.Addr.IsValid():
		o = m.dial(ep)
	case ep.Kind == HTTP && ep.URL != (unique.Handle[string]{}):
		o = m.post(ep)
	default:
		return nil
	}
	m.outlets[ep] = o
	return o
}

// remove forgets an outlet that ended.
func (m *Mux) remove(ep Endpoint, o outlet) {
	m.mu.Lock()
	if m.outlets[ep] == o {
		delete(m.outlets, ep)
	}
	m.mu.Unlock()
	m.c.ended.Add(1)
	if m.cfg.Ended != nil && m.ctx.Err() == nil {
		m.cfg.Ended(ep)
	}
}

// Counters implements Conn.
func (m *Mux) Counters() map[string]uint64 {
	c := &m.c
	m.mu.Lock()
	open, guests := len(m.outlets), m.guests.count
	m.mu.Unlock()
	all := map[string]uint64{
		"rx_packets": c.rxPackets.Load(), "rx_bytes": c.rxBytes.Load(), "tx_packets": c.txPackets.Load(), "tx_bytes": c.txBytes.Load(),
		"connections": uint64(open), "connections_unproved": uint64(guests),
		"accepted": c.accepted.Load(), "dialled": c.dialled.Load(), "dial_failed": c.dialFailed.Load(), "ended": c.ended.Load(),
		"tx_queue_full": c.dropQueue.Load(), "tx_too_late": c.dropDelay.Load(), "tx_connection_gone": c.dropGone.Load(), "tx_too_many_connections": c.dropMost.Load(),
		"refused_unproved": c.refusedGuests.Load(), "refused_source": c.refusedSite.Load(), "refused_connections": c.refusedMost.Load(),
		"ended_no_packets": c.endedFrame.Load(), "ended_slow": c.endedSlow.Load(), "ended_unproved": c.endedUnproved.Load(),
	}
	m.web.into(all)
	return all
}

// muxWriter sends trains in connections; it is for one goroutine.
type muxWriter struct {
	m    *Mux
	to   Endpoint // where last went
	last outlet
}

// Write implements Writer. It never waits: what a connection does not take is lost, and
// counted. A train to an endpoint without a connection opens one, if the endpoint can be
// dialled.
func (w *muxWriter) Write(ts []Train) (sent int, err error) {
	packets, bytes := 0, 0
	for i := range ts {
		t := &ts[i]
		if w.last == nil || !w.to.Same(&t.Endpoint) {
			w.to, w.last = t.Endpoint, w.m.find(t.Endpoint)
		}
		if w.last == nil {
			w.m.c.dropGone.Add(uint64(t.Packets()))
			err = ErrEndpoint
			continue
		}
		if !w.last.queue(t) {
			w.last = nil // it may have ended
			continue
		}
		sent++
		packets += t.Packets()
		bytes += len(t.Buf)
	}
	w.m.c.txPackets.Add(uint64(packets))
	w.m.c.txBytes.Add(uint64(bytes))
	if w.m.ctx.Err() != nil {
		return sent, ErrClosed
	}
	return sent, err
}

// Join returns a Writer that sends trains of kind UDP by udp, and the others by m.
func Join(udp Writer, m *Mux) Writer { return &joined{udp, m.NewWriter()} }

type joined struct{ udp, mux Writer }

// Write implements Writer. Trains of one kind stay in order.
func (j *joined) Write(ts []Train) (sent int, err error) {
	for len(ts) > 0 {
		n, udp := 1, ts[0].Endpoint.Kind == UDP
		for n < len(ts) && (ts[n].Endpoint.Kind == UDP) == udp {
			n++
		}
		w := j.mux
		if udp {
			w = j.udp
		}
		k, e := w.Write(ts[:n])
		sent += k
		if e != nil && (err == nil || errors.Is(e, ErrClosed)) {
			err = e
		}
		ts = ts[n:]
	}
	return sent, err
}

const (
	// maxConnections bounds those of both directions.
	maxConnections = 1 << 14
	// maxGuests is how many may be open without proof of who is there, and of one site.
	maxGuests     = 512
	maxSiteGuests = 16
)

// guests counts the connections that came in, of which it is not known who is there. The rest
// shares nothing with them.
type guests struct {
	count int
	sites map[netip.Addr]int // by address; IPv6 by /64
}

func siteOf(a netip.Addr) netip.Addr {
	if p, err := a.Unmap().WithZone("").Prefix(64); err == nil && !a.Unmap().Is4() {
		return p.Addr()
	}
	return a.Unmap().WithZone("")
}

// siteMost is how many guests of one site there may be: of this host more, since a reverse proxy
// may run there.
func siteMost(a netip.Addr) int {
	if a.IsLoopback() {
		return maxGuests / 2
	}
	return maxSiteGuests
}

// enter makes room for a connection from a, or says why there is none.
func (m *Mux) enter(a netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, site := &m.guests, siteOf(a)
	switch {
	case len(m.outlets) >= maxConnections:
		m.c.refusedMost.Add(1)
		return fmt.Errorf("link: %d connections are open", len(m.outlets))
	case g.count >= maxGuests:
		m.c.refusedGuests.Add(1)
		return fmt.Errorf("link: %d connections are open without proof of who is there", g.count)
	case g.sites[site] >= siteMost(site):
		m.c.refusedSite.Add(1)
		return fmt.Errorf("link: %d connections of %v are open without proof of who is there", g.sites[site], site)
	}
	g.count++
	g.sites[site]++
	return nil
}

// leave gives the room back.
func (m *Mux) leave(a netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, site := &m.guests, siteOf(a)
	g.count--
	if g.sites[site]--; g.sites[site] == 0 {
		delete(g.sites, site)
	}
}

// attach enters an outlet of a connection that came in, under a number of its own.
func (m *Mux) attach(ep Endpoint, o func(Endpoint) outlet) (Endpoint, outlet, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return ep, nil, false
	}
	m.number++
	if m.number == 0 {
		m.number++
	}
	ep.Conn = m.number
	x := o(ep)
	m.outlets[ep.Place()] = x
	return ep, x, true
}
