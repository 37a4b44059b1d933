package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// Limits of a request.
const (
	maxBody     = 64 << 10
	maxPing     = 60 * time.Second
	maxRequest  = 10 * time.Second
	maxShutdown = 1 * time.Second
)

// Server answers the command line.
type Server struct {
	node   Node
	chat   Info2
	zones  Zones  // nil: none
	local  Local  // nil: none
	lan    LAN    // nil: none
	people People // nil: none
	names  Names  // nil: none
	stop   func()
	log    *slog.Logger
	look   HostLook // nil: nobody resolves host names
}

// NewServer makes a server for a node and its text network. stop ends the daemon;
// it must not wait for the server.
func NewServer(node Node, chat Info2, stop func(), log *slog.Logger) *Server {
	return &Server{node: node, chat: chat, stop: stop, log: log}
}

// Serve answers on l until ctx ends. It then gives running requests a moment to finish,
// and closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s.Handler(ctx),
		ReadHeaderTimeout: maxRequest,
		ReadTimeout:       maxRequest,
		WriteTimeout:      maxPing + maxRequest,
		IdleTimeout:       maxPing,
		MaxHeaderBytes:    maxBody,
		ConnContext:       withCaller,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("control socket: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxShutdown)
	defer cancel()
	if err := h.Shutdown(last); err != nil {
		h.Close()
	}
	<-served
	return nil
}

// Handler returns what Serve answers requests with. When ending ends, those that go on end too.
func (s *Server) Handler(ending context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", get(s.node.Status))
	mux.HandleFunc("POST /v1/resolve", post(maxRequest, s.resolve))
	mux.HandleFunc("POST /v1/ping", post(maxPing, s.ping))
	mux.HandleFunc("POST /v1/peers/add", post(maxRequest, s.add))
	mux.HandleFunc("POST /v1/peers/remove", post(maxRequest, s.remove))
	mux.HandleFunc("POST /v1/peers/rename", post(maxRequest, s.rename))
	mux.HandleFunc("POST /v1/peers/block", post(maxRequest, s.block))
	mux.HandleFunc("GET /v1/peers", get(s.book))
	mux.HandleFunc("POST /v1/peers/endpoints", post(maxRequest, s.endpoints))
	mux.HandleFunc("POST /v1/peers/lan", post(maxRequest, s.setLAN))
	mux.HandleFunc("GET /v1/lan", get(s.lanView))
	mux.HandleFunc("POST /v1/lan/games", post(maxRequest, s.games))
	mux.HandleFunc("GET /v1/names", get(s.namesView))
	mux.HandleFunc("GET /v1/zones", get(s.zoneFiles))
	mux.HandleFunc("GET /v1/info2", get(s.chat.Status))
	mux.HandleFunc("GET /v1/info2/hosts", get(s.chat.Hosts))
	mux.HandleFunc("POST /v1/info2/say", post(maxSay, s.say))
	mux.HandleFunc("POST /v1/info2/connect", post(maxRequest, s.connect))
	mux.HandleFunc("POST /v1/info2/log", s.messages)
	mux.HandleFunc("GET /v1/local", get(s.doors))
	mux.HandleFunc("POST /v1/local/keep", func(w http.ResponseWriter, r *http.Request) { s.keep(ending, w, r) })
	mux.HandleFunc("POST /v1/datagrams", func(w http.ResponseWriter, r *http.Request) { s.datagrams(ending, w, r) })
	mux.HandleFunc("POST /v1/connect", func(w http.ResponseWriter, r *http.Request) { s.connection(ending, w, r) })
	mux.HandleFunc("POST /v1/accept", func(w http.ResponseWriter, r *http.Request) { s.accept(ending, w, r) })
	s.servePeople(mux)
	mux.HandleFunc("POST /v1/stop", post(maxRequest, s.end))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, &Error{Code: CodeInvalid, Message: r.Method + " " + r.URL.Path + ": unknown to this daemon", Try: "anode version, and restart the daemon if it is older"})
	})
	return mux
}

