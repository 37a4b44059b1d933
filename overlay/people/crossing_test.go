package people

import (
	"fmt"
	"testing"
	"time"
)

// A guest's ASK may go in an ordinary session, to an issuer that takes it for a stranger until the invitation's session is
// up. Whatever the order of the two, and whatever the issuer answered, the guest is in, and soon.
func TestAskCrossesInvitation(t *testing.T) {
	for _, c := range []crossing{
		{within: time.Second},
		{within: 5 * time.Second, policy: FromIntroduced},
		{within: 5 * time.Second, policy: FromNobody},
		{within: 5 * time.Second, full: true},
		{within: 5 * time.Second, policy: FromNobody, full: true},
		{within: 5 * time.Second, friend: true},
	} {
		for _, order := range orders([]string{"asks", "issuer", "guest", "step", "step"}) {
			t.Run(fmt.Sprintf("%+v %v", c, order), func(t *testing.T) { c.run(t, order) })
		}
	}
}

// crossing is a join, and what makes it hard.
type crossing struct {
	policy Policy
	full   bool // the issuer's disk is, at first
	friend bool // the guest takes the issuer for a friend, who has removed it since
	within time.Duration
}

// run has it happen in an order: the guest's ordinary session is up and it asks, the invitation's session is up here and
// there, and what is on its way arrives.
func (c crossing) run(t *testing.T, order []string) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.of("a"), w.of("b")
	a.policy = c.policy
	l := a.invite(Invite{Name: "guest"})
	b.join(l, false)
	g := b.joins[a.addr]
	if c.friend {
		x, p := b.core.begun(w.now), b.core.person(a.addr)
		p.Friend, p.AskTold, p.Knows = true, true, digest(b.core.profileFor(p))
		b.core.people.put(x, a.addr.X(), p)
		b.must(x.commit())
		x = a.core.begun(w.now)
		a.core.sayLeft(x, b.addr)
		b.off = true
		a.must(x.commit())
		b.off = false
	}
	b.tried[a.addr] = w.now.Mono // the test makes the session
	for _, what := range order {
		switch what {
		case "asks":
			b.meet(a)
		case "issuer":
			a.failing = c.full
			a.core.Up(w.now, Up{Address: b.addr, Invitation: g.ID, Issued: true})
			a.act()
			a.failing = false
		case "guest":
			b.invited[a.addr] = g.ID
			b.core.Up(w.now, Up{Address: a.addr, Invitation: g.ID})
			b.act()
		case "step":
			w.step()
		}
	}
	w.pass(c.within)
	w.states("a", "b", Friend, "b", "a", Friend)
	if j := b.join(l, false); j.State != JoinDone || j.Own != "guest" && !c.friend {
		t.Errorf("%+v", j)
	}
	if v := a.core.Invitations(w.now)[0]; v.Uses != 0 || len(v.Guests) != 1 || len(a.core.Requests(w.now)) != 0 {
		t.Errorf("%+v, and %d ask", v, len(a.core.Requests(w.now)))
	}
}

// orders returns all orders of a list.
func orders(list []string) (all [][]string) {
	if len(list) <= 1 {
		return [][]string{list}
	}
	seen := map[string]bool{}
	for i, first := range list {
		if seen[first] {
			continue
		}
		seen[first] = true
		rest := append(append([]string{}, list[:i]...), list[i+1:]...)
		for _, o := range orders(rest) {
			all = append(all, append([]string{first}, o...))
		}
	}
	return all
}
