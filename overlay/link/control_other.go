//go:build !linux

package link

import (
	"net"
	"net/netip"
	"strconv"
)

// Without control data: Local is never known nor chosen, and If only for
// link-local addresses, as their zone.
const controlSize = 0

func parseControl([]byte, *Endpoint) (size int, ok bool) { return 0, true }

func appendPktinfo(b []byte, _ Endpoint) []byte { return b }

// zoned is e's address with its interface as the zone, if it needs one.
func zoned(e Endpoint) netip.AddrPort {
	a := e.Addr.Addr()
	if e.If == 0 || !a.Is6() || !e.scoped() {
		return e.Addr
	}
	return netip.AddrPortFrom(a.WithZone(strconv.Itoa(e.If)), e.Addr.Port())
}

// zones remembers the index of the interface that was named last.
type zones struct {
	name string
	at   int
}

func (z *zones) index(name string) int {
	if name == z.name { // none at first, which is index 0
		return z.at
	}
	if name == "" {
		return 0
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return 0
		}
		n = i.Index
	}
	z.name, z.at = name, n
	return n
}