// get makes a handler of a function without a request.
func get[Answer any](f func(context.Context) (Answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), maxRequest)
		defer cancel()
		answer, err := f(ctx)
		reply(w, answer, err)
	}
}

// post makes a handler of a function from one request to its answer.
func post[Request, Answer any](limit time.Duration, f func(context.Context, Request) (Answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		var request Request
		if err := decode(w, r, &request); err != nil {
			reply(w, nil, err)
			return
		}
		answer, err := f(ctx, request)
		reply(w, answer, err)
	}
}

// decode reads a request: one JSON value without unknown fields, which must pass its
// check.
func decode(w http.ResponseWriter, r *http.Request, request any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(request)
	if err == nil {
		if _, err = d.Token(); err == nil {
			err = errors.New("more than one value")
		} else if errors.Is(err, io.EOF) {
			if c, ok := request.(interface{ check() error }); ok {
				return c.check()
			}
			return nil
		}
	}
	return &Error{Code: CodeInvalid, Message: "the request: " + plainJSON(err)}
}

// plainJSON returns an error of reading JSON without the names of types.
func plainJSON(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return cmp.Or(e.Field, "the body") + ": a JSON value of another kind is wanted, not: " + e.Value
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// statusOf returns the HTTP status of a code, for people who use curl.
func statusOf(c Code) int {
	switch c {
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeUnknownPeer:
		return http.StatusNotFound
	case CodeUnreachable:
		return http.StatusGatewayTimeout
	case CodeRefused, CodeTaken, CodeSecret:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := AsError(err)
		w.WriteHeader(statusOf(e.Code))
		answer = e
	}
	json.NewEncoder(w).Encode(answer) // an error here means that the client has gone
}

func (s *Server) resolve(ctx context.Context, r ResolveRequest) (Resolved, error) {
	status, err := s.node.Status(ctx)
	if err != nil {
		return Resolved{}, err
	}
	if a, err := netip.ParseAddr(strings.TrimSpace(r.Peer)); err == nil && a.Is4() {
		return resolveAlias(status, a.String())
	}
	known, err := s.candidates(ctx, status)
	if err != nil {
		return Resolved{}, err
	}
	t, err := names.FindHost(known, s.suffix(), r.Peer)
	if err != nil {
		return Resolved{}, err
	}
	a := t.Address
	switch {
	case t.Self, t.ULA == status.ULA, t.ID == status.ID:
		a = status.Address
	case !t.ULA.IsZero():
		a, err = s.node.ResolveULA(ctx, t.ULA)
	case !t.ID.IsZero():
		a, err = s.node.ResolveID(ctx, t.ID)
	}
	switch {
	case err != nil:
		return Resolved{}, fmt.Errorf("%s: %w", r.Peer, err)
	case a == status.Address:
		return ResolveSelf(a), nil
	}
	return Resolve(names.Peer{Address: a, Name: t.Peer.Name}, t.Known), nil
}

// candidates lists who may be meant by a text: the peers, those that were heard, and those that were asked, which have names
// here too.
func (s *Server) candidates(ctx context.Context, status overlay.Status) ([]names.Peer, error) {
	list := Known(status.Peers)
	if s.people == nil {
		return list, nil
	}
	requests, err := s.people.Requests(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range requests.Requests {
		if r.State != StateAsked {
			continue
		}
		if slices.ContainsFunc(list, func(p names.Peer) bool { return p.Decided && p.Name == r.As }) {
			r.As = "" // a peer got the name since
		}
		list = slices.DeleteFunc(list, func(p names.Peer) bool { return p.Address == r.Address && !p.Decided })
		list = append(list, names.Peer{Address: r.Address, Name: r.As, Decided: true})
	}
	return list, nil
}

// resolveAlias returns the peer that has an IPv4 address.
func resolveAlias(s overlay.Status, a string) (Resolved, error) {
	if a == s.LAN.Alias {
		return ResolveSelf(s.Address), nil
	}
	for _, p := range s.Peers {
		if p.Alias == a {
			return Resolve(names.Peer{Address: p.Address, Name: p.Name}, true), nil
		}
	}
	return Resolved{}, fmt.Errorf("%w %q", names.ErrNotFound, a)
}

// Resolve returns a peer in all its forms.
func Resolve(p names.Peer, known bool) Resolved {
	return Resolved{Address: p.Address, ID: p.Address.ID(), ULA: p.Address.ULA(), Name: p.Name, Known: known}
}

// ResolveSelf returns this machine in all its forms. Its name is the one that it has in DNS.
func ResolveSelf(a anode.Address) Resolved {
	r := Resolve(names.Peer{Address: a, Name: names.Self}, true)
	r.Self = true
	return r
}

func (s *Server) ping(ctx context.Context, r PingRequest) (overlay.PingReply, error) {
	timeout := time.Duration(r.TimeoutMS) * time.Millisecond
	if r.Size < 0 || r.Size > overlay.MaxPing {
		return overlay.PingReply{}, &Error{Code: CodeInvalid, Message: fmt.Sprintf("size: want 0 to %d bytes", overlay.MaxPing)}
	}
	if timeout <= 0 || timeout > maxPing {
		return overlay.PingReply{}, &Error{Code: CodeInvalid, Message: fmt.Sprintf("timeout_ms: want at most %v", maxPing)}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.node.Ping(ctx, r.Address, r.Size)
}

func (s *Server) add(ctx context.Context, r AddRequest) (Added, error) {
	change, err := s.node.AddPeer(ctx, r.Entry())
	s.act(ctx, change, err)
	return AddedBy(change), err
}

func (s *Server) remove(ctx context.Context, r RemoveRequest) (Done, error) {
	change, err := s.node.RemovePeer(ctx, r.Address)
	s.act(ctx, change, err)
	if errors.Is(err, book.ErrUnknownPeer) && s.people != nil { // it may be one that was only asked
		if was, failed := s.people.Withdraw(ctx, r.Address); was || failed != nil {
			err = failed
		}
	}
	return Done{}, err
}

func (s *Server) rename(ctx context.Context, r RenameRequest) (Done, error) {
	change, err := s.node.RenamePeer(ctx, r.Address, r.Name)
	s.act(ctx, change, err)
	return Done{}, err
}

func (s *Server) block(ctx context.Context, r BlockRequest) (Done, error) {
	change, err := s.node.BlockPeer(ctx, r.Address, r.Blocked)
	s.act(ctx, change, err)
	return Done{}, err
}

func (s *Server) book(context.Context) (Book, error) {
	b := Book{Peers: []BookEntry{}}
	for _, e := range s.node.Entries() {
		b.Peers = append(b.Peers, EntryOf(e, s.node.Learned(e.Address), s.look))
	}
	return b, nil
}

func (s *Server) endpoints(ctx context.Context, r EndpointsRequest) (Endpoints, error) {
	for _, e := range r.Remove {
		c, err := s.node.RemoveEndpoint(ctx, r.Address, e)
		if s.act(ctx, c, err); err != nil {
			return Endpoints{}, err
		}
	}
	if len(r.Add) > 0 {
		c, err := s.node.AddEndpoints(ctx, r.Address, r.Add)
		if s.act(ctx, c, err); err != nil {
			return Endpoints{}, err
		}
	}
	for _, e := range s.node.Entries() {
		if e.Address == r.Address {
			return EndpointsOf(e, s.node.Learned(r.Address), s.look), nil
		}
	}
	return Endpoints{}, book.ErrUnknownPeer
}

func (s *Server) end(ctx context.Context, _ StopRequest) (Done, error) {
	s.log.Info("asked to stop", "by", caller(ctx))
	s.stop() // Serve lets this answer out before it ends
	return Done{}, nil
}
