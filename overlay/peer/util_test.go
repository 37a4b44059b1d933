package peer

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// identities are a few that all tests share: making one costs as much as a handshake.
var identities = sync.OnceValue(func() (ids [4]*anode.Identity) {
	for k := range ids {
		id, err := anode.NewIdentity(anode.Zone(0))
		if err != nil {
			panic(err)
		}
		ids[k] = id
	}
	return ids
})

// packet is what a side sent: unsealed, with body and machine, or sealed.
type packet struct {
	to      link.Endpoint
	author  anode.Address
	from    link.Endpoint
	typ     wire.Type
	body    []byte
	machine uint8 // the recipient's
	sender  uint8 // the sender's
	full    bool
	session *seal.Session // nil: unsealed
	sealed  []byte
	count   int
}

// fake is a Shell that records, of a side with one peer and an endpoint.
type fake struct {
	at      link.Endpoint
	local   *seal.Local
	p       *Peer
	now     *mono.Time
	sent    []packet
	failed  map[string]error
	seeks   int
	lan     []path.Way     // what Seek finds
	said    map[string]int // messages that were sealed
	relays  []anode.Address
	changes Change
	log     []packet      // all that was sent
	relay   anode.Address // all that comes in comes by it, if it is not zero
	own     []wire.Endpoint
	trip    time.Duration // to the relay
	// endpoints that were to be diagnosed
	diagnoses [][]link.Endpoint
}

func (f *fake) Plain(_ *Peer, to link.Endpoint, t wire.Type, body []byte, machine uint8, full bool) {
	f.sent = append(f.sent, packet{to: to, from: f.at, typ: t, body: append([]byte(nil), body...), machine: machine, sender: f.p.env.Local.PeerID, full: full})
}

func (f *fake) Seal(_ *Contact, r *Route, msg []byte, count int) {
	x := packet{to: r.Way.Endpoint, from: f.at, machine: r.PeerID, sender: f.p.env.Local.PeerID, session: r.Session, count: count}
	if len(msg) > 0 {
		x.typ, x.body = wire.Type(msg[0]), append([]byte(nil), msg[1:]...)
		if x.typ == wire.Dgram {
			f.said[string(msg)]++
		}
	}
	if n, ok := r.Session.Reserve(0, 1, int64(*f.now)); ok {
		x.sealed = r.Session.Seal(make([]byte, 0, len(msg)+wire.SealedMin), n, msg)
		f.sent = append(f.sent, x)
	}
}

func (f *fake) Undelivered(_ *Peer, w Waiting, err error) {
	if f.failed[string(w.Msg)] != nil {
		panic("answered twice: " + string(w.Msg))
	}
	f.failed[string(w.Msg)] = err
}

func (f *fake) Seek(p *Peer) {
	f.seeks++
	for _, w := range f.lan {
		p.Offer(*f.now, w, path.Stored)
	}
}

func (f *fake) Diagnose(_ *Peer, list []link.Endpoint) { f.diagnoses = append(f.diagnoses, list) }

func (f *fake) CheckRelay(a anode.Address)            { f.relays = append(f.relays, a) }
func (f *fake) RoundTrip(anode.Address) time.Duration { return f.trip }
func (f *fake) Link(link.Endpoint) (int, bool)        { return 1400, true }
func (f *fake) Hint(link.Endpoint, bool) bool         { return true }
func (f *fake) Own() []wire.Endpoint                  { return f.own }
func (f *fake) Renew()                                {}
func (f *fake) Changed(_ *Peer, what Change)          { f.changes |= what }
func (f *fake) count(typ wire.Type) (n int)           { return len(f.of(typ)) }
func (f *fake) drop()                                 { f.sent = nil }

// take empties sent.
func (f *fake) take() (sent []packet) {
	sent, f.sent = f.sent, nil
	f.log = append(f.log, sent...)
	return sent
}

// of lists what was sent of one type.
func (f *fake) of(t wire.Type) (ps []packet) {
	for _, p := range f.sent {
		if p.typ == t {
			ps = append(ps, p)
		}
	}
	return ps
}

// randomness is deterministic.
type randomness struct{ r *rand.Rand }

func (r randomness) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

var _ io.Reader = randomness{}

// epoch is when a test's clock stands at 0.
var epoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// world is a clock, and machines that speak to each other.
type world struct {
	t     testing.TB
	rand  *rand.Rand
	now   mono.Time
	all   []*fake
	shown time.Duration // how often the clock was looked at
}

func newWorld(t testing.TB, seed uint64) *world {
	return &world{t: t, rand: rand.New(rand.NewPCG(seed, 7)), now: mono.At(time.Hour)}
}

func ep(n byte) link.Endpoint {
	return link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 8737)}
}

func direct(n byte) path.Way { return path.Way{Endpoint: ep(n)} }

// clock is that of stamps: it never shows the same time twice.
func (w *world) clock() time.Time {
	w.shown++
	return epoch.Add(w.now.Duration() + w.shown)
}

// side makes a machine at ep(n) with a peer ID and an instance, whose peer is at address.
func (w *world) side(id *anode.Identity, peer anode.Address, n, peerID, instance byte) *fake {
	f := &fake{at: ep(n), now: &w.now, failed: map[string]error{}, said: map[string]int{}}
	f.local = &seal.Local{Identity: id, PeerID: peerID, Rand: randomness{w.rand}, Instance: wire.Instance{instance},
		Clock: w.clock}
	f.p = New(&Env{Shell: f, Local: f.local, Log: slog.New(slog.DiscardHandler), Request: w.rand.Uint32, Trains: func() bool { return false }}, peer)
	w.all = append(w.all, f)
	return f
}

