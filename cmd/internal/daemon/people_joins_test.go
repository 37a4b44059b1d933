package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/people"
	"anodenet/overlay/vnet"
)

// bubbleClock is the clock of a bubble.
type bubbleClock struct{}

func (bubbleClock) Now() time.Time       { return time.Now() }
func (bubbleClock) Since() time.Duration { return time.Duration(time.Now().UnixNano()) }

// box is a machine with a node and people, without the rest of a daemon, on a host of the simulated internet.
type box struct {
	t     *testing.T
	name  string
	host  *vnet.Host
	wire  *vnet.Interface
	id    *anode.Identity
	store *book.Memory
	wrote func() // is called when the store is written; nil: nobody asks
	psk   *secret

	node   *overlay.Node
	people *peopleService
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

func newBox(t *testing.T, w *vnet.World, s *vnet.Segment, name string, n byte, psk [32]byte) *box {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	h := w.Host(name)
	b := &box{t: t, name: name, host: h, id: id, store: &book.Memory{}, psk: &secret{value: psk, fixed: psk != [32]byte{}}}
	b.wire = h.Attach(s, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 24))
	return b
}

func (b *box) address() anode.Address { return b.id.Address() }

// start runs the machine with what is kept.
func (b *box) start() {
	b.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ANODE_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", b.name)
	}
	var err error
	d := &daemon{identity: b.id, clock: bubbleClock{}, log: log, options: Options{State: NoState,
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, os.ErrNotExist }}}
	d.cfg = config.Loaded{}
	d.cfg.People.Name, d.cfg.People.Requests = b.name, config.RequestsAll
	if d.book, _, err = book.Open(b.address(), watched{b.store, b}, nil); err != nil {
		b.t.Fatal(err)
	}
	if b.people, err = d.newPeople(b.psk, func() []people.Service { return nil }, nil); err != nil {
		b.t.Fatal(err)
	}
	cfg := overlay.Config{Identity: b.id, Book: d.book, Network: b.host, Port: link.Port, Clock: bubbleClock{}, Log: log, Version: "test",
		PSK: b.psk.get(), People: b.people}
	if b.node, err = overlay.New(cfg); err != nil {
		b.t.Fatal(err)
	}
	b.people.node = b.node
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	b.ended.Go(func() { b.node.Run(ctx) })
	b.ended.Go(func() { b.people.run(ctx) })
}

// watched is a store that says when it is written.
type watched struct {
	*book.Memory
	b *box
}

func (x watched) Write(b book.Batch) error {
	if x.b.wrote != nil {
		x.b.wrote()
	}
	return x.Memory.Write(b)
}

// kill ends it as SIGKILL does: nothing leaves it any more.
func (b *box) kill() {
	b.wire.SetUp(false)
	b.cancel()
	b.ended.Wait()
	b.wire.SetUp(true)
}

func (b *box) stop() {
	b.cancel()
	b.ended.Wait()
}

// use uses a link as anode join does, and returns how long it took.
func (b *box) use(ctx context.Context, linkText string, most time.Duration) (control.Joined, time.Duration, error) {
	began := time.Now()
	var last control.Joined
	for time.Since(began) < most && ctx.Err() == nil {
		j, err := b.people.Join(ctx, control.JoinRequest{Link: linkText})
		if err == nil {
			if last = j; j.State != control.JoinTrying {
				return j, time.Since(began), nil
			}
		}
		time.Sleep(250 * time.Millisecond)
	}
	return last, time.Since(began), ctx.Err()
}

func (b *box) state(o *box) (s control.State) {
	s = "?"
	states, err := b.people.States(b.t.Context())
	if err != nil {
		b.t.Error(err)
	}
	for _, p := range states.States {
		if p.Address == o.address() {
			s = p.State
		}
	}
	return s
}

func (b *box) ping(o *box, most time.Duration) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), most)
	defer cancel()
	_, err := b.node.Ping(ctx, o.address(), 40)
	return err
}

// trouble is what a join meets.
type trouble struct {
	secret    bool
	loss      float64
	delay     time.Duration
	reorder   bool
	pinged    int // 1: guest pings before, 2: issuer pings the guest meanwhile, 3: both
	kill      int // 1: guest, 2: issuer, 3: both
	links     int // of one issuer used at once
	linkMoves bool
}

