package link

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
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
	unknown chan *delivery // of guests, so that what they send never stands in a queue with the rest

	held *delivery // that the last Read returned; the reader's
	rest []Train   // of it

	mu        sync.Mutex
	outlets   map[Endpoint]outlet // by Place
	listeners []net.Listener
	number    uint32 // of the last connection that came in
	ether     ethernet
	owners    owners
	redials   redials
	most      int // connections

	places places
	queued atomic.Int64 // bytes that wait in all TCP connections

	web      *web // those who post to us
	onward   onward
	troubles troubles

	c muxCounters
}

// MuxConfig is what a Mux is made of.
type MuxConfig struct {
	Streams Streams
	Log     *slog.Logger // nil: nothing is logged
	// Ended is told each endpoint that can no longer be used, since its connection ended:
	// those that we dialled, those that Keep was told about, and all that came by HTTP. It must
	// not wait. It may be nil.
	Ended func(Endpoint)
	// Web answers what is no POST on the TCP ports; nil: nothing is found there.
	Web http.Handler
	// Proxy returns the proxy to reach a URL by, as ProxyFunc of x/net/http/httpproxy does; a TCP endpoint is
	// asked for as https://IP:PORT. nil: none.
	Proxy func(*url.URL) (*url.URL, error)
	// Credentials returns who we are at a proxy, HOST:PORT. It may be nil, and return nothing:
	// then those in the proxy's URL are used.
	Credentials func(proxy string) (user, password string)
	// Roots are who may sign for servers; nil: those that the system trusts.
	Roots *x509.CertPool
}

// outlet is where packets to one endpoint go.
type outlet interface {
	// queue takes the packets of a train, all or none, and keeps none of its memory. It waits
	// for room if patient, and if there is going to be some in no time; else it never waits.
	queue(t *Train, patient bool) (taken bool)
	// crowded reports whether what waits is so late that programs should send less. It takes no lock.
	crowded() bool
	// keep says that the other side has proved who it is.
	keep()
	// close ends it, and returns at once.
	close()
}

// delivery is what was read from one connection at a time.
type delivery struct {
	trains []Train
	guest  bool          // nobody knows yet who sent it
	done   chan struct{} // takes one: the reader needs the trains no more
}

func newDelivery() *delivery { return &delivery{done: make(chan struct{}, 1)} }

// muxCounters are added to once for each batch.
type muxCounters struct {
	rxPackets, rxBytes, txPackets, txBytes                                      atomic.Uint64
	accepted, dialled, dialFailed, ended                                        atomic.Uint64
	dropQueue, dropDelay, dropGone, dropMost                                    atomic.Uint64
	web                                                                         webCounters
	refusedMost, endedFrame, endedSlow, endedUnproved                           atomic.Uint64
	refusedOthers, endedOwner, endedSilent, acceptFailed, dialLater, dialBudget atomic.Uint64
	etherBad, etherRefused                                                      atomic.Uint64
}

