package control

import (
	"context"
	"net/http"
	"time"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// People is what the server needs of the daemon's people: who asks, who was invited, who was
// introduced.
type People interface {
	Invite(ctx context.Context, r InviteRequest) (Invited, error)
	Invitations(ctx context.Context) (Invitations, error)
	Revoke(ctx context.Context, r RevokeRequest) (Invitation, error)
	Join(ctx context.Context, r JoinRequest) (Joined, error)
	Ask(ctx context.Context, r AskRequest) (Asked, error)
	Requests(ctx context.Context) (Requests, error)
	Accept(ctx context.Context, r AcceptRequest) (Accepted, error)
	Decline(ctx context.Context, r DeclineRequest) (Request, error)
	// Withdraw takes back a request that the other side has not answered. It returns false if there is none.
	Withdraw(ctx context.Context, a anode.Address) (bool, error)
	Introduce(ctx context.Context, r IntroduceRequest) (Introduced, error)
	SetMine(ctx context.Context, r MineRequest) error
	States(ctx context.Context) (States, error)
}

// InviteRequest asks for an invitation. Zeros are the defaults: one use, 24 hours.
type InviteRequest struct {
	Name    string `json:"name"` // that the guest gets here; empty: the one that it says
	Uses    int    `json:"uses"`
	Seconds int64  `json:"seconds"`
	Card    bool   `json:"card"` // no token: who has the link can ask, and no more
	Mine    bool   `json:"mine"` // the guest is another device of the same person
}

// Invited is a new invitation.
type Invited struct {
	Link string `json:"link"`
	Invitation
	Reachable string `json:"reachable"` // "direct", "relay", "lan" or "": how guests from elsewhere can come
}

// Invitation is one that was issued, without its token.
type Invitation struct {
	ID      string    `json:"id"` // 16 hex digits
	Name    string    `json:"name"`
	Uses    int       `json:"uses"` // left
	Of      int       `json:"of"`
	Expires time.Time `json:"expires"`
	Created time.Time `json:"created"`
	Mine    bool      `json:"mine"`
	Guests  []Guest   `json:"guests"` // who used it
	Late    []Guest   `json:"late"`   // who came when it was used up, the last 8
}

// Guest is somebody who came with an invitation.
type Guest struct {
	Address  anode.Address `json:"address"`
	Name     string        `json:"name"`
	At       time.Time     `json:"at"`
	Endpoint string        `json:"endpoint"`
}

// Invitations are all that were issued and are not over.
type Invitations struct {
	Invitations []Invitation `json:"invitations"`
}

// RevokeRequest ends an invitation. ID may be the beginning of one.
type RevokeRequest struct {
	ID string `json:"id"`
}

// JoinRequest uses a link.
type JoinRequest struct {
	Link string `json:"link"`
	As   string `json:"as"`  // what the issuer is to be called here; empty: the name in the link
	Ask  bool   `json:"ask"` // ask only, and let the issuer in when it lets us in
	Note string `json:"note"`
	Mine bool   `json:"mine"` // the issuer is another device of ours
}

// Joined says how a join goes. It is asked for again with the same request: a join goes on by itself.
type Joined struct {
	Address anode.Address `json:"address"`
	Name    string        `json:"name"` // the issuer's, here
	Own     string        `json:"own"`  // what the issuer calls us; empty: not told
	State   JoinState     `json:"state"`
	Why     string        `json:"why"` // in words, if it does not go on; of JoinTrying: if it cannot end as things are
	Try     string        `json:"try"`
}

// JoinState says how far a join is.
type JoinState string

// The states of a join.
const (
	JoinTrying JoinState = "trying" // the issuer does not answer yet; it goes on until the link expires
	JoinDone   JoinState = "joined"
	JoinAsked  JoinState = "asked" // the link let nobody in; the issuer was asked, and decides
	JoinDead   JoinState = "dead"  // the link let nobody in, and the issuer does not let itself be asked
)

// AskRequest asks a peer to let us in.
type AskRequest struct {
	Address   anode.Address `json:"address"`
	Name      string        `json:"name"` // what it is to be called here
	Note      string        `json:"note"`
	Endpoints []book.Place  `json:"endpoints"` // where it may be; names of machines are resolved now
}

// Asked says whether the question got there.
type Asked struct {
	Address anode.Address `json:"address"`
	Name    string        `json:"name"`
	State   State         `json:"state"`
	Told    bool          `json:"told"`    // it arrived; else it is repeated when the peer is there
	Refused bool          `json:"refused"` // it arrived, and the peer does not take requests, or declined an earlier one
}

// Request is somebody who asks to be let in, or was introduced by a peer; or who was asked and has not answered.
type Request struct {
	Address anode.Address `json:"address"`
	ID      anode.ID      `json:"id"`
	Name    string        `json:"name"` // that it says
	As      string        `json:"as"`   // that it gets here; of one that was asked alone
	Note    string        `json:"note"` // its own, or that of who introduced it; ours if it was asked
	Via     string        `json:"via"`  // name or ID of who introduced it; empty: nobody
	Since   time.Time     `json:"since"`
	State   State         `json:"state"`   // asking, introduced or asked
	Refused bool          `json:"refused"` // see people.Request
}

// Requests are those that wait for a decision, here or there, oldest first.
type Requests struct {
	Requests []Request `json:"requests"`
}

// AcceptRequest says yes to somebody who asked or was introduced.
type AcceptRequest struct {
	Address anode.Address `json:"address"`
	As      string        `json:"as"`
}

// Accepted is who was accepted: a friend now, or asked. That one is let in when it accepts too, and not before.
type Accepted struct {
	Address anode.Address `json:"address"`
	Name    string        `json:"name"`
	State   State         `json:"state"`
}

// DeclineRequest refuses somebody who asked or was introduced, or takes back a request that was not answered.
type DeclineRequest struct {
	Address anode.Address `json:"address"`
	Block   bool          `json:"block"`
}

// IntroduceRequest makes two of our friends known to each other.
type IntroduceRequest struct {
	A    anode.Address `json:"a"`
	B    anode.Address `json:"b"`
	Note string        `json:"note"`
}

// Introduced says who got the introduction.
type Introduced struct {
	Told []anode.Address `json:"told"`
	Wait []anode.Address `json:"wait"` // they are told when they are there
}

// MineRequest says whether a peer is another device of ours.
type MineRequest struct {
	Address anode.Address `json:"address"`
	Mine    bool          `json:"mine"`
}

// State says how far things are between a peer and us.
type State string

// The states.
const (
	StateStranger   State = "stranger"
	StateAsking     State = "asking"     // it asked us
	StateAsked      State = "asked"      // we said yes and asked it; it is let in when it says yes too
	StateIntroduced State = "introduced" // a friend made it known to us
	StateApproved   State = "approved"   // we let it in; it has not said that it lets us in
	StateFriend     State = "friend"     // both let each other in
	StateBlocked    State = "blocked"
)

// PeerState is the state of one peer.
type PeerState struct {
	Address anode.Address `json:"address"`
	State   State         `json:"state"`
	Name    string        `json:"name"`
	Mine    bool          `json:"mine"`
	Via     []string      `json:"via"`     // which of our devices or friends brought it
	Said    string        `json:"said"`    // what it calls itself
	Left    bool          `json:"left"`    // it told us that it removed us
	Refused bool          `json:"refused"` // see people.Request
}

// States are the states of all who are not strangers.
type States struct {
	States []PeerState `json:"states"`
}

func (r AskRequest) check() error     { return book.CheckAddress(r.Address) }
func (r AcceptRequest) check() error  { return book.CheckAddress(r.Address) }
func (r DeclineRequest) check() error { return book.CheckAddress(r.Address) }
func (r MineRequest) check() error    { return book.CheckAddress(r.Address) }
func (r IntroduceRequest) check() error {
	if err := book.CheckAddress(r.A); err != nil {
		return err
	}
	return book.CheckAddress(r.B)
}

// ServePeople has a server answer about people. It is called before Serve.
func (s *Server) ServePeople(p People) { s.people = p }

// servePeople adds the handlers.
func (s *Server) servePeople(mux *http.ServeMux) {
	if s.people == nil {
		return
	}
	mux.HandleFunc("POST /v1/invite", post(maxRequest, s.people.Invite))
	mux.HandleFunc("GET /v1/invites", get(s.people.Invitations))
	mux.HandleFunc("POST /v1/invites/revoke", post(maxRequest, s.people.Revoke))
	mux.HandleFunc("POST /v1/join", post(maxRequest, s.people.Join))
	mux.HandleFunc("POST /v1/people/ask", post(maxRequest, s.people.Ask))
	mux.HandleFunc("GET /v1/people/requests", get(s.people.Requests))
	mux.HandleFunc("POST /v1/people/accept", post(maxRequest, s.people.Accept))
	mux.HandleFunc("POST /v1/people/decline", post(maxRequest, s.people.Decline))
	mux.HandleFunc("POST /v1/people/introduce", post(maxRequest, s.people.Introduce))
	mux.HandleFunc("POST /v1/people/mine", post(maxRequest, func(ctx context.Context, r MineRequest) (Done, error) {
		return Done{}, s.people.SetMine(ctx, r)
	}))
	mux.HandleFunc("GET /v1/people", get(s.people.States))
}

// Invite issues an invitation.
func (c *Client) Invite(ctx context.Context, r InviteRequest) (Invited, error) {
	return call[Invited](ctx, c, http.MethodPost, "invite", r)
}

// Invitations lists the invitations.
func (c *Client) Invitations(ctx context.Context) (Invitations, error) {
	return call[Invitations](ctx, c, http.MethodGet, "invites", nil)
}

// Revoke ends an invitation.
func (c *Client) Revoke(ctx context.Context, r RevokeRequest) (Invitation, error) {
	return call[Invitation](ctx, c, http.MethodPost, "invites/revoke", r)
}

// Join uses a link, or says how that goes.
func (c *Client) Join(ctx context.Context, r JoinRequest) (Joined, error) {
	return call[Joined](ctx, c, http.MethodPost, "join", r)
}

// Ask asks a peer to let us in.
func (c *Client) Ask(ctx context.Context, r AskRequest) (Asked, error) {
	return call[Asked](ctx, c, http.MethodPost, "people/ask", r)
}

// Requests lists who waits for a decision, here or there.
func (c *Client) Requests(ctx context.Context) (Requests, error) {
	return call[Requests](ctx, c, http.MethodGet, "people/requests", nil)
}

// AcceptPeer says yes to somebody who asked or was introduced.
func (c *Client) AcceptPeer(ctx context.Context, r AcceptRequest) (Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, "people/accept", r)
}

// Decline refuses somebody who asked or was introduced.
func (c *Client) Decline(ctx context.Context, r DeclineRequest) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, "people/decline", r)
}

// Introduce makes two friends known to each other.
func (c *Client) Introduce(ctx context.Context, r IntroduceRequest) (Introduced, error) {
	return call[Introduced](ctx, c, http.MethodPost, "people/introduce", r)
}

// SetMine says whether a peer is another device of ours.
func (c *Client) SetMine(ctx context.Context, r MineRequest) error {
	_, err := call[Done](ctx, c, http.MethodPost, "people/mine", r)
	return err
}

// States returns the states of all who are not strangers.
func (c *Client) States(ctx context.Context) (States, error) {
	return call[States](ctx, c, http.MethodGet, "people", nil)
}
