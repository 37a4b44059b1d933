package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// Suffix may follow the name of a peer, as in north.anode.internal. The domain internal is
// reserved for private use.
const Suffix = "anode.internal"

// Directory finds the peers that were added. Entries returns all entries of the book.
type Directory struct {
	Entries func() []book.Entry
}

// Find returns the added peer that a host of a request means: its name, address, ULA or short
// ID, in whole. The suffix may follow a name, any labels may stand before a name with it, and
// .id behind a short ID. Letters may be large. The error wraps ErrNotPeer.
//
// Beginnings do not count, other than on the command line: whoever adds a peer must not
// become the destination of another one's connections.
func (d Directory) Find(host string) (anode.Address, error) {
	host = strings.Trim(host, "[]")
	wanted, under := Bare(host)
	ip, _ := netip.ParseAddr(wanted)
	for _, e := range d.Entries() {
		if e.Standing() != book.Added {
			continue
		}
		last := wanted[strings.LastIndexByte(wanted, '.')+1:]
		switch {
		case e.Name != "" && (e.Name == wanted || under && e.Name == last),
			e.Address.String() == strings.ReplaceAll(wanted, ".", ""),
			e.Address.ID().String() == strings.TrimSuffix(wanted, ".id"),
			ip.IsValid() && e.Address.ULA().Addr() == ip:
			return e.Address, nil
		}
	}
	return anode.Address{}, fmt.Errorf("%q: %w", shorten(host), ErrNotPeer)
}

// Bare returns a host name in small letters without the suffix, and whether it had it.
func Bare(host string) (name string, under bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return strings.CutSuffix(host, "."+Suffix)
}

// Of returns the added peer that has the ULA of a remote address.
func (d Directory) Of(remote net.Addr) (book.Entry, bool) {
	at, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return book.Entry{}, false
	}
	for _, e := range d.Entries() {
		if e.Standing() == book.Added && e.Address.ULA().Addr() == at.Addr().WithZone("") {
			return e, true
		}
	}
	return book.Entry{}, false
}

// mostShown is how much of a host name an error repeats.
const mostShown = 80

func shorten(host string) string {
	if len(host) > mostShown {
		return host[:mostShown] + "..."
	}
	return host
}
