package platform

import (
	"fmt"
	"net/netip"
)

// Covering is a route of another interface that covers an address of the overlay.
type Covering struct {
	Addr   netip.Addr   // of the overlay
	Prefix netip.Prefix // the destination of the route
	Index  int          // of the interface that the route leads to
	Name   string       // of that interface
}

// String is for people: "fd00::/64 dev eth0".
func (c Covering) String() string { return fmt.Sprintf("%s dev %s", c.Prefix, c.Name) }
