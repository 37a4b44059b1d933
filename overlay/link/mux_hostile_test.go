package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// memoryNet is a network of connections in memory: those that come in are sent to in, and dial makes
// the others.
type memoryNet struct {
	in    chan net.Conn
	fails chan error // of the next Accept
	dial  func() (net.Conn, error)
	dials atomic.Int32
	done  sync.Once
}

func newMemory() *memoryNet { return &memoryNet{in: make(chan net.Conn), fails: make(chan error)} }

func (p *memoryNet) Dial(context.Context, string, string) (net.Conn, error) {
	p.dials.Add(1)
	return p.dial()
}

func (p *memoryNet) ListenTCP(uint16) (net.Listener, error) { return p, nil }

func (p *memoryNet) Accept() (net.Conn, error) {
	select {
	case c, ok := <-p.in:
		if !ok {
			return nil, net.ErrClosed
		}
		return c, nil
	case err := <-p.fails:
		return nil, err
	}
}

func (p *memoryNet) Close() error   { p.done.Do(func() { close(p.in) }); return nil }
func (p *memoryNet) Addr() net.Addr { return &net.TCPAddr{} }

// pipeEnd is one end of a connection, from an address.
type pipeEnd struct {
	net.Conn
	from netip.AddrPort
}

func (p *pipeEnd) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.from) }

// connect opens a connection to the Mux from an address.
func (p *memoryNet) connect(from string) net.Conn {
	ours, theirs := net.Pipe()
	p.in <- &pipeEnd{theirs, netip.MustParseAddrPort(from)}
	return ours
}

// world is a Mux that listens to a memoryNet, and of which all is read.
type world struct {
	*memoryNet
	m     *Mux
	got   atomic.Int64 // bytes of packets
	from  chan Endpoint
	ended chan Endpoint
	over  chan struct{}
}

// newWorld makes one in a bubble of virtual time. The first endpoints that something came from are
// sent to from.
func newWorld(t *testing.T) *world {
	w := &world{memoryNet: newMemory(), from: make(chan Endpoint, 1000), ended: make(chan Endpoint, 1000), over: make(chan struct{})}
	w.m = NewMux(MuxConfig{Streams: w.memoryNet, Ended: func(ep Endpoint) { w.ended <- ep }})
	if err := w.m.ListenTCP(1); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.over)
		ts := make([]Train, 8)
		for {
			n, err := w.m.Read(ts)
			if err != nil {
				return
			}
			for _, x := range ts[:n] {
				w.got.Add(int64(len(x.Buf)))
				select {
				case w.from <- x.Endpoint:
				default:
				}
			}
		}
	}()
	return w
}

func (w *world) close() {
	w.m.Close()
	<-w.over
}

// proved opens a connection of an owner.
func (w *world) proved(t *testing.T, from string, owner any, added bool) (net.Conn, Endpoint) {
	t.Helper()
	c := w.connect(from)
	if _, err := c.Write(frame(40)); err != nil {
		t.Fatal(err)
	}
	ep := <-w.from
	for ep.Addr.String() != from { // one that was proved before sends again
		ep = <-w.from
	}
	w.m.Keep(ep, owner, added)
	return c, ep
}

func frame(n int) []byte { return appendFrames(nil, &Train{Buf: make([]byte, n), Size: n}) }

// drip writes b byte by byte, one a second, and returns how long the other side bore it.
func drip(c net.Conn, b []byte) time.Duration {
	began := time.Now()
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			break
		}
		time.Sleep(time.Second)
	}
	return time.Since(began)
}

func (w *world) counts(t *testing.T, name string, want uint64) {
	t.Helper()
	if got := w.m.Counters()[name]; got != want {
		t.Errorf("%s is %d, want %d", name, got, want)
	}
}

// Whoever sends a byte a second ends after the time in which a guest has to prove who it is, or a
// frame has to come in full.
func TestSlowSendersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		if d := drip(w.connect("192.0.2.1:1"), frame(1000)); d > 2*proveFor+2*time.Second {
			t.Errorf("a guest was borne for %v", d)
		}
		w.counts(t, "ended_unproved", 1)
		c, _ := w.proved(t, "192.0.2.1:2", "peer", true)
		if d := drip(c, frame(1000)); d > frameFor+2*time.Second {
			t.Errorf("a peer was borne for %v", d)
		}
		synctest.Wait()
		w.counts(t, "ended_slow", 1)
		if c := w.m.Counters(); c["connections"] != 0 || c["connections_unproved"] != 0 {
			t.Errorf("still open: %v", c)
		}
	})
}

