package people

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// world is some parties and a network between them that loses packets. Time passes in steps.
type world struct {
	*testing.T
	now     Now
	rng     *rand.Rand
	loss    float64
	parties []*party
	by      map[anode.Address]*party
	queue   []packet
}

// party is one person's machine. Its Memory outlives its Core.
type party struct {
	w        *world
	name     string
	addr     anode.Address
	store    *book.Memory
	failing  bool // the disk is full
	book     *book.Book
	core     *Core
	off      bool
	secret   [32]byte
	policy   Policy
	services []Service
	host     netip.Addr
	sessions map[anode.Address]bool // ordinary ones
	invited  map[anode.Address][8]byte
	joins    map[anode.Address]Join
	tried    map[anode.Address]mono.Time
	known    map[anode.Address]Ways
	events   []Event
	tells    int
	told     []Told
}

type packet struct {
	from, to *party
	tell     *wire.TellMsg
	told     *wire.ToldMsg
}

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, seed uint64, names ...string) *world {
	w := &world{T: t, now: Now{start, mono.At(time.Hour)}, rng: rand.New(rand.NewPCG(seed, 1)), by: map[anode.Address]*party{}}
	for _, n := range names {
		w.add(n)
	}
	return w
}

func (w *world) add(name string) *party {
	id, err := anode.NewIdentity(0)
	if err != nil {
		w.Fatal(err)
	}
	p := &party{w: w, name: name, addr: id.Address(), store: &book.Memory{}, host: netip.AddrFrom4([4]byte{192, 0, byte(len(w.parties)), 9})}
	w.parties = append(w.parties, p)
	w.by[p.addr] = p
	p.start()
	return p
}

func (w *world) of(name string) *party {
	i := slices.IndexFunc(w.parties, func(p *party) bool { return p.name == name })
	return w.parties[i]
}

// start makes the Core anew from what is kept: what a kill leaves.
func (p *party) start() {
	p.w.Helper()
	var err error
	if p.book, _, err = book.Open(p.addr, failing{p.store, p}, nil); err != nil {
		p.w.Fatal(err)
	}
	for _, o := range p.w.parties {
		delete(o.sessions, p.addr)
		delete(o.invited, p.addr)
	}
	p.sessions, p.invited, p.joins, p.tried = map[anode.Address]bool{}, map[anode.Address][8]byte{}, map[anode.Address]Join{}, map[anode.Address]mono.Time{}
	p.known = map[anode.Address]Ways{}
	core, problems, err := New(Config{
		Self: p.addr, Book: p.book, Name: func() string { return p.name }, Services: func() []Service { return p.services },
		Secret: func() [32]byte { return p.secret }, Policy: func() Policy { return p.policy },
		Found: func(anode.Address) []wire.Endpoint { return nil },
		Random: func(b []byte) {
			for i := range b {
				b[i] = byte(p.w.rng.Uint32())
			}
		},
	}, p.w.now)
	if err != nil || len(problems) > 0 {
		p.w.Fatal(err, problems)
	}
	p.core = core
	p.act()
}

// failing is a store whose disk may be full.
type failing struct {
	*book.Memory
	p *party
}

func (f failing) Write(b book.Batch) error {
	if f.p.failing {
		return fmt.Errorf("no space left")
	}
	return f.Memory.Write(b)
}

func (p *party) standing(o *party) book.Standing { return p.book.Standing(o.addr) }

// act does what the Core wants.
func (p *party) act() {
	for _, a := range p.core.Take() {
		switch a := a.(type) {
		case Tell:
			p.tells++
			if to := p.w.by[a.To]; to != nil && p.reach(to, a.Msg.Kind) {
				p.w.queue = append(p.w.queue, packet{p, to, &a.Msg, nil})
			}
		case Told:
			p.told = append(p.told, a)
			if to := p.w.by[a.To]; to != nil {
				p.w.queue = append(p.w.queue, packet{p, to, nil, &a.Msg})
			}
		case Join:
			p.joins[a.Issuer] = a
			if a.ID == [8]byte{} {
				delete(p.joins, a.Issuer)
			}
		case Know:
			p.known[a.Address] = a.Ways
		case Secret:
			if p.secret == [32]byte{} {
				p.secret = a.Secret
			}
		case Event:
			p.events = append(p.events, a)
		}
	}
}

// reach reports whether a packet can go, and has a session come up that was not there.
func (p *party) reach(to *party, kind wire.TellKind) bool {
	if to.off || p.off || p.standing(to) == book.Blocked || to.standing(p) == book.Blocked {
		return false
	}
	if p.invited[to.addr] != [8]byte{} || to.invited[p.addr] != [8]byte{} {
		return true
	}
	if p.secret != to.secret {
		return false
	}
	p.meet(to)
	return true
}

// meet has an ordinary session come up.
func (p *party) meet(to *party) {
	for _, pair := range [][2]*party{{p, to}, {to, p}} {
		a, b := pair[0], pair[1]
		owed, _ := a.core.Owed()
		if (a.standing(b) == book.Added || owed[b.addr]) && !a.sessions[b.addr] {
			a.sessions[b.addr] = true
			a.core.Up(p.w.now, Up{Address: b.addr, Endpoint: "udp:192.0.2.1:1"})
			a.act()
		}
	}
}

