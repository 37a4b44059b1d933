// Package control is how the command line talks to the daemon: HTTP with JSON over
// a unix socket.
//
//	GET  /v1/status                                        -> overlay.Status
//	POST /v1/resolve       {peer}                          -> Resolved
//	POST /v1/ping          {address, size, timeout_ms}     -> overlay.PingReply
//	GET  /v1/peers                                         -> Book
//	POST /v1/peers/add     {address, name, endpoints}      -> Added
//	POST /v1/peers/remove  {address}                       -> Done
//	POST /v1/peers/rename  {address, name}                 -> Done
//	POST /v1/peers/block   {address, blocked}              -> Done
//	POST /v1/peers/lan     {address, on}                   -> Done
//	GET  /v1/lan                                           -> LANView
//	POST /v1/lan/games     {on}                            -> LANView
//	POST /v1/peers/endpoints {address, add, remove}        -> Endpoints
//	POST /v1/invite        InviteRequest                   -> Invited
//	GET  /v1/invites                                       -> Invitations
//	POST /v1/invites/revoke {id}                           -> Invitation
//	POST /v1/join          JoinRequest                     -> Joined
//	GET  /v1/people                                        -> States
//	GET  /v1/people/requests                               -> Requests
//	POST /v1/people/ask, accept, decline, introduce, mine  (people.go)
//	GET  /v1/names                                         -> NamesView
//	GET  /v1/zones                                         -> ZoneFiles
//	GET  /v1/info2                                         -> Info2Status
//	GET  /v1/info2/hosts                                   -> Info2Hosts
//	POST /v1/info2/say     {network, text, anyway}         -> Said
//	POST /v1/info2/connect {addr}                          -> Connecting
//	POST /v1/info2/log     {last, follow}                  -> a line of JSON per Entry
//	GET  /v1/local                                         -> Doors
//	POST /v1/local/keep    {kind, spec, anywhere}          -> proxy.Status, and the door stays
//	                                                          until the client leaves
//	POST /v1/connect?address=ADDRESS&port=N  what is sent  -> what comes, in frames (local.go)
//	POST /v1/accept?port=N  what is sent                   -> who it is, and what comes, in frames
//	POST /v1/stop          {}                              -> Done, and the daemon ends
//
// A request that names a peer must have a whole address. An error is any status except
// 200, with {"code", "message", "try"} as its body. Who may connect is decided by the
// socket's mode: 0660 and the group anode if the system has one (on Linux, in /etc/group), else 0600.
package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/names"
	"anodenet/cmd/internal/proxy"
	"anodenet/info2"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/people"
)

// Errors of both ends.
var (
	ErrNoDaemon = errors.New("no daemon is running")
	ErrInUse    = errors.New("another daemon is running")
	ErrSilent   = errors.New("the daemon does not answer")
)

// Node is what the server needs of the engine; *overlay.Node has it.
type Node interface {
	Status(ctx context.Context) (overlay.Status, error)
	AddPeer(ctx context.Context, p overlay.Peer) (book.Change, error)
	RemovePeer(ctx context.Context, a anode.Address) (book.Change, error)
	RenamePeer(ctx context.Context, a anode.Address, name string) (book.Change, error)
	BlockPeer(ctx context.Context, a anode.Address, blocked bool) (book.Change, error)
	SetLAN(ctx context.Context, a anode.Address, on bool) (book.Change, error)
	AddEndpoints(ctx context.Context, a anode.Address, places []book.Place) (book.Change, error)
	RemoveEndpoint(ctx context.Context, a anode.Address, p book.Place) (book.Change, error)
	Entries() []overlay.Peer
	Learned(a anode.Address) []wire.Endpoint
	Ping(ctx context.Context, a anode.Address, size int) (overlay.PingReply, error)
	ResolveULA(ctx context.Context, u anode.ULA) (anode.Address, error)
	ResolveID(ctx context.Context, id anode.ID) (anode.Address, error)
}

// ResolveRequest asks which peer a text means (see package names).
type ResolveRequest struct {
	Peer string `json:"peer"`
}

// Resolved is a peer in all its forms.
type Resolved struct {
	Address anode.Address `json:"address"`
	ID      anode.ID      `json:"id"`
	ULA     anode.ULA     `json:"ula"`
	Name    string        `json:"name"`
	Known   bool          `json:"known"`          // the node has it among its peers, or it is this machine
	Self    bool          `json:"self,omitempty"` // it is this machine, whose name is names.Self
}

// PingRequest asks for one ping.
type PingRequest struct {
	Address   anode.Address `json:"address"`
	Size      int           `json:"size"`       // bytes of payload
	TimeoutMS int           `json:"timeout_ms"` // how long to wait for the reply
}

// AddRequest adds a peer, or changes the name or the endpoints of one that was added.
type AddRequest struct {
	Address   anode.Address `json:"address"`
	Name      string        `json:"name"`
	Endpoints []book.Place  `json:"endpoints"`
	LAN       bool          `json:"lan,omitempty"` // into the virtual LAN too; false: as it was
}