// NewMux makes a Mux without connections. Close ends it.
func NewMux(cfg MuxConfig) *Mux {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mux{cfg: cfg, batches: make(chan *delivery), unknown: make(chan *delivery), most: mostConnections(), outlets: make(map[Endpoint]outlet)}
	m.ctx, m.end = context.WithCancel(context.Background())
	m.onward.cfg = &m.cfg
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
		case m.held = <-m.unknown:
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
	to := m.batches
	if b.guest {
		to = m.unknown
	}
	select {
	case to <- b:
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

// NewWriter implements Conn. The writer takes trains of the Mux's kinds alone, and never waits:
// see Join.
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
	for _, p := range m.ether.ports {
		p.close()
	}
	m.mu.Unlock()
	m.web.close()
	m.running.Wait()
	return nil
}

// find returns where packets to an endpoint go: a connection that is there, or one that is opened
// now. It is nil if there is none any more.
func (m *Mux) find(ep Endpoint) outlet {
	ep = ep.Place()
	m.mu.Lock()
	defer m.mu.Unlock()
	if ep.Kind == Ethernet {
		if p := m.ether.ports[ep.If]; p != nil {
			return p
		}
		return nil
	}
	if o := m.outlets[ep]; o != nil || ep.Conn != 0 || m.ctx.Err() != nil {
		return o
	}
	var o outlet
	switch {
	case !ep.dialable() || !m.mayDial(ep):
		return nil
	case ep.Kind == TCP:
		o = m.dial(ep)
	default:
		o = m.post(ep)
	}
	m.redials.open++
	m.outlets[ep] = o
	return o
}

// dialable reports whether a connection can be opened to an endpoint.
func (e *Endpoint) dialable() bool {
	a := e.Addr.Addr()
	switch e.Kind {
	case TCP:
		return a.IsValid() && e.Addr.Port() != 0 && !a.IsMulticast() && !a.IsUnspecified()
	case HTTP:
		return e.URL != (unique.Handle[string]{})
	}
	return false
}

// remove forgets an outlet that ended.
func (m *Mux) remove(ep Endpoint, o outlet) {
	m.mu.Lock()
	dropped := m.outlets[ep] != o
	if !dropped {
		delete(m.outlets, ep)
		m.owners.remove(ep)
	}
	if ep.Conn == 0 {
		m.redials.open--
	}
	m.mu.Unlock()
	m.c.ended.Add(1)
	if dropped {
		return // there may be another one by now
	}
	if s, ok := o.(*stream); ok && !s.kept.Load() {
		return // a guest: nobody knows of it
	}
	if m.cfg.Ended != nil && m.ctx.Err() == nil {
		m.cfg.Ended(ep)
	}
}

// Drop ends the connection to an endpoint without a word to Ended: the caller knows. The next packet
// there opens another one, at once if packets came by this one.
func (m *Mux) Drop(ep Endpoint) {
	ep = ep.Place()
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.outlets[ep]; o != nil && ep.Conn == 0 && ep.Kind.Connected() {
		delete(m.outlets, ep)
		m.owners.remove(ep)
		o.close()
	}
}

// Counters implements Conn.
func (m *Mux) Counters() map[string]uint64 {
	c := &m.c
	m.mu.Lock()
	open, guests := len(m.outlets), m.places.size()
	m.mu.Unlock()
	all := map[string]uint64{
		"rx_packets": c.rxPackets.Load(), "rx_bytes": c.rxBytes.Load(), "tx_packets": c.txPackets.Load(), "tx_bytes": c.txBytes.Load(),
		"connections": uint64(open), "connections_unproved": uint64(guests),
		"accepted": c.accepted.Load(), "dialled": c.dialled.Load(), "dial_failed": c.dialFailed.Load(), "ended": c.ended.Load(),
		"tx_queue_full": c.dropQueue.Load(), "tx_too_late": c.dropDelay.Load(), "tx_connection_gone": c.dropGone.Load(), "tx_too_many_connections": c.dropMost.Load(),
		"refused_connections": c.refusedMost.Load(),
		"ended_no_packets":    c.endedFrame.Load(), "ended_slow": c.endedSlow.Load(), "ended_unproved": c.endedUnproved.Load(),
		"ended_replaced_unproved": m.places.replacedMost.Load(), "ended_replaced_source": m.places.replacedSite.Load(),
		"ended_replaced_proved": c.endedOwner.Load(), "refused_others": c.refusedOthers.Load(), "ended_silent": c.endedSilent.Load(),
		"accept_failed": c.acceptFailed.Load(), "tx_dial_later": c.dialLater.Load(), "tx_dial_budget": c.dialBudget.Load(),
		"rx_ethernet_bad": c.etherBad.Load(), "tx_ethernet_refused": c.etherRefused.Load(),
	}
	m.web.into(all)
	return all
}

// muxWriter sends trains in connections; it is for one goroutine.
type muxWriter struct {
	m       *Mux
	patient bool
	to      Endpoint // where last went
	last    outlet
	wait    restraint
}

// Write implements Writer. What a connection does not take is lost, and counted. A train to an endpoint without a connection opens one, if the endpoint can be
// dialled.
func (w *muxWriter) Write(ts []Train) (sent int, err error) {
	packets, bytes := 0, 0
	patient := false
	if w.patient {
		began := time.Now()
		patient = w.wait.mayWait(began)
		defer func() { w.wait.waited(time.Since(began)) }()
	}
	for i := range ts {
		t := &ts[i]
		if w.last == nil || !w.to.Same(&t.Endpoint) {
			if patient && w.to != (Endpoint{}) && !w.to.Same(&t.Endpoint) {
				w.wait.others()
			}
			w.to, w.last = t.Endpoint, w.m.find(t.Endpoint)
		}
		if w.last == nil {
			w.m.c.dropGone.Add(uint64(t.Packets()))
			err = ErrEndpoint
			continue
		}
		if !w.last.queue(t, patient) {
			before := w.last
			w.last = w.m.find(t.Endpoint) // it may have ended, and another may be opened
			if w.last == before || w.last == nil || !w.last.queue(t, patient) {
				w.last = nil
				continue
			}
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

const (
	// waitShare is what part of its time a writer may wait for busy connections if it has
	// packets for others as well, and waitMost how much of that may come at once.
	waitShare = 8
	waitMost  = 10 * time.Millisecond
	// aloneFor is for how long all has to go to one connection before that harms nobody.
	aloneFor = time.Second
)

// restraint bounds the time that a writer waits: as long as all that it sends goes to one
// connection, waiting slows down nobody else.
type restraint struct {
	mixed  bool          // something went elsewhere, since at
	last   time.Time     // when something last did
	at     time.Time     // when credit was right
	credit time.Duration // to wait
}

// mayWait reports whether the writer may wait now.
func (r *restraint) mayWait(now time.Time) bool {
	r.credit = min(r.credit+now.Sub(r.at)/waitShare, waitMost)
	r.at = now
	if r.mixed {
		r.mixed, r.last = false, now
	}
	return r.credit > 0 || now.Sub(r.last) > aloneFor
}

// others says that packets went elsewhere.
func (r *restraint) others() { r.mixed = true }

// waited says how long a write took. What is less than a millisecond was work.
func (r *restraint) waited(d time.Duration) {
	if d >= time.Millisecond {
		r.credit = max(r.credit-d, -waitMost)
	}
}

// Join returns a Writer that sends trains of kind UDP by udp, and the others by m. If patient, it
// waits a little where a busy connection is about to have room: a program of this machine that
// sends too fast then becomes slower, and nothing is lost. What is sent for others must not wait,
// since one of them could hold up the rest.
func Join(udp Writer, m *Mux, patient bool) Writer {
	return &joined{udp, &muxWriter{m: m, patient: patient}}
}

type joined struct {
	udp Writer
	mux *muxWriter
}

// Write implements Writer. Trains of one kind stay in order.
func (j *joined) Write(ts []Train) (sent int, err error) {
	for len(ts) > 0 {
		n, udp := 1, ts[0].Endpoint.Kind == UDP
		for n < len(ts) && (ts[n].Endpoint.Kind == UDP) == udp {
			n++
		}
		w := Writer(j.mux)
		if udp {
			w = j.udp
			j.mux.wait.others()
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
	// maxGuests is how many sessions by HTTP there may be without proof of who is there, and of
	// one site.
	maxGuests     = 512
	maxSiteGuests = 16
)

// guests counts those that have not proved who is there. The rest shares nothing with them.
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

// full reports whether no more may come in: some are left to those that we open.
func (m *Mux) full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.outlets) >= m.most-min(maxDialled, m.most/8)
}

// siteMost is how many guests of one site there may be: of this host more, since a reverse proxy
// may run there.
func siteMost(a netip.Addr) int {
	if a.IsLoopback() {
		return maxGuests / 2
	}
	return maxSiteGuests
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
