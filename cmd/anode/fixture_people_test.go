package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/control"
)

// Others who are no peers of the fixture.
var (
	westAddress = mustAddress("aeaqeayeaaaahwwqwzjziiq47gyfdyp6zjlypuey37tdp7eqxhxziximg5zfqema")
	bankAddress = mustAddress("aeaqeayeaaaahujn7njitsgu7ajarnycoa4yynbcs2lquc6mw5ghg36hkvcjjp3d")
)

// fixtureToken is that of all invitations of the fixture.
var fixtureToken = invite.Token{15: 1}

// fixturePeople are the people of a daemon whose answers are those that a test wants: what becomes
// of a join says the name in the link. An invitation for "far" has a relay.
type fixturePeople struct {
	mu          sync.Mutex
	reachable   string
	invitations []control.Invitation
	requests    []control.Request
	states      []control.PeerState
	issued      invite.Link // the last one
	joins       int         // calls of Join
	did         []string    // what was decided
}

func newFixturePeople() *fixturePeople {
	at := fixtureTime.Add(-2 * time.Minute)
	return &fixturePeople{
		reachable: "direct",
		invitations: []control.Invitation{
			{ID: "3fa9c1d2e4b5a697", Name: "east", Uses: 0, Of: 1, Expires: fixtureTime.Add(24 * time.Hour), Created: at,
				Guests: []control.Guest{{Address: southAddress, Name: "south", At: at, Endpoint: "udp:192.0.2.9:8737"}},
				Late:   []control.Guest{{Address: strangerAddress, Name: "\x1b[31mmallory", At: at.Add(time.Minute), Endpoint: "udp:203.0.113.5:4444"}}},
			{ID: "81b2000000000000", Uses: 20, Of: 20, Expires: fixtureTime.Add(7 * 24 * time.Hour), Created: at, Mine: true},
		},
		requests: []control.Request{
			{Address: westAddress, ID: westAddress.ID(), Name: "west", Note: "West, from the party", Since: at, State: control.StateAsking},
			{Address: strangerAddress, ID: strangerAddress.ID(), Name: "bank", Since: at, State: control.StateAsking},
			{Address: bankAddress, ID: bankAddress.ID(), Name: "bank", Via: "north", Since: at.Add(-time.Hour), State: control.StateIntroduced},
		},
		states: []control.PeerState{
			{Address: northAddress, State: control.StateFriend, Name: "north", Mine: true, Via: []string{"laptop"}, Said: "North"},
			{Address: southAddress, State: control.StateApproved, Name: "south", Left: true},
			{Address: westAddress, State: control.StateAsking, Said: "west"},
			{Address: bankAddress, State: control.StateApproved, Said: "bank"},
		},
	}
}

func (p *fixturePeople) Invite(_ context.Context, r control.InviteRequest) (control.Invited, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	expires := time.Now().Add(time.Duration(r.Seconds) * time.Second)
	l := invite.Link{Address: selfAddress, Name: "self", Expires: expires, Endpoints: []wire.Endpoint{mustEndpoint("udp:192.0.2.1:8737")}}
	if !r.Card {
		l.Token = fixtureToken
	}
	if r.Name == "far" {
		l.Relays = []invite.Relay{{Address: hubAddress, Endpoint: mustEndpoint("udp:198.51.100.7:8737")}}
		l.Endpoints = append(l.Endpoints, mustEndpoint("udp:[2001:db8::1]:8737"), mustEndpoint("udp:10.0.0.1:8737"))
	}
	p.issued = l
	i := control.Invitation{ID: "abcdef0123456789", Name: r.Name, Uses: r.Uses, Of: r.Uses, Expires: expires, Created: fixtureTime, Mine: r.Mine}
	if !r.Card {
		p.invitations = append(p.invitations, i)
	}
	return control.Invited{Link: l.String(), Invitation: i, Reachable: p.reachable}, nil
}

func mustEndpoint(s string) wire.Endpoint {
	e, err := wire.EndpointFromText(s)
	if err != nil {
		panic(err)
	}
	return e
}

