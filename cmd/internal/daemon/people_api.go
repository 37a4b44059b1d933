package daemon

import (
	"context"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/people"
)

// answerPatience is how long a request waits for what other machines say.
const answerPatience = 3 * time.Second

// namePatience is how long a join that is done waits for what the issuer calls us, which may be nothing.
const namePatience = time.Second

// agreePatience is how long a request that was heard waits for a yes of the machine itself, which lets us in already or asked
// us at the same time. People take longer.
const agreePatience = 300 * time.Millisecond

// with runs a verb with the core.
func with[T any](ctx context.Context, s *peopleService, verb func(c *people.Core, now people.Now) (T, error)) (v T, err error) {
	if failed := s.do(ctx, func(c *people.Core) { v, err = verb(c, s.moment()) }); failed != nil {
		return v, failed
	}
	return v, err
}

// Invite issues an invitation, or a business card.
func (s *peopleService) Invite(ctx context.Context, r control.InviteRequest) (control.Invited, error) {
	link := invite.Link{Address: s.self, Name: s.name()}
	var reply control.Invited
	if !r.Card {
		_, err := with(ctx, s, func(c *people.Core, now people.Now) (v people.Invitation, err error) {
			v, link.Token, err = c.Invite(now, people.Invite{Name: r.Name, Uses: r.Uses, For: time.Duration(r.Seconds) * time.Second, Mine: r.Mine})
			reply.Invitation, link.Expires = invitationOf(v), v.Expires
			return v, err
		})
		if err != nil {
			return reply, err
		}
	}
	endpoints, relays, err := s.node.Candidates(ctx)
	if err != nil {
		s.log.Debug("the link has no endpoints", "err", err)
	}
	link.Endpoints = endpoints
	for _, x := range relays {
		link.Relays = append(link.Relays, invite.Relay(x))
	}
	reply.Link, reply.Reachable = link.String(), reachable(endpoints, relays)
	return reply, nil
}

// reachable says how guests from elsewhere can come.
func reachable(endpoints []wire.Endpoint, relays []overlay.RelayAt) string {
	lan := false
	for _, e := range endpoints {
		ip := e.Addr.Addr()
		if e.Kind == wire.HTTP || ip.IsGlobalUnicast() && !ip.IsPrivate() {
			return "direct"
		}
		lan = true
	}
	switch {
	case len(relays) > 0:
		return "relay"
	case lan:
		return "lan"
	}
	return ""
}

// Invitations lists the invitations that were issued.
func (s *peopleService) Invitations(ctx context.Context) (control.Invitations, error) {
	reply := control.Invitations{Invitations: []control.Invitation{}}
	err := s.do(ctx, func(c *people.Core) {
		for _, v := range c.Invitations(s.moment()) {
			reply.Invitations = append(reply.Invitations, invitationOf(v))
		}
	})
	return reply, err
}

func invitationOf(v people.Invitation) control.Invitation {
	return control.Invitation{ID: v.ID, Name: v.Name, Uses: v.Uses, Of: v.Of, Expires: v.Expires, Created: v.Created, Mine: v.Mine,
		Guests: guestsOf(v.Guests), Late: guestsOf(v.Late)}
}

func guestsOf(list []people.Guest) []control.Guest {
	guests := []control.Guest{}
	for _, g := range list {
		guests = append(guests, control.Guest(g))
	}
	return guests
}

// Revoke ends an invitation.
func (s *peopleService) Revoke(ctx context.Context, r control.RevokeRequest) (control.Invitation, error) {
	v, err := with(ctx, s, func(c *people.Core, now people.Now) (people.Invitation, error) { return c.Revoke(now, r.ID) })
	return invitationOf(v), err
}

// Join uses a link, or says how that goes, after a moment if it is not decided.
func (s *peopleService) Join(ctx context.Context, r control.JoinRequest) (control.Joined, error) {
	link, err := invite.Parse(r.Link)
	if err != nil {
		return control.Joined{}, err
	}
	var j people.Joined
	var failed error
	begun := false
	err = s.until(ctx, answerPatience, func(c *people.Core) bool {
		going, ok := c.Joining(link.Address)
		if j = going; !begun || !ok { // another link of the issuer's may have taken its place since
			j, failed = c.Join(s.moment(), people.JoinRequest{Link: link, As: r.As, Note: r.Note, Ask: r.Ask, Mine: r.Mine})
		}
		begun = true
		return failed != nil || j.State != people.JoinTrying
	})
	if err == nil {
		err = failed
	}
	if err == nil && j.State == people.JoinDone && j.Own == "" { // its PROFILE has overtaken its ACCEPT, perhaps
		err = s.until(ctx, namePatience, func(c *people.Core) bool {
			j.Own = c.Peer(s.moment(), link.Address).Calls
			return j.Own != ""
		})
	}
	reply := s.joinedOf(j)
	if err == nil && j.State == people.JoinTrying {
		reply.Why, reply.Try = s.whyTrying(ctx, j.Address)
	}
	return reply, err
}

// whyTrying says why a join does not end, if the issuer answers and something at the two machines has to change.
func (s *peopleService) whyTrying(ctx context.Context, issuer anode.Address) (why, try string) {
	p, err := s.node.PeerStatus(ctx, issuer)
	switch {
	case err != nil:
	case p.Reason == overlay.ReasonOtherSecret && s.secret.get() != [32]byte{}: // else the issuer tells us its own
		return "it answers, but its network secret is another one, or it has none", "the same secret on both machines, or no secret here"
	case p.Reason == overlay.ReasonAnotherVersion:
		return "it answers, but needs another version of anode", "anode version on both machines, and update the older one"
	}
	return "", ""
}