// Somebody who proved who it is and is silent stays, though what it sent as a guest is long ago.
func TestProvedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		c, _ := w.proved(t, "192.0.2.1:2", "peer", true)
		time.Sleep(5 * time.Minute)
		if _, err := c.Write(frame(40)); err != nil {
			t.Error(err)
		}
		w.counts(t, "connections_unproved", 0)
	})
}

// However a stream is cut, it is read on: here, what is left fills the small buffer to its last byte.
func TestSmallBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		c, _ := w.proved(t, "192.0.2.1:2", "peer", true)
		synctest.Wait()
		b := append(frame(5000), frame(8000)...)
		at := 0
		for _, end := range []int{smallBuffer, 2 * smallBuffer, 5002 + smallBuffer, len(b)} {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.Write(b[at:end]); err != nil {
				t.Fatal(err)
			}
			at = end
		}
		synctest.Wait()
		if got := w.got.Load(); got != 40+5000+8000 {
			t.Errorf("%d bytes arrive", got)
		}
	})
}

// A packet that is too long for a guest waits until the guest has proved who it is, since its own
// answer may be on the way; without packets before it, it is none.
func TestLongPacketOfGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		c := w.connect("192.0.2.1:1")
		go c.Write(append(frame(40), frame(60_000)...))
		ep := <-w.from
		synctest.Wait()
		w.m.Keep(ep, "peer", true)
		synctest.Wait()
		if got := w.got.Load(); got != 60_040 {
			t.Errorf("%d bytes arrive", got)
		}
		go w.connect("192.0.2.1:1").Write(frame(60_000))
		synctest.Wait()
		w.counts(t, "ended_no_packets", 1)
	})
}

// A guest that sends as fast as it can has a little read of it, until it has proved who it is.
func TestGuestsSendLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		c := w.connect("192.0.2.1:1")
		const most = 1 << 20
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(bytes.Repeat(frame(1000), most/1002))
			sent <- err
		}()
		synctest.Wait()
		if got := w.got.Load(); got == 0 || got > guestMost+smallBuffer {
			t.Errorf("%d bytes of a guest were taken", got)
		}
		w.m.Keep(<-w.from, "peer", true)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := w.got.Load(); got != most/1002*1000 {
			t.Errorf("%d bytes in all", got)
		}
		c = w.connect("192.0.2.1:2")
		if _, err := c.Write(bytes.Repeat(frame(1000), most/1002)); err == nil {
			t.Error("a guest was read on and on")
		}
		w.counts(t, "ended_unproved", 1)
	})
}

// A peer that never reads has no more than the bound waiting, and ends; then nothing is left.
func TestPeerThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		_, ep := w.proved(t, "192.0.2.1:2", "peer", true)
		out := w.m.NewWriter()
		train := Train{Buf: make([]byte, 60_000), Size: 1000, Endpoint: ep}
		for range 1000 {
			out.Write([]Train{train})
			if n := w.m.queued.Load(); n > maxQueued {
				t.Fatalf("%d bytes wait", n)
			}
			time.Sleep(10 * time.Millisecond)
		}
		<-w.ended
		synctest.Wait()
		w.counts(t, "ended_slow", 1)
		if c := w.m.Counters(); c["tx_queue_full"]+c["tx_too_late"] == 0 {
			t.Error("nothing was dropped")
		}
		if n := w.m.queued.Load(); n != 0 {
			t.Errorf("%d bytes wait in no connection", n)
		}
	})
}

// A slow network is no attack: what was queued goes out, however long it takes.
func TestSlowReadersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		c, ep := w.proved(t, "192.0.2.1:2", "peer", true)
		out, train := w.m.NewWriter(), Train{Buf: make([]byte, 60_000), Size: 1000, Endpoint: ep}
		for range 3 {
			out.Write([]Train{train})
		}
		for range 90 { // 16 kbit/s
			if _, err := io.ReadFull(c, make([]byte, 2000)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		w.counts(t, "ended", 0)
	})
}

