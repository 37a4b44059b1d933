package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
	"anodenet/overlay/book"
)

// Directory finds the peers that were added. Entries returns all entries of the book. Suffix
// returns the domain of host names; nil: names.Suffix.
type Directory struct {
	Entries func() []book.Entry
	Suffix  func() string
}

// Find returns the added peer that a host of a request means: its name, address, ULA or short
// ID, in whole, or a host name as package names reads it, such as git.north.anode.internal.
// Letters may be large. The error wraps ErrNotPeer.
//
// Beginnings do not count, other than on the command line: whoever adds a peer must not
// become the destination of another one's connections.
func (d Directory) Find(host string) (anode.Address, error) {
	fits := d.fits(strings.Trim(host, "[]"))
	for _, e := range d.Entries() {
		if e.Standing() == book.Added && fits(e) {
			return e.Address, nil
		}
	}
	return anode.Address{}, fmt.Errorf("%q: %w", shorten(host), ErrNotPeer)
}

// fits returns what reports whether a host means a peer.
func (d Directory) fits(host string) func(book.Entry) bool {
	suffix := names.Suffix
	if d.Suffix != nil {
		suffix = d.Suffix()
	}
	if labels, under := names.Under(host, suffix); under {
		h, ok := names.ReadHost(labels)
		return func(e book.Entry) bool { return ok && means(h, e) }
	}
	host = names.Lower(strings.TrimSuffix(host, "."))
	ip, _ := netip.ParseAddr(host)
	return func(e book.Entry) bool {
		return e.Name != "" && e.Name == host || e.Address.String() == host || e.Address.ID().String() == host ||
			ip.IsValid() && e.Address.ULA().Addr() == ip
	}
}

// means reports whether a host name is that of a peer.
func means(h names.Host, e book.Entry) bool {
	switch h.Kind {
	case names.HostNamed:
		return e.Name == h.Name
	case names.HostAddress:
		return e.Address == h.Address
	case names.HostID:
		return e.Address.ID() == h.ID
	}
	return false
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
