package link

import (
	"errors"
	"net/netip"
	"syscall"
)

// ErrEndpoint is returned for a train whose endpoint the socket cannot speak to:
// none at all, or IPv6 on a system without.
var ErrEndpoint = errors.New("link: no such endpoint for this socket")

// Packets is how many packets t holds; an empty train is one empty packet.
func (t *Train) Packets() int {
	if t.Size <= 0 || len(t.Buf) <= t.Size {
		return 1
	}
	return (len(t.Buf) + t.Size - 1) / t.Size
}

// next is where the packet that begins at off ends.
func (t *Train) next(off int) int {
	if t.Size <= 0 || len(t.Buf)-off <= t.Size {
		return len(t.Buf)
	}
	return off + t.Size
}

// valid reports whether t can be sent by a socket that speaks IPv4 alone, or both.
func (t *Train) valid(four bool) bool {
	a := t.Endpoint.Addr.Addr()
	return a.IsValid() && t.Endpoint.Addr.Port() != 0 && (a.Is4() || a.Is4In6() || !four)
}

// scoped reports whether the address needs an interface.
func (e *Endpoint) scoped() bool {
	a := e.Addr.Addr()
	return a.IsLinkLocalUnicast() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// loosens reports whether a send that failed with errno may be tried again without
// Local and If: an address has gone, or a route has moved to another interface.
func (e *Endpoint) loosens(errno syscall.Errno) bool {
	if (!e.Local.IsValid() && e.If == 0) || e.scoped() {
		return false
	}
	switch refusalOf(errno) {
	case refusedUnreachable, refusedAddress:
		return true
	}
	return errno == errBadSource
}