// When very much waits in all, a connection may have little, and more than one train no longer.
func TestAllQueuesHaveABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		_, ep := w.proved(t, "192.0.2.1:2", "peer", true)
		w.m.queued.Add(allQueued + 1)
		out, train := w.m.NewWriter(), Train{Buf: make([]byte, 6000), Size: 1000, Endpoint: ep}
		if sent, _ := out.Write([]Train{train, train, train}); sent != 1 {
			t.Errorf("%d trains wait", sent)
		}
		w.m.queued.Add(-allQueued - 1)
		if sent, _ := out.Write([]Train{train, train, train}); sent != 3 {
			t.Errorf("%d trains wait", sent)
		}
	})
}

// What guests send stands in no queue with the rest.
func TestGuestsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMux(MuxConfig{})
		defer m.Close()
		for range 400 {
			go m.deliver(&delivery{trains: []Train{{Buf: make([]byte, 40), Size: 40}}, guest: true, done: make(chan struct{}, 1)})
		}
		synctest.Wait()
		go m.deliver(&delivery{trains: []Train{{Buf: make([]byte, 50), Size: 50}}, done: make(chan struct{}, 1)})
		synctest.Wait()
		ts := make([]Train, 1)
		for range 200 {
			if m.Read(ts); ts[0].Size == 50 {
				return
			}
		}
		t.Error("a peer waits for hundreds of guests")
	})
}

// An owner has so many connections, and of more the oldest end.
func TestOwnersHaveABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		for _, who := range []struct {
			name  string
			added bool
			most  int
		}{{"peer", true, maxOwned}, {"client", false, maxOwnedByOther}} {
			var first, last net.Conn
			for k := range who.most + 3 {
				c, _ := w.proved(t, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(k+1)).String(), who.name, who.added)
				if first == nil {
					first = c
				}
				last = c
			}
			synctest.Wait()
			if _, err := first.Write(frame(40)); err == nil {
				t.Errorf("the first connection of a %s is there", who.name)
			}
			if _, err := last.Write(frame(40)); err != nil {
				t.Errorf("the last connection of a %s: %v", who.name, err)
			}
		}
		w.counts(t, "connections", maxOwned+maxOwnedByOther)
		w.counts(t, "ended_replaced_proved", 6)
		w.m.Release("client")
		w.m.Release("client")
		synctest.Wait()
		w.counts(t, "connections", maxOwned)
		if n := len(w.m.owners.of) + len(w.m.owners.owner) + w.m.owners.others; n != 1+maxOwned {
			t.Errorf("%d entries are left", n)
		}
	})
}

// Those that nobody added leave connections to those who were.
func TestOthersLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.m.most = 40
		for k := range 31 {
			w.proved(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(k)}), 1).String(), k, false)
		}
		synctest.Wait()
		w.counts(t, "refused_others", 1)
		w.counts(t, "connections", 30)
		w.proved(t, "192.0.2.100:1", "peer", true)
		synctest.Wait()
		w.counts(t, "connections", 31)
	})
}

// A flood of connections from one address, or from very many, replaces itself: who comes meanwhile
// has a place for long enough.
func TestFloodsReplaceThemselves(t *testing.T) {
	var p places
	ended := make(map[*guest]bool)
	enter := func(a netip.Addr) (g *guest) {
		g = p.enter(a, func() { ended[g] = true })
		return g
	}
	bad := netip.MustParseAddr("192.0.2.1")
	for range 10_000 {
		enter(bad)
	}
	if n := p.size(); n < 100 || n > maxPlaces/4 {
		t.Errorf("one address has %d places, and there is nobody else", n)
	}
	// A neighbour behind the same address has time enough.
	honest := enter(bad)
	for range minSitePlaces {
		enter(bad)
	}
	if ended[honest] {
		t.Error("a neighbour was replaced at once")
	}
	p.leave(honest)
	// An IPv6 /48 is one site.
	for k := range 1000 {
		enter(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(k >> 8), byte(k)}))
	}
	if n := len(p.sites); n != 2 {
		t.Errorf("%d sites", n)
	}
	// Many addresses.
	other := enter(netip.MustParseAddr("198.51.100.1"))
	for k := range 10_000 {
		enter(netip.AddrFrom4([4]byte{10, byte(k >> 8), byte(k), 1}))
		if k == 300 && ended[other] {
			t.Error("a stranger of another site was replaced before those who have many places")
		}
	}
	if n := p.size(); n != maxPlaces {
		t.Errorf("%d places are taken", n)
	}
	var last *guest
	for k := range maxPlaces / 2 {
		if last == nil {
			last = enter(netip.MustParseAddr("203.0.113.1"))
		}
		enter(netip.AddrFrom4([4]byte{11, byte(k >> 8), byte(k), 1}))
	}
	if ended[last] {
		t.Error("a newcomer was replaced before those who came earlier")
	}
	for w := p.worst(); w != nil; w = p.worst() {
		p.leave(w)
		p.leave(w)
	}
	if p.size() != 0 || len(p.sites) != 0 {
		t.Errorf("%d places, %d sites are left", p.size(), len(p.sites))
	}
}