func troubleOf(r *rand.Rand) trouble {
	s := trouble{secret: r.IntN(2) == 0, links: 1}
	if r.IntN(3) > 0 {
		s.loss = 0.3 * r.Float64()
	}
	s.delay = []time.Duration{0, time.Millisecond, 50 * time.Millisecond}[r.IntN(3)]
	s.reorder = r.IntN(2) == 0
	if r.IntN(2) == 0 {
		s.pinged = r.IntN(4)
	}
	if r.IntN(3) == 0 {
		s.kill = r.IntN(4)
	}
	if r.IntN(4) == 0 {
		s.links = 2
	}
	s.linkMoves = r.IntN(6) == 0
	return s
}

// join has one join happen, and returns how it went.
func (sc trouble) join(t *testing.T, seed uint64) (took time.Duration, j control.Joined, states [2]control.State) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := vnet.New(seed)
		defer w.Close()
		l := vnet.Link{Delay: sc.delay, Loss: sc.loss}
		if sc.reorder {
			l.Reorder, l.Duplicate, l.Jitter = 0.2, 0.1, sc.delay/2
		}
		s := w.Segment("lan", l)
		var psk [32]byte
		if sc.secret {
			psk[0] = 7
		}
		a, b := newBox(t, w, s, "a", 1, psk), newBox(t, w, s, "b", 2, [32]byte{})
		a.start()
		b.start()
		defer func() { a.stop() }()
		defer func() { b.stop() }()
		time.Sleep(time.Second + time.Duration(r.IntN(3000))*time.Millisecond)
		if sc.pinged&1 != 0 {
			b.ping(a, time.Second)
		}
		var pings sync.WaitGroup
		stopPings := make(chan struct{})
		if sc.pinged&2 != 0 {
			node, r := a.node, rand.New(rand.NewPCG(seed, 3))
			pings.Go(func() {
				for {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					node.Ping(ctx, b.address(), 40)
					cancel()
					select {
					case <-stopPings:
						return
					case <-time.After(time.Duration(20+r.IntN(300)) * time.Millisecond):
					}
				}
			})
		}
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
		var links []string
		for range sc.links {
			v, err := a.people.Invite(t.Context(), control.InviteRequest{})
			if err != nil {
				t.Error(err)
			}
			links = append(links, v.Link)
		}
		var other sync.WaitGroup
		begun := b.people // a kill replaces it
		for _, x := range links[1:] {
			other.Go(func() { begun.Join(t.Context(), control.JoinRequest{Link: x}) })
		}
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			j, took, _ = b.use(ctx, links[0], 5*time.Minute)
		}()
		span := 20 + 10*sc.delay.Milliseconds()
		if r.IntN(3) == 0 {
			span = 6000
		}
		after := time.Duration(r.Int64N(span)) * time.Millisecond
		if sc.linkMoves {
			time.Sleep(after)
			b.wire.SetUp(false)
			time.Sleep(300 * time.Millisecond)
			b.wire.SetUp(true)
		}
		for _, x := range []struct {
			*box
			bit int
		}{{b, 1}, {a, 2}} {
			if sc.kill&x.bit == 0 {
				continue
			}
			time.Sleep(after)
			if x.box == b {
				cancel()
				<-done
			}
			x.kill()
			time.Sleep(time.Duration(r.IntN(2500)) * time.Millisecond)
			x.start()
			if x.box == b {
				done, ctx = make(chan struct{}), t.Context()
				go func() {
					defer close(done)
					j, _, _ = b.use(t.Context(), links[0], 5*time.Minute)
				}()
			}
			began = time.Now()
		}
		<-done
		cancel()
		took = time.Since(began)
		close(stopPings)
		pings.Wait()
		other.Wait()
		time.Sleep(10 * time.Second)
		states = [2]control.State{a.state(b), b.state(a)}
	})
	return took, j, states
}

// TestJoinsInTrouble: whatever happens to packets and machines, a join ends with both friends, and soon.
// ANODE_JOINS is how many there are; ANODE_SEED is that of the first.
func TestJoinsInTrouble(t *testing.T) {
	const slow = 45 * time.Second // one of 3000 takes longer than 16 s
	n := 100
	fmt.Sscan(os.Getenv("ANODE_JOINS"), &n)
	first := vnet.Seed(t)
	var longest time.Duration
	var late [7]int                       // how many took 1, 2, 4 ... s or less
	seeds := []uint64{0xc19493e302e82300} // an ordinary session came up while the invitation was under way: 58 s
	for i := range uint64(n) {
		seeds = append(seeds, first+i)
	}
	for _, seed := range seeds {
		x := troubleOf(rand.New(rand.NewPCG(seed, 2)))
		took, j, states := x.join(t, seed)
		longest = max(longest, took)
		k := 0
		for d := time.Second; k < len(late)-1 && took > d; d *= 2 {
			k++
		}
		late[k]++
		if took > slow || j.State != control.JoinDone || states != [2]control.State{control.StateFriend, control.StateFriend} {
			t.Errorf("ANODE_SEED=%#x: %v, %s, %v, %+v", seed, took, j.State, states, x)
		} else if took > 8*time.Second {
			t.Logf("ANODE_SEED=%#x: %v, %+v", seed, took, x)
		}
	}
	t.Logf("longest %v; in 1, 2, 4 ... s: %v", longest, late)
}

