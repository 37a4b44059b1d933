//go:build !linux

package chat

import (
	"net"
	"net/netip"
)

// bindTo does nothing: this system binds a socket to an address alone.
func bindTo(uintptr, int) error { return nil }

func bindAccepted(net.Conn, int) error { return nil }

func isLocal(netip.Addr) bool { return false }
