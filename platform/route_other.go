//go:build !linux

package platform

import (
	"errors"
	"fmt"
	"net/netip"
)

// RouteOf returns the interface by which the system would send a packet to addr. On this
// system it is an error that wraps errors.ErrUnsupported.
func RouteOf(addr netip.Addr) (ifindex int, name string, err error) {
	return 0, "", fmt.Errorf("route to %s: %w on this system", addr, errors.ErrUnsupported)
}

// CoveringPrefixes returns the routes of interfaces other than the adapter, whose
// destination contains one of the addresses. On this system it is an error that wraps
// errors.ErrUnsupported.
func CoveringPrefixes(adapter string, addrs ...netip.Addr) ([]Covering, error) {
	return nil, fmt.Errorf("reading the routes: %w on this system", errors.ErrUnsupported)
}