// Entry returns what a request asks to be added.
func (r AddRequest) Entry() book.Entry {
	endpoints, hosts := book.Split(r.Endpoints)
	return book.Entry{Address: r.Address, Name: r.Name, Endpoints: endpoints, Hosts: hosts, LAN: r.LAN}
}

// Added reports what an AddRequest did.
type Added struct {
	Did  Did    `json:"did"`
	Name string `json:"name"`          // that the peer has now
	Was  string `json:"was,omitempty"` // the name that it had before
}

// Did names what a change did.
type Did string

// What an AddRequest can do.
const (
	DidAdd     Did = "added"
	DidRename  Did = "renamed" // and perhaps gave it other endpoints
	DidChange  Did = "changed" // gave it other endpoints, or put it into the virtual LAN
	DidNothing Did = "nothing" // it was added already, just like that
)

// AddedBy returns the answer for a change that Book.Add made.
func AddedBy(c book.Change) Added {
	a := Added{Did: DidChange, Name: c.After.Name}
	switch {
	case c.New():
		a.Did = DidAdd
	case c.Renamed():
		a.Did, a.Was = DidRename, c.Before.Name
	case c.Nothing():
		a.Did = DidNothing
	}
	return a
}

// RemoveRequest forgets a peer.
type RemoveRequest struct {
	Address anode.Address `json:"address"`
}

// RenameRequest changes the name of a peer; an empty name removes it.
type RenameRequest struct {
	Address anode.Address `json:"address"`
	Name    string        `json:"name"`
}

// BlockRequest blocks a peer's key, or ends the block.
type BlockRequest struct {
	Address anode.Address `json:"address"`
	Blocked bool          `json:"blocked"`
}

// Book is what people decided about peers, and where those were found.
type Book struct {
	Peers []BookEntry `json:"peers"`
}

// BookEntry is one peer of a Book.
type BookEntry struct {
	Address anode.Address `json:"address"`
	Name    string        `json:"name"`
	Added   bool          `json:"added"`
	Blocked bool          `json:"blocked"`
	Fixed   bool          `json:"fixed"` // the configuration adds it
	LAN     bool          `json:"lan"`   // in our virtual LAN
	Endpoints
}

// Endpoints are where a peer may be found.
type Endpoints struct {
	Given   []wire.Endpoint `json:"endpoints"` // by people
	Learned []wire.Endpoint `json:"learned"`   // by the node, newest first
	Hosts   []Host          `json:"hosts"`     // by people too, by the names of machines
}

// EndpointsRequest changes the endpoints that people gave to an added peer. With nothing
// to add or to remove it only asks for them.
type EndpointsRequest struct {
	Address anode.Address `json:"address"`
	Add     []book.Place  `json:"add"`
	Remove  []book.Place  `json:"remove"`
}

// EndpointsOf returns the endpoints of an entry, and those that were learned, as they are
// sent: lists that may be empty, and not null. look says what is known of a host name; it
// is nil where nobody resolves them.
func EndpointsOf(e book.Entry, learned []wire.Endpoint, look HostLook) Endpoints {
	list := Endpoints{append([]wire.Endpoint{}, e.Endpoints...), append([]wire.Endpoint{}, learned...), []Host{}}
	for _, h := range e.Hosts {
		list.Hosts = append(list.Hosts, look.of(h))
	}
	return list
}

// EntryOf returns an entry of a book as it is sent.
func EntryOf(e book.Entry, learned []wire.Endpoint, look HostLook) BookEntry {
	return BookEntry{e.Address, e.Name, e.Added, e.Blocked, e.Fixed, e.LAN, EndpointsOf(e, learned, look)}
}

// Addresses are checked where they come in: JSON without an address decodes to the zero
// address, which nobody has.

func (r PingRequest) check() error   { return book.CheckAddress(r.Address) }
func (r AddRequest) check() error    { return book.CheckAddress(r.Address) }
func (r RemoveRequest) check() error { return book.CheckAddress(r.Address) }
func (r RenameRequest) check() error { return book.CheckAddress(r.Address) }
func (r BlockRequest) check() error  { return book.CheckAddress(r.Address) }

func (r EndpointsRequest) check() error { return book.CheckAddress(r.Address) }

// StopRequest ends the daemon.
type StopRequest struct{}

// Done is the answer to requests without another answer.
type Done struct{}

// Code is the kind of an Error.
type Code string

// The codes of errors.
const (
	CodeInvalid     Code = "invalid"      // the request makes no sense
	CodeUnknownPeer Code = "unknown_peer" // or its text may mean several
	CodeUnreachable Code = "unreachable"  // no answer from the peer
	CodeRefused     Code = "refused"      // one's own address, a peer that is blocked
	CodeTaken       Code = "name_taken"   // another peer has the name
	CodeSecret      Code = "secret"       // a text that looks like one
	CodeInternal    Code = "internal"
)