// tryJoin makes a handshake by an invitation, each 5 s.
func (p *party) tryJoin(j Join) {
	issuer := p.w.by[j.Issuer]
	if p.off || issuer == nil || issuer.off || p.invited[j.Issuer] == j.ID || p.w.now.Mono.Sub(p.tried[j.Issuer]) < 5*time.Second {
		return
	}
	p.tried[j.Issuer] = p.w.now.Mono
	if p.w.lost() || issuer.standing(p) == book.Blocked {
		return
	}
	open, _ := issuer.core.OpenInvitations()
	if o := open[j.ID]; o == nil || !o.Admits(p.addr, p.w.now.Wall) {
		if issuer.secret == [32]byte{} {
			p.core.Refused(p.w.now, j.Issuer, j.ID)
			p.act()
		}
		return
	}
	p.invited[j.Issuer] = j.ID
	issuer.core.Up(p.w.now, Up{Address: p.addr, Invitation: j.ID, Issued: true, Endpoint: "udp:192.0.2.9:1"})
	issuer.act()
	p.core.Up(p.w.now, Up{Address: j.Issuer, Invitation: j.ID})
	p.act()
}

func (w *world) lost() bool { return w.rng.Float64() < w.loss }

// step has 100 ms pass.
func (w *world) step() {
	w.now = Now{w.now.Wall.Add(100 * time.Millisecond), w.now.Mono.Add(100 * time.Millisecond)}
	queue := w.queue
	w.queue = nil
	w.rng.Shuffle(len(queue), func(i, k int) { queue[i], queue[k] = queue[k], queue[i] })
	for _, k := range queue {
		if w.lost() || k.to.off || k.to.standing(k.from) == book.Blocked {
			continue
		}
		if k.tell != nil {
			k.to.core.Heard(w.now, Heard{From: k.from.addr, Host: k.from.host, Endpoint: "udp:192.0.2.1:1", Msg: *k.tell})
		} else {
			k.to.core.Told(w.now, k.from.addr, *k.told)
		}
		k.to.act()
	}
	for _, p := range w.parties {
		if p.off {
			continue
		}
		for _, j := range p.joins {
			p.tryJoin(j)
		}
		if p.core.Next(w.now) <= w.now.Mono {
			p.core.Tick(w.now)
			p.act()
		}
	}
}

// pass has time pass. Ordinary sessions with added peers come up once a second, also with those that do not know us.
func (w *world) pass(d time.Duration) {
	for i := range int(d / (100 * time.Millisecond)) {
		w.step()
		if i%10 == 0 {
			w.sessions()
		}
	}
}

func (w *world) sessions() {
	for _, p := range w.parties {
		for _, o := range w.parties {
			if p.addr != o.addr && !p.off && !o.off && p.standing(o) == book.Added && o.standing(p) != book.Blocked && p.secret == o.secret {
				p.meet(o)
			}
		}
	}
}

// verbs

func (p *party) must(err error) {
	p.w.Helper()
	p.act()
	if err != nil {
		p.w.Fatalf("%s: %v", p.name, err)
	}
}

func (p *party) invite(r Invite) invite.Link {
	p.w.Helper()
	v, t, err := p.core.Invite(p.w.now, r)
	p.must(err)
	return invite.Link{Address: p.addr, Token: t, Expires: v.Expires, Name: p.name}
}

func (p *party) join(l invite.Link, mine bool) Joined {
	p.w.Helper()
	j, err := p.core.Join(p.w.now, JoinRequest{Link: l, Mine: mine})
	p.must(err)
	return j
}

func (p *party) ask(o *party, note string) {
	p.w.Helper()
	p.must(p.core.Ask(p.w.now, AskRequest{Address: o.addr, Note: note}))
}

func (p *party) accept(o *party) string {
	p.w.Helper()
	name, err := p.core.Accept(p.w.now, o.addr, "")
	p.must(err)
	return name
}

// remove, add and block are what people do by the book alone.
func (p *party) remove(o *party) {
	p.w.Helper()
	_, err := p.book.Remove(o.addr, p.w.now.Wall)
	p.decided(o, err)
	delete(p.sessions, o.addr)
	delete(o.sessions, p.addr)
}

func (p *party) addPeer(o *party) {
	p.w.Helper()
	_, err := p.book.Add(o.addr, "", nil, p.w.now.Wall)
	p.decided(o, err)
}

func (p *party) block(o *party) {
	p.w.Helper()
	_, err := p.book.Block(o.addr)
	p.decided(o, err)
	delete(p.sessions, o.addr)
	delete(o.sessions, p.addr)
}

func (p *party) unblock(o *party) {
	p.w.Helper()
	_, err := p.book.Unblock(o.addr)
	p.decided(o, err)
}

func (p *party) decided(o *party, err error) {
	p.w.Helper()
	p.core.Decided(p.w.now, o.addr)
	p.must(err)
}

func (p *party) state(o *party) State { return p.core.State(p.w.now, o.addr) }

func (p *party) count(k EventKind) (n int) {
	for _, e := range p.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func (w *world) states(want ...any) {
	w.Helper()
	for i := 0; i < len(want); i += 3 {
		a, b, s := w.of(want[i].(string)), w.of(want[i+1].(string)), want[i+2].(State)
		if got := a.state(b); got != s {
			w.Errorf("%s of %s: %s, want %s", a.name, b.name, got, s)
		}
	}
}

// befriend makes two parties friends.
func (w *world) befriend(a, b *party) {
	w.Helper()
	b.join(a.invite(Invite{}), false)
	w.pass(20 * time.Second)
	w.states(a.name, b.name, Friend, b.name, a.name, Friend)
}

func id(n uint64) (id wire.TellID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}
