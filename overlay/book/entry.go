package book

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Errors of the verbs. Those that are returned wrap one of them and say more.
var (
	ErrUnknownPeer = errors.New("no such peer")
	ErrSelf        = errors.New("that is this node's own address")
	ErrAddress     = errors.New("no usable address")
	ErrName        = errors.New("not a name for a peer")
	ErrTaken       = errors.New("another peer has that name")
	ErrEndpoint    = errors.New("not a usable endpoint")
	ErrNoEndpoint  = errors.New("the peer does not have that endpoint")
	ErrBlocked     = errors.New("the peer is blocked")
	ErrFixed       = errors.New("the peer is in the configuration")
	ErrRecord      = errors.New("a record cannot be read") // in a Report
)

// The bounds of an entry.
const (
	MaxName      = 63 // bytes of a name
	MaxEndpoints = 16 // endpoints that people gave
	MaxLearned   = 8  // endpoints that the engine learned
	MaxVia       = 8  // devices that brought a peer
)

// Entry is what people decided about an address.
type Entry struct {
	Address   anode.Address
	Name      string          // empty: none
	Endpoints []wire.Endpoint // given by people, tried always; not to be changed by who reads it
	Hosts     []Host          // endpoints given by the names of machines; not to be changed either
	Since     time.Time       // when it was added; zero: not known
	Added     bool            // whether or not it is blocked
	Blocked   bool            // the key is, under this address or another
	Fixed     bool            // the configuration adds it
	LAN       bool            // it is in our virtual LAN; only a peer that was added is
	Mine      bool            // it is another device of the same person
	Via       []anode.Address // the devices of ours that brought it; empty: people here added it. Not to be changed by who reads it
}

// Standing returns the standing that the entry gives its address.
func (e Entry) Standing() Standing {
	switch {
	case e.Blocked:
		return Blocked
	case e.Added:
		return Added
	}
	return Stranger
}

// equal reports whether two entries say the same.
func (e Entry) equal(f Entry) bool {
	return e.Address == f.Address && e.Name == f.Name && slices.Equal(e.Endpoints, f.Endpoints) &&
		slices.Equal(e.Hosts, f.Hosts) && e.Since.Equal(f.Since) && e.Added == f.Added && e.Blocked == f.Blocked && e.Fixed == f.Fixed && e.LAN == f.LAN &&
		e.Mine == f.Mine && slices.Equal(e.Via, f.Via)
}

// Change is what a verb did to the entry of the address that it was given. If the
// block changed, the standing of all other addresses of the key changed with it.
//
// Two Changes may reach a third goroutine in another order than they were made, so
// that goroutine should ask the book what holds now.
type Change struct{ Before, After Entry }

// Nothing reports whether the verb found everything as it was to be.
func (c Change) Nothing() bool { return c.Before.equal(c.After) }

// New reports whether the address was not added before and is now.
func (c Change) New() bool { return !c.Before.Added && c.After.Added }

// Renamed reports whether a peer that was added before has another name.
func (c Change) Renamed() bool { return c.Before.Added && c.Before.Name != c.After.Name }

// CheckAddress refuses the zero address and others that no key has.
func CheckAddress(a anode.Address) error {
	if a.IsZero() {
		return fmt.Errorf("%w: the address is missing", ErrAddress)
	}
	if _, err := anode.AddressFromBytes(a[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return nil
}

// CheckEndpoint reports why an endpoint cannot be used.
func CheckEndpoint(e wire.Endpoint) error { return checkEndpoint(e) }

// checkEndpoint reports why an endpoint cannot be used.
func checkEndpoint(e wire.Endpoint) error {
	if fault := fault(e); fault != "" {
		return fmt.Errorf("%w: %s: %s", ErrEndpoint, shown(e.String()), fault)
	}
	return nil
}

// fault says in plain words why an endpoint cannot be used; "" if it can.
func fault(e wire.Endpoint) string {
	ip := e.Addr.Addr()
	switch e.Kind {
	case wire.UDP4, wire.UDP6, wire.TCP4, wire.TCP6:
	case wire.HTTP:
		return urlFault(e.URI)
	case wire.Ethernet:
		return noEthernet
	default:
		return onlyKinds
	}
	if e.Addr.Port() == 0 {
		return "the port must not be 0"
	}
	return ipFault(ip)
}

// ipFault says in plain words why an endpoint cannot have an IP address; "" if it can. A loopback
// address can be the end of a tunnel.
func ipFault(ip netip.Addr) string {
	switch {
	case noMachine(ip):
		return "no single machine has that IP address"
	case ip.Is6() && ip.IsLinkLocalUnicast():
		return "a link-local address says nothing without its interface: give another address of the machine; machines on one link find each other without an endpoint"
	}
	return ""
}

// noMachine reports whether an IP address is not that of one machine.
func noMachine(ip netip.Addr) bool {
	return !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// ParseEndpoint reads an endpoint as people write it, except one with the name of a machine
// for UDP or TCP, and refuses what checkEndpoint refuses.
func ParseEndpoint(text string) (wire.Endpoint, error) {
	if isURL(text) {
		return parseURL(text)
	}
	e, err := wire.EndpointFromText(text)
	if err != nil {
		return wire.Endpoint{}, fmt.Errorf("%w: %q: %s", ErrEndpoint, shown(text), endpointFault(text))
	}
	return e, checkEndpoint(e)
}

// checkEndpoints checks a list, and returns it without repetitions.
func checkEndpoints(es []wire.Endpoint) ([]wire.Endpoint, error) {
	var list []wire.Endpoint
	for _, e := range es {
		if err := checkEndpoint(e); err != nil {
			return nil, err
		}
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
		if len(list) > MaxEndpoints {
			return nil, fmt.Errorf("%w: more than %d for one peer", ErrEndpoint, MaxEndpoints)
		}
	}
	return list, nil
}