// TestTwoLinksAtOnce: two links of one machine that are used at the same time do not take turns for ever: each is begun
// a few times, not as often as the machine can.
func TestTwoLinksAtOnce(t *testing.T) {
	for _, there := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := vnet.New(1)
			defer w.Close()
			s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
			a, b := newBox(t, w, s, "a", 1, [32]byte{}), newBox(t, w, s, "b", 2, [32]byte{})
			a.start()
			var links []string
			for range 2 {
				v, err := a.people.Invite(t.Context(), control.InviteRequest{})
				if err != nil {
					t.Fatal(err)
				}
				links = append(links, v.Link)
			}
			if !there {
				a.stop()
			} else {
				defer a.stop()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var written atomic.Int64
			b.wrote = func() {
				if written.Add(1) == 200 {
					cancel() // or it does not end
				}
			}
			b.start()
			defer b.stop()
			time.Sleep(time.Second)
			var both sync.WaitGroup
			for _, x := range links {
				both.Go(func() {
					if j, took, _ := b.use(ctx, x, 20*time.Second); there != (j.State == control.JoinDone) {
						t.Errorf("%s after %v", j.State, took)
					}
				})
			}
			both.Wait()
			if n := written.Load(); n >= 100 {
				t.Errorf("the disk is written %d times", n)
			}
		})
	}
}

// TestJoinOtherSecret: a machine with a secret of its own cannot join one with another or none, and says why. It does not
// use up what the invitation has for other guests, however long it tries. Once it has no other secret, the join ends.
func TestJoinOtherSecret(t *testing.T) {
	for _, there := range []byte{0, 7} {
		synctest.Test(t, func(t *testing.T) {
			w := vnet.New(1)
			defer w.Close()
			s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
			a, b := newBox(t, w, s, "a", 1, [32]byte{there}), newBox(t, w, s, "b", 2, [32]byte{9})
			a.start()
			b.start()
			defer a.stop()
			defer func() { b.stop() }()
			time.Sleep(time.Second)
			v, err := a.people.Invite(t.Context(), control.InviteRequest{})
			if err != nil {
				t.Fatal(err)
			}
			j, err := b.people.Join(t.Context(), control.JoinRequest{Link: v.Link})
			if err != nil || j.State != control.JoinTrying || j.Why == "" || j.Try == "" {
				t.Errorf("%+v, %v", j, err)
			}
			time.Sleep(time.Hour)
			status, err := b.node.Status(t.Context())
			if n := status.Counters["handshakes"]; err != nil || n < 5 || n > 30 {
				t.Errorf("%d handshakes in an hour, %v", n, err)
			}
			b.psk.value = [32]byte{there}
			if err := b.node.SetSecret(t.Context(), b.psk.value); err != nil {
				t.Fatal(err)
			}
			if why, _ := b.people.whyTrying(t.Context(), a.address()); why != "" {
				t.Errorf("with the right secret: %s", why)
			}
			if j, took, err := b.use(t.Context(), v.Link, time.Minute); err != nil || j.State != control.JoinDone || took > 5*time.Second {
				t.Errorf("%+v after %v, %v", j, took, err)
			}
		})
	}
}

