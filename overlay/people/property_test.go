package people

import (
	"fmt"
	"os"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// Whatever people do, whoever is killed, and whatever is lost: in the end both sides agree, uses and guests
// agree, nothing waits for ever, and nobody is let in that people here removed or blocked since. ANODE_LIVES is how many
// lives there are.
func TestProperties(t *testing.T) {
	lives := uint64(100)
	fmt.Sscan(os.Getenv("ANODE_LIVES"), &lives)
	for seed := range lives {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newChaos(t, seed).run() })
	}
}

// chaos is a world with a life of its own, and what people decided last.
type chaos struct {
	*world
	links []invite.Link
	kept  map[[2]*party]bool // false: removed or declined, and not let in since by people here, or brought by a device of theirs
}

func newChaos(t *testing.T, seed uint64) *chaos {
	return &chaos{world: newWorld(t, seed, "a", "b", "c", "d", "e"), kept: map[[2]*party]bool{}}
}

func (x *chaos) run() {
	x.loss = 0.3
	if x.rng.IntN(3) == 0 { // two are of a network with a secret, and their guests will be
		x.parties[0].secret, x.parties[1].secret = [32]byte{1}, [32]byte{1}
	}
	for range 120 {
		x.act()
		x.pass(time.Duration(x.rng.IntN(4000)) * time.Millisecond)
		x.check()
	}
	x.settle()
	x.agree()
}

func (x *chaos) pick() *party { return x.parties[x.rng.IntN(len(x.parties))] }

// act is one thing that somebody does. Errors are decisions that cannot be made then.
func (x *chaos) act() {
	p, o := x.pick(), x.pick()
	if p == o {
		return
	}
	pair := [2]*party{p, o}
	switch x.rng.IntN(18) {
	case 0, 1:
		if _, token, err := p.core.Invite(x.now, Invite{Uses: 1 + x.rng.IntN(3), For: time.Hour, Mine: x.rng.IntN(4) == 0}); err == nil {
			x.links = append(x.links, invite.Link{Address: p.addr, Token: token, Name: p.name, Expires: x.now.Wall.Add(time.Hour)})
		}
	case 2, 3:
		if len(x.links) > 0 {
			l := x.links[x.rng.IntN(len(x.links))]
			if _, err := p.core.Join(x.now, JoinRequest{Link: l, Mine: x.rng.IntN(4) == 0}); err == nil {
				delete(x.kept, [2]*party{p, x.by[l.Address]})
			}
		}
	case 4:
		if p.core.Ask(x.now, AskRequest{Address: o.addr, Note: "hello"}) == nil {
			delete(x.kept, pair)
		}
	case 5:
		if _, err := p.core.Accept(x.now, o.addr, ""); err == nil {
			delete(x.kept, pair)
		}
	case 6:
		if _, err := p.core.Decline(x.now, o.addr); err == nil {
			x.kept[pair] = false
		}
	case 7:
		p.core.Introduce(x.now, o.addr, x.pick().addr, "")
	case 8:
		p.core.SetMine(x.now, o.addr, x.rng.IntN(2) == 0)
	case 9:
		if p.standing(o) == book.Added && !p.failing {
			p.remove(o)
			x.kept[pair] = false
		}
	case 10:
		if p.standing(o) == book.Stranger && !p.failing {
			p.addPeer(o)
			delete(x.kept, pair)
		}
	case 11:
		p.off = !p.off
	case 12:
		p.failing = !p.failing && x.rng.IntN(3) == 0
	case 14:
		if ok, err := p.core.Withdraw(x.now, o.addr); ok && err == nil {
			x.kept[pair] = false
		}
	case 13:
		p.failing = false
		p.start()
	case 16:
		p.policy = Policy(x.rng.IntN(3))
	case 17:
		switch {
		case p.failing:
		case p.standing(o) == book.Blocked:
			p.unblock(o)
		case x.rng.IntN(2) == 0:
			p.block(o)
			delete(x.kept, pair) // what was before is so after
		}
	case 15:
		if !p.failing && !o.failing && x.rng.IntN(3) == 0 {
			x.later(2 * day) // without those who are away
		}
	}
	p.act()
}

// check holds at any moment.
func (x *chaos) check() {
	for _, p := range x.parties {
		for _, v := range p.core.Invitations(x.now) {
			if v.Of-v.Uses != len(v.Guests) || v.Uses < 0 {
				x.Fatalf("%s: %+v", p.name, v)
			}
		}
		for pair, kept := range x.kept {
			if pair[0] == p && !kept && p.standing(pair[1]) == book.Added && !x.guestSince(p, pair[1]) && len(p.book.Get(pair[1].addr).Via) == 0 {
				x.Fatalf("%s let %s in again", p.name, pair[1].name)
			}
		}
		if n := len(p.core.outbox.stored.m); n > outboxTotal {
			x.Fatalf("%d TELLs wait", n)
		}
	}
}

// guestSince reports whether somebody came with an invitation, which people here had issued.
func (x *chaos) guestSince(p, o *party) bool {
	return p.core.people.m[o.addr.X()].Guest
}

// settle ends the trouble, and has everything arrive.
func (x *chaos) settle() {
	x.loss = 0
	for _, p := range x.parties {
		if p.failing = false; p.off || x.rng.IntN(2) == 0 {
			p.off = false
			p.start()
		}
	}
	x.pass(3 * time.Minute)
	for _, p := range x.parties {
		p.sessions = map[anode.Address]bool{}
	}
	x.pass(3 * time.Minute)
	for _, p := range x.parties {
		for _, o := range x.parties {
			if p != o && (p.standing(o) == book.Added || p.state(o) == Asked) {
				p.meets(o)
			}
		}
	}
	x.pass(3 * time.Minute)
}

// agree holds in the end.
func (x *chaos) agree() {
	for _, p := range x.parties {
		for _, o := range x.parties {
			if p.secret != o.secret || o.standing(p) == book.Blocked { // who blocks says nothing
				continue
			}
			if p.state(o) == Friend && o.state(p) != Friend {
				x.Errorf("%s is a friend of %s, which says %s\n%+v\n%+v", o.name, p.name, o.state(p), p.core.person(o.addr), o.core.person(p.addr))
			}
			if p == o || p.standing(o) != book.Added || o.standing(p) != book.Added {
				continue
			}
			if s := p.state(o); s != Friend {
				x.Errorf("%s and %s let each other in: %s of it is %s\n%+v\n%+v", p.name, o.name, p.name, s, p.core.person(o.addr), o.core.person(p.addr))
			}
		}
		for k, out := range p.core.outbox.sending {
			if to := x.by[out.To]; out.due != mono.Never && out.refused == 0 && !out.refusal && to.standing(p) == book.Added && p.secret == to.secret {
				x.Errorf("%s still sends %s %v %x", p.name, to.name, out.Kind, k.id)
			}
		}
		before := p.core.Peers(x.now)
		p.start()
		if after := p.core.Peers(x.now); fmt.Sprint(before) != fmt.Sprint(after) {
			x.Errorf("a restart changes\n%+v\n%+v", before, after)
		}
	}
}
