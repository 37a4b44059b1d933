package control

import (
	"context"
	"log/slog"
	"net"
	"slices"

	"anodenet/overlay/book"
)

// LogChange logs what somebody changed about a peer, a line for each kind of change.
func LogChange(log *slog.Logger, c book.Change, by string) {
	peer := c.After.Address.ID().String()
	if name := c.After.Name; name != "" {
		peer = name + " (" + peer + ")"
	}
	say := func(what string, more ...any) {
		log.Info(what, append([]any{"peer", peer, "address", c.After.Address, "by", by}, more...)...)
	}
	if c.New() {
		say("peer added")
	}
	if c.Before.Added && !c.After.Added {
		say("peer removed", "name", c.Before.Name)
		return
	}
	if c.Renamed() {
		say("peer renamed", "was", c.Before.Name)
	}
	if was, now := c.Before.Places(), c.After.Places(); !slices.Equal(was, now) {
		say("peer has other endpoints", "was", was, "now", now)
	}
	if was, now := c.Before.LAN, c.After.LAN; was != now {
		if now {
			say("peer is in the virtual LAN")
		} else {
			say("peer left the virtual LAN")
		}
	}
	if !c.Before.Blocked && c.After.Blocked {
		say("peer blocked; its sessions end")
	}
	if c.Before.Blocked && !c.After.Blocked {
		say("peer unblocked")
	}
}

// callerKey finds in a context who sent the request.
type callerKey struct{}

// withCaller notes who is at the other end of a connection.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	l, ok := c.(*counted)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, l.owner)
}

// act logs a change that the sender of the request made.
func (s *Server) act(ctx context.Context, c book.Change, err error) {
	if err == nil {
		LogChange(s.log, c, caller(ctx))
	}
}

// caller returns who sent a request.
func caller(ctx context.Context) string {
	who, ok := ctx.Value(callerKey{}).(owner)
	if !ok {
		who.uid = unknownUser
	}
	return who.String()
}