// joinedOf says in words how a join goes.
func (s *peopleService) joinedOf(j people.Joined) control.Joined {
	reply := control.Joined{Address: j.Address, Name: j.Name, Own: j.Own, State: control.JoinState(j.State)}
	if j.Failed {
		reply.Why, reply.Try = whyFailed(j), "ask "+s.shown(j.Address)+" for another link"
	}
	return reply
}

func whyFailed(j people.Joined) string {
	switch {
	case j.Silent:
		return "nobody answered until the link expired"
	case j.Why == people.Used:
		return "the link was used by somebody else"
	case j.Why == people.Over:
		return "the link has expired or was revoked"
	case j.Why == people.Removed:
		return "this machine was removed since it used the link"
	}
	return "the link was used, has expired or was revoked"
}

// Ask asks a peer to let us in.
func (s *peopleService) Ask(ctx context.Context, r control.AskRequest) (control.Asked, error) {
	q := people.AskRequest{Address: r.Address, Name: r.Name, Note: r.Note}
	q.Ways.Endpoints, q.Ways.Hosts = book.Split(r.Endpoints)
	_, err := with(ctx, s, func(c *people.Core, now people.Now) (struct{}, error) { return struct{}{}, c.Ask(now, q) })
	if err != nil {
		return control.Asked{}, err
	}
	var reply control.Asked
	look := func(c *people.Core) {
		p := c.Peer(s.moment(), r.Address)
		reply = control.Asked{Address: r.Address, Name: p.Name, State: control.State(p.State.String()), Told: !c.Waits(r.Address, wire.TellAsk), Refused: p.Refused}
	}
	err = s.until(ctx, answerPatience, func(c *people.Core) bool {
		look(c)
		return reply.Told
	})
	if err == nil && reply.Told {
		err = s.until(ctx, agreePatience, func(c *people.Core) bool {
			look(c)
			return reply.Refused || reply.State == control.StateFriend
		})
	}
	return reply, err
}

// Requests lists who waits for a decision, and who was asked.
func (s *peopleService) Requests(ctx context.Context) (control.Requests, error) {
	reply := control.Requests{Requests: []control.Request{}}
	err := s.do(ctx, func(c *people.Core) {
		for _, r := range c.Requests(s.moment()) {
			reply.Requests = append(reply.Requests, s.requestOf(r))
		}
	})
	return reply, err
}

func (s *peopleService) requestOf(r people.Request) control.Request {
	return control.Request{Address: r.Address, ID: r.Address.ID(), Name: r.Name, As: r.As, Note: r.Note, Via: s.shown(r.Via), Since: r.Since,
		State: control.State(r.State.String()), Refused: r.Refused}
}

// Accept says yes to who asked or was introduced.
func (s *peopleService) Accept(ctx context.Context, r control.AcceptRequest) (control.Accepted, error) {
	return with(ctx, s, func(c *people.Core, now people.Now) (control.Accepted, error) {
		name, err := c.Accept(now, r.Address, r.As)
		return control.Accepted{Address: r.Address, Name: name, State: control.State(c.State(now, r.Address).String())}, err
	})
}

// Withdraw takes back a request that the other side has not answered.
func (s *peopleService) Withdraw(ctx context.Context, a anode.Address) (bool, error) {
	return with(ctx, s, func(c *people.Core, now people.Now) (bool, error) { return c.Withdraw(now, a) })
}

// Decline refuses who asked or was introduced, and blocks it if that is wanted.
func (s *peopleService) Decline(ctx context.Context, r control.DeclineRequest) (control.Request, error) {
	q, err := with(ctx, s, func(c *people.Core, now people.Now) (people.Request, error) { return c.Decline(now, r.Address) })
	if err == nil && r.Block {
		_, err = s.node.BlockPeer(ctx, r.Address, true)
	}
	return s.requestOf(q), err
}

// Introduce makes two peers known to each other.
func (s *peopleService) Introduce(ctx context.Context, r control.IntroduceRequest) (control.Introduced, error) {
	to, err := with(ctx, s, func(c *people.Core, now people.Now) ([]anode.Address, error) {
		return c.Introduce(now, r.A, r.B, r.Note)
	})
	var reply control.Introduced
	if err != nil {
		return reply, err
	}
	err = s.until(ctx, answerPatience, func(c *people.Core) bool {
		reply = control.Introduced{Told: []anode.Address{}, Wait: []anode.Address{}}
		for _, a := range to {
			if c.Waits(a, wire.TellIntro) {
				reply.Wait = append(reply.Wait, a)
			} else {
				reply.Told = append(reply.Told, a)
			}
		}
		return len(reply.Wait) == 0
	})
	return reply, err
}

// SetMine says whether a peer is another device of ours.
func (s *peopleService) SetMine(ctx context.Context, r control.MineRequest) error {
	_, err := with(ctx, s, func(c *people.Core, now people.Now) (struct{}, error) {
		return struct{}{}, c.SetMine(now, r.Address, r.Mine)
	})
	return err
}

// States returns the states of all who are not strangers.
func (s *peopleService) States(ctx context.Context) (control.States, error) {
	reply := control.States{States: []control.PeerState{}}
	err := s.do(ctx, func(c *people.Core) {
		for _, p := range c.Peers(s.moment()) {
			reply.States = append(reply.States, s.stateOf(p))
		}
	})
	return reply, err
}

func (s *peopleService) stateOf(p people.Peer) control.PeerState {
	v := control.PeerState{Address: p.Address, State: control.State(p.State.String()), Name: p.Name, Mine: p.Mine, Said: p.Said, Left: p.Left, Refused: p.Refused, Via: []string{}}
	for _, a := range p.Via {
		v.Via = append(v.Via, s.shown(a))
	}
	return v
}

var _ control.People = (*peopleService)(nil)
