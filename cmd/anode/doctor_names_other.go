//go:build !linux

package main

import (
	"context"
	"net"
)

// stubAddress is empty: this system has no systemd-resolved.
const stubAddress = ""

// refusedConnection is not asked here.
func refusedConnection(error) bool { return false }

// askSystem asks the system's resolver.
func askSystem(ctx context.Context, name string) nameStep {
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip6", name)
	return nameStep{addrs: list, err: err}
}