// With real sockets: hundreds of connections from one address that say nothing, and one that does.
func TestOneOfManyGetsIn(t *testing.T) {
	server, client, ep := muxes(t)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 200 {
		c, err := net.Dial("tcp", ep.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if sent, err := client.NewWriter().Write([]Train{{Buf: make([]byte, 50), Size: 50, Endpoint: ep}}); sent != 1 || err != nil {
		t.Fatal(sent, err)
	}
	got, from := read(t, server)
	if len(got) != 1 || len(got[0]) != 50 {
		t.Fatalf("%d packets", len(got))
	}
	server.Keep(from, "peer", true)
	c := server.Counters()
	if c["connections_unproved"] > maxPlaces/4 || c["ended_replaced_source"] < 200-maxPlaces/4 {
		t.Errorf("counters %v", c)
	}
}

// What cannot be dialled is dialled less and less often, however much is sent there; others that
// work are not held up.
func TestDialsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.dial = func() (net.Conn, error) { return nil, errors.New("refused") }
		out := w.m.NewWriter()
		ep := Endpoint{Kind: TCP, Addr: netip.MustParseAddrPort("192.0.2.9:8737")}
		send := func(ep Endpoint) { out.Write([]Train{{Buf: make([]byte, 40), Size: 40, Endpoint: ep}}) }
		for range 6000 {
			send(ep)
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.dials.Load(); n < 4 || n > 7 {
			t.Errorf("dialled %d times in a minute", n)
		}
		w.m.Redial()
		before := w.dials.Load()
		send(ep)
		synctest.Wait()
		if w.dials.Load() != before+1 {
			t.Error("on another network it is not dialled")
		}
		// Somebody names very many endpoints.
		time.Sleep(time.Minute)
		before = w.dials.Load()
		for range 10 {
			for k := range 3000 {
				ep.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(k)}), uint16(1+k))
				send(ep)
			}
			time.Sleep(time.Second)
		}
		if n := w.dials.Load() - before; n < dialsAtOnce || n > dialsAtOnce+10*dialsPerSecond {
			t.Errorf("dialled %d times in ten seconds", n)
		}
		synctest.Wait()
		if n := w.m.remembered(); n > maxRedials {
			t.Errorf("%d endpoints are remembered", n)
		}
		if c := w.m.Counters(); c["tx_dial_later"] == 0 || c["tx_dial_budget"] == 0 {
			t.Errorf("counters %v", c)
		}
	})
}

// Where nobody answers with packets, the connection does not last, and is not opened at once again.
func TestDialledAndSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.dial = func() (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			return ours, nil
		}
		out := w.m.NewWriter()
		ep := Endpoint{Kind: TCP, Addr: netip.MustParseAddrPort("192.0.2.9:25")}
		for range 600 {
			out.Write([]Train{{Buf: make([]byte, 40), Size: 40, Endpoint: ep}})
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.dials.Load(); n < 2 || n > 4 {
			t.Errorf("dialled %d times in a minute", n)
		}
		if w.m.Counters()["ended_silent"] == 0 {
			t.Error("it lasts")
		}
	})
}