// Error is an error in the form in which it crosses the socket.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Try     string `json:"try,omitempty"` // what to do about it

	// Reason is why a peer is not reached, if the code is unreachable; empty: not known.
	Reason overlay.Reason `json:"reason,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// AsError returns an error with its code, and with advice.
func AsError(err error) *Error {
	var already *Error
	if errors.As(err, &already) {
		return already
	}
	message, try, advised := strings.Cut(words(err), "; try: ") // some errors hold their advice
	code, usual := codeOf(err)
	if !advised {
		try = usual
	}
	e := &Error{Code: code, Message: message, Try: try}
	var why *overlay.UnreachableError
	if errors.As(err, &why) {
		e.Reason = why.Reason
	}
	return e
}

// codeOf returns the code of an error, and the advice that errors of its kind have.
func codeOf(err error) (code Code, try string) {
	var ambiguous *names.AmbiguousError
	switch {
	case errors.As(err, &ambiguous):
		return CodeUnknownPeer, "more of its characters, or its name"
	case errors.Is(err, names.ErrMalformed), errors.Is(err, book.ErrAddress):
		return CodeInvalid, otherID
	case errors.Is(err, names.ErrNotFound), errors.Is(err, overlay.ErrUnknownPeer), errors.Is(err, book.ErrUnknownPeer):
		return CodeUnknownPeer, "anode peers list"
	case errors.Is(err, proxy.ErrNotPeer):
		return CodeUnknownPeer, "anode peers list"
	case errors.Is(err, proxy.ErrAnywhere):
		return CodeInvalid, "" // the error says what to do
	case errors.Is(err, overlay.ErrBlocked):
		return CodeUnreachable, "anode peers unblock PEER"
	case errors.Is(err, overlay.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return CodeUnreachable, ""
	case errors.Is(err, book.ErrBlocked):
		return CodeRefused, "anode peers unblock PEER"
	case errors.Is(err, book.ErrFixed):
		return CodeRefused, "[[peers]] in the configuration, then reload the daemon"
	case errors.Is(err, overlay.ErrSelf), errors.Is(err, book.ErrSelf):
		return CodeRefused, otherID
	case errors.Is(err, book.ErrTaken):
		return CodeTaken, "another name, or anode peers rename"
	case errors.Is(err, book.ErrName):
		return CodeInvalid, "a name such as north or laptop-2"
	case errors.Is(err, people.ErrNoRequest):
		return CodeUnknownPeer, "anode peers requests"
	case errors.Is(err, people.ErrNoInvitation):
		return CodeUnknownPeer, "anode invite list"
	case errors.Is(err, people.ErrNotAdded):
		return CodeUnknownPeer, "anode peers list"
	case errors.Is(err, people.ErrOwnLink):
		return CodeRefused, "anode join on the other machine"
	case errors.Is(err, people.ErrTooMany), errors.Is(err, people.ErrBounds):
		return CodeRefused, "" // the error says what the bound is
	case errors.Is(err, invite.ErrNotLink):
		return CodeInvalid, "the whole text that \"anode invite\" shows"
	case errors.Is(err, invite.ErrCut):
		return CodeInvalid, "copy the link again, from anode: to its end"
	case errors.Is(err, invite.ErrExpired):
		return CodeRefused, "another link: \"anode invite\" on the other machine"
	case errors.Is(err, book.ErrNoEndpoint):
		return CodeInvalid, "anode peers endpoints PEER"
	case errors.Is(err, book.ErrEndpoint):
		return CodeInvalid, "an endpoint such as udp:192.0.2.1:8737"
	case errors.Is(err, syscall.ENOSPC):
		return CodeInternal, "free some space on the disk, and the same command again"
	}
	return textCodeOf(err)
}

const otherID = "\"anode id\" on the other machine shows its address"

// textCodeOf is codeOf for the errors of package info2.
func textCodeOf(err error) (code Code, try string) {
	switch {
	case errors.Is(err, info2.ErrSecret):
		return CodeSecret, "repeat with --yes if everybody may read it"
	case errors.Is(err, info2.ErrNobody):
		return CodeUnreachable, "anode info2 status"
	case errors.Is(err, info2.ErrEmpty), errors.Is(err, info2.ErrTooLong):
		return CodeInvalid, fmt.Sprintf("a text of 1 to %d bytes", info2.MaxText)
	case errors.Is(err, info2.ErrStopped):
		return CodeRefused, "anode info2 status"
	}
	return CodeInternal, ""
}

// words returns an error as people read it, without the name of a package.
func words(err error) string {
	switch {
	case errors.Is(err, info2.ErrStopped):
		return "Info2 is stopping, or has failed"
	case errors.Is(err, overlay.ErrClosed):
		return "the daemon is stopping"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return strings.TrimPrefix(err.Error(), "info2: ")
}

// Known lists the peers of a status for package names.
func Known(peers []overlay.PeerStatus) []names.Peer {
	list := make([]names.Peer, len(peers))
	for i, p := range peers {
		list[i] = names.Peer{Address: p.Address, Name: p.Name, Decided: p.Allowed || p.Blocked}
	}
	return list
}