// pair makes two machines that have added each other.
func (w *world) pair() (a, b *fake) {
	ids := identities()
	a = w.side(ids[0], ids[1].Address(), 1, 1, 0xa1)
	b = w.side(ids[1], ids[0].Address(), 2, 2, 0xb2)
	for _, f := range w.all {
		f.p.Decide(w.now, book.Added, nil)
	}
	return a, b
}

// another makes a second machine of b's address.
func (w *world) another(b *fake, n, peerID, instance byte) *fake {
	c := w.side(b.local.Identity, b.p.Address, n, peerID, instance)
	c.p.Decide(w.now, book.Added, nil)
	return c
}

// receive gives a packet to a side as the loop would, and returns whether it meant
// anything there.
func (f *fake) receive(x packet) bool {
	now, p := *f.now, f.p
	w := path.Way{Endpoint: x.from, Via: f.relay}
	var in *Inbound
	if x.session != nil {
		index := wire.SealedIndex(x.sealed)
		for in = p.Find(index, nil); in != nil; in = p.Find(index, in) {
			if _, err := in.Session.Open(make([]byte, 0, len(x.sealed)), x.sealed, int64(now)); err == nil {
				break
			}
		}
		if in == nil {
			if p.Find(index, nil) == nil && (x.machine == 0 || x.machine == p.env.Local.PeerID) && p.added() {
				p.Lost(now, x.sender)
			}
			return false
		}
		in.Session.Received(int64(now), x.typ != 0)
		in.Session.Activate()
		if r := in.Line.Route.Load(); r != nil && r.Way.Endpoint == x.from {
			in.Line.Heard.Store(int64(now))
		} else if r != nil && in.Session.Newest(x.sealed) {
			p.Roamed(now, in, w)
		}
		if in.Pending.CompareAndSwap(true, false) {
			p.Confirm(now, in, w, true)
		}
		p.Sealed(now)
	} else {
		if x.machine != 0 && x.machine != p.env.Local.PeerID {
			return false
		}
		if x.typ != wire.Cookie {
			p.Signed(now)
		}
	}
	reply := func(t wire.Type, body []byte) {
		if in == nil {
			p.Reply(now, x.from, x.sender, t, body)
			return
		}
		f.Seal(p.Contact, &Route{Session: in.Session, PeerID: x.sender, Line: in.Line, Way: path.Way{Endpoint: x.from}}, append([]byte{byte(t)}, body...), 0)
	}
	var err error
	switch x.typ {
	case wire.Hello:
		err = p.Hello(now, x.sender, x.body, x.from, w, true)
	case wire.Welcome:
		_, err = p.Welcome(now, x.sender, x.body, x.from, w, true)
	case wire.Stale:
		err = p.Stale(now, x.body)
	case wire.EPCReq:
		reply(wire.EPC, x.body)
		p.Came(now, x.sender, w, path.Heard)
	case wire.EPC:
		id, _ := wire.ParseEPC(x.body)
		if in == nil || !p.Answered(now, in, id) {
			p.LearnedWay(now, x.sender, id, w, 0)
		}
	case wire.Probe:
		m, _ := wire.ParseProbe(append([]byte(nil), x.body...))
		reply(wire.ProbeAck, m.AppendAck(nil))
	case wire.ProbeAck:
		m, _ := wire.ParseProbeAck(x.body)
		p.ProbeAck(now, in, m, w, true)
	}
	return err == nil
}

// settle lets all machines tick and speak until nothing is under way, without time
// passing. drop is asked about each packet; nil: none is lost.
func (w *world) settle(drop func(*packet) bool) {
	for range 100 {
		for _, f := range w.all {
			w.tick(f)
		}
		quiet := true
		for _, f := range w.all {
			for _, x := range f.take() {
				for _, to := range w.all {
					if to.at == x.to && to.p.Address == f.local.Identity.Address() && (drop == nil || !drop(&x)) {
						quiet = false
						to.receive(x)
					}
				}
			}
		}
		if quiet {
			return
		}
	}
	w.t.Fatal("it does not come to rest")
}

// tick ticks a side until its due time is in the future.
func (w *world) tick(f *fake) {
	f.p.Tick(w.now)
	for n := 0; f.p.entry.due <= w.now; n++ {
		if n == 10 {
			w.t.Fatalf("due at %v, now %v: no progress", f.p.entry.due, w.now)
		}
		f.p.Tick(w.now)
	}
}

// run lets time pass, with everything that is due on the way.
func (w *world) run(d time.Duration, drop func(*packet) bool) {
	end := w.now.Add(d)
	w.settle(drop)
	for {
		next := end
		for _, f := range w.all {
			next = min(next, f.p.entry.due)
		}
		w.now = max(next, w.now+1)
		w.settle(drop)
		if w.now >= end {
			return
		}
	}
}

// dgram is type | message.
func dgram(msg string) string { return string(byte(wire.Dgram)) + msg }

// say sends a message of f's.
func (f *fake) say(msg string) {
	f.p.Send(*f.now, Waiting{Msg: []byte(dgram(msg))})
}

// meet lets two sides shake hands: a knows where b is.
func (w *world) meet(a, b *fake) {
	w.t.Helper()
	a.p.Offer(w.now, path.Way{Endpoint: b.at}, path.Static)
	a.say("first")
	w.run(time.Second, nil)
	if a.p.State() != Up {
		w.t.Fatalf("after a second the state is %v", a.p.State())
	}
}

func lost(*packet) bool { return true }

// is fails unless two values are equal.
func is[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (m *Machine) String() string { return fmt.Sprint(m.ID(), " ", m.state) }