// Without files for more connections, a guest makes room.
func TestNoMoreFiles(t *testing.T) {
	if !noFiles(syscall.EMFILE) {
		return // the system has other errors
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		c := w.connect("192.0.2.1:1")
		synctest.Wait()
		w.counts(t, "connections_unproved", 1)
		w.fails <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a guest keeps its file")
		}
		w.counts(t, "accept_failed", 1)
		w.proved(t, "192.0.2.1:2", "peer", true)
	})
}

// Connections end while others write to them.
func TestQueueAndClose(t *testing.T) {
	for range 300 {
		ours, theirs := net.Pipe()
		m := NewMux(MuxConfig{})
		s := newStream(m, Endpoint{}, ours, nil)
		var all sync.WaitGroup
		all.Go(s.write)
		all.Go(func() { io.Copy(io.Discard, theirs) })
		for range 2 {
			all.Go(func() {
				for range 20 {
					s.queue(&Train{Buf: make([]byte, 40), Size: 40}, false)
				}
			})
		}
		all.Go(s.close)
		all.Wait()
		if n := m.queued.Load(); n != 0 {
			t.Fatalf("%d bytes wait in no connection", n)
		}
		m.Close()
	}
}

// A writer waits for a busy connection as it likes while it has nothing else to send, and only a
// small part of its time otherwise.
func TestRestraint(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		var r restraint
		now, waited := time.Unix(1000, 0), time.Duration(0)
		for range 10_000 {
			if mixed {
				r.others()
			}
			if r.mayWait(now) {
				r.waited(patience)
				waited += patience
				now = now.Add(patience)
			}
			now = now.Add(100 * time.Microsecond)
		}
		share := float64(waited) / float64(now.Sub(time.Unix(1000, 0)))
		if mixed && share > 0.15 || !mixed && share < 0.9 {
			t.Errorf("mixed %v: %.2f of the time is spent waiting", mixed, share)
		}
	}
}

// FuzzStream feeds a connection with bytes in pieces: it ends, or hands over whole packets.
func FuzzStream(f *testing.F) {
	f.Add(append(frame(40), frame(4000)...), uint64(1), false)
	f.Add(bytes.Repeat(frame(60_000), 3), uint64(2), true)
	f.Add(append(frame(5000), frame(8000)...), uint64(4), true)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint64(3), false)
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, kept bool) {
		if !kept {
			b = b[:min(len(b), guestMost-1)] // of more, nothing is read
		}
		most := smallBuffer - frameHeader
		if kept {
			most = 1 << 16
		}
		want, wantErr := 0, false
		for in := bytes.Clone(b); ; {
			ts, used, err := cutFrames(nil, in[:min(len(in), 70_000)], most, Endpoint{})
			for _, x := range ts {
				want += len(x.Buf)
			}
			if wantErr = err != nil; wantErr || used == 0 {
				break
			}
			in = in[used:]
		}
		synctest.Test(t, func(t *testing.T) { // a guest is waited for
			m := NewMux(MuxConfig{})
			ours, theirs := net.Pipe()
			g := m.places.enter(netip.MustParseAddr("192.0.2.1"), func() {})
			s := newStream(m, Endpoint{Conn: 1}, theirs, g)
			if kept {
				s.keep()
			}
			var all sync.WaitGroup
			got := 0
			all.Go(func() {
				ts := make([]Train, 3)
				for {
					n, err := m.Read(ts)
					if err != nil {
						return
					}
					for _, x := range ts[:n] {
						got += len(x.Buf)
					}
				}
			})
			all.Go(func() {
				random := rand.New(rand.NewPCG(seed, 0))
				for len(b) > 0 {
					n, err := ours.Write(b[:1+random.IntN(min(len(b), 5000))])
					if b = b[n:]; err != nil {
						break
					}
				}
				ours.Close()
			})
			s.run()
			m.Close()
			all.Wait()
			if got > want || !wantErr && got != want {
				t.Errorf("%d bytes of packets, want %d, error %v", got, want, wantErr)
			}
			if bad := m.Counters()["ended_no_packets"] > 0; bad && !wantErr {
				t.Error("good frames are refused")
			}
		})
	})
}

// remembered is how many endpoints are known not to work.
func (m *Mux) remembered() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.redials.failed)
}