// TestJoinAfterLoss: a guest that lost the network's secret, and its issuer, where one of the two or both started anew: one
// may still have an ordinary session that the other knows nothing of. What they tell each other goes in the session
// by the invitation. It does not matter whether the guest takes the issuer for a friend still.
func TestJoinAfterLoss(t *testing.T) {
	for _, anew := range []struct{ guest, issuer, friends bool }{
		{guest: true}, {issuer: true}, {guest: true, issuer: true}, {guest: true, friends: true}, {guest: true, issuer: true, friends: true},
	} {
		t.Run(fmt.Sprintf("%+v", anew), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := vnet.New(1)
				defer w.Close()
				s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
				a, b := newBox(t, w, s, "a", 1, [32]byte{7}), newBox(t, w, s, "b", 2, [32]byte{})
				a.start()
				b.start()
				defer func() { a.stop() }()
				defer func() { b.stop() }()
				again := func() {
					t.Helper()
					time.Sleep(3 * time.Second)
					v, err := a.people.Invite(t.Context(), control.InviteRequest{})
					if err != nil {
						t.Fatal(err)
					}
					if j, took, err := b.use(t.Context(), v.Link, 5*time.Minute); err != nil || j.State != control.JoinDone || took > time.Second {
						t.Errorf("%s after %v, %v", j.State, took, err)
					}
					if err := b.ping(a, time.Second); err != nil {
						t.Error(err)
					}
				}
				again()
				time.Sleep(3 * time.Second)
				if !anew.friends {
					if _, err := b.node.RemovePeer(t.Context(), a.address()); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(3 * time.Second)
				b.psk.value = [32]byte{}
				if anew.guest {
					b.kill()
					b.start()
				} else if err := b.node.SetSecret(t.Context(), b.psk.value); err != nil {
					t.Error(err)
				}
				if anew.issuer {
					a.kill()
					a.start()
				}
				again()
			})
		})
	}
}

// TestDecidedWhileFull: a decision of people for which the inbox has no room is followed nevertheless.
func TestDecidedWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := vnet.New(1)
		defer w.Close()
		s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
		a, b := newBox(t, w, s, "a", 1, [32]byte{}), newBox(t, w, s, "b", 2, [32]byte{})
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		v, err := a.people.Invite(t.Context(), control.InviteRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if j, _, err := b.use(t.Context(), v.Link, time.Minute); err != nil || j.State != control.JoinDone {
			t.Fatalf("%+v, %v", j, err)
		}
		err = a.people.do(t.Context(), func(*people.Core) {
			for a.people.inbox.put(toldBy{}, false) {
			}
			if _, err := a.node.RemovePeer(t.Context(), b.address()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		})
		time.Sleep(5 * time.Second)
		if s := b.state(a); err != nil || s != control.StateApproved {
			t.Errorf("who was removed says %s, %v", s, err)
		}
	})
}

// TestCallBesideEvents: what people ask for does not wait until all that peers said is done on a slow machine; nor does the
// end.
func TestCallBesideEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := vnet.New(1)
		defer w.Close()
		a := newBox(t, w, w.Segment("lan", vnet.Link{Delay: time.Millisecond}), "a", 1, [32]byte{})
		a.start()
		v, err := a.people.Invite(t.Context(), control.InviteRequest{Uses: 100})
		if err != nil {
			t.Fatal(err)
		}
		var invitation overlay.InvitationID
		if _, err := hex.Decode(invitation[:], []byte(v.ID)); err != nil {
			t.Fatal(err)
		}
		a.people.occurs = func(Occasion) { time.Sleep(100 * time.Millisecond) } // each guest takes that long
		for range 100 {
			guest, err := anode.NewIdentity(0)
			if err != nil {
				t.Fatal(err)
			}
			a.people.inbox.put(overlay.Up{Address: guest.Address(), Invitation: invitation, Issued: true}, false)
		}
		time.Sleep(time.Second)
		began := time.Now()
		list, err := a.people.Invitations(t.Context())
		if took := time.Since(began); err != nil || took > 300*time.Millisecond || list.Invitations[0].Uses == 0 {
			t.Errorf("after %v: %d invitations, %v", took, len(list.Invitations), err)
		}
		began = time.Now()
		a.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it ends after %v", took)
		}
	})
}

// TestAskAgreed: who asks a machine that lets it in already is told so, and not that somebody there decides, whichever of
// its answers comes first.
func TestAskAgreed(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := vnet.New(seed)
			defer w.Close()
			s := w.Segment("lan", vnet.Link{Delay: time.Millisecond, Jitter: 5 * time.Millisecond, Reorder: 0.5})
			a, b := newBox(t, w, s, "a", 1, [32]byte{}), newBox(t, w, s, "b", 2, [32]byte{})
			a.start()
			b.start()
			defer a.stop()
			defer b.stop()
			time.Sleep(time.Second)
			if _, err := b.node.AddPeer(t.Context(), overlay.Peer{Address: a.address()}); err != nil {
				t.Fatal(err)
			}
			if v, err := a.people.Ask(t.Context(), control.AskRequest{Address: b.address()}); err != nil || v.State != control.StateFriend {
				t.Errorf("%d: %+v, %v", seed, v, err)
			}
		})
	}
}