func (p *fixturePeople) Invitations(context.Context) (control.Invitations, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return control.Invitations{Invitations: slices.Clone(p.invitations)}, nil
}

func (p *fixturePeople) Revoke(_ context.Context, r control.RevokeRequest) (control.Invitation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, i := range p.invitations {
		if strings.HasPrefix(i.ID, r.ID) {
			p.invitations = slices.Delete(p.invitations, n, n+1)
			return i, nil
		}
	}
	return control.Invitation{}, &control.Error{Code: control.CodeUnknownPeer, Message: "no invitation has the ID " + r.ID, Try: "anode invite list"}
}

func (p *fixturePeople) Join(_ context.Context, r control.JoinRequest) (control.Joined, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := invite.Parse(r.Link)
	if err != nil {
		return control.Joined{}, err
	}
	p.joins++
	j := control.Joined{Address: l.Address, Name: cmp.Or(r.As, l.Name)}
	switch {
	case r.Ask || l.Card():
		j.State = control.JoinAsked
	case l.Name == "used":
		j.State, j.Why = control.JoinAsked, "the link was used by another"
	case l.Name == "revoked":
		j.State, j.Why, j.Try = control.JoinDead, "the link was revoked", "ask for a new link"
	case l.Name == "asleep":
		j.State = control.JoinTrying
	case l.Name == "secretive":
		j.State, j.Why, j.Try = control.JoinTrying, "its network secret is another one", "the same secret on both machines"
	case p.joins < 3:
		j.State = control.JoinTrying
	default:
		j.State, j.Own = control.JoinDone, "east"
	}
	return j, nil
}

func (p *fixturePeople) Ask(_ context.Context, r control.AskRequest) (control.Asked, error) {
	return control.Asked{Address: r.Address, Name: r.Name, State: control.StateAsked, Told: r.Note == "here"}, nil
}

func (p *fixturePeople) Requests(context.Context) (control.Requests, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return control.Requests{Requests: slices.Clone(p.requests)}, nil
}

// decide takes a request out of the list.
func (p *fixturePeople) decide(a anode.Address, what string) (r control.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.did = append(p.did, what+" "+a.ID().String())
	p.requests = slices.DeleteFunc(p.requests, func(x control.Request) bool {
		if x.Address == a {
			r = x
		}
		return x.Address == a
	})
	return r
}

func (p *fixturePeople) Accept(_ context.Context, r control.AcceptRequest) (control.Accepted, error) {
	request := p.decide(r.Address, "accept")
	name, state := cmp.Or(r.As, request.As, request.Name), control.StateFriend
	if request.State != control.StateAsking {
		state = control.StateAsked
		request.State, request.As = state, name
		p.mu.Lock()
		p.requests = append(p.requests, request)
		p.mu.Unlock()
	}
	return control.Accepted{Address: r.Address, Name: name, State: state}, nil
}

func (p *fixturePeople) Decline(_ context.Context, r control.DeclineRequest) (control.Request, error) {
	what := "decline"
	if r.Block {
		what = "block"
	}
	return p.decide(r.Address, what), nil
}

// Withdraw takes back a request.
func (p *fixturePeople) Withdraw(_ context.Context, a anode.Address) (bool, error) {
	p.mu.Lock()
	asked := slices.ContainsFunc(p.requests, func(r control.Request) bool { return r.Address == a && r.State == control.StateAsked })
	p.mu.Unlock()
	if asked {
		p.decide(a, "withdraw")
	}
	return asked, nil
}

// Introduce finds A there, and B not.
func (p *fixturePeople) Introduce(_ context.Context, r control.IntroduceRequest) (control.Introduced, error) {
	return control.Introduced{Told: []anode.Address{r.A}, Wait: []anode.Address{r.B}}, nil
}

func (p *fixturePeople) SetMine(context.Context, control.MineRequest) error { return nil }

func (p *fixturePeople) States(context.Context) (control.States, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return control.States{States: slices.Clone(p.states)}, nil
}
