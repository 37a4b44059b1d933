//go:build !linux

package link

import (
	"net/netip"
	"testing"
)

var allRungs = []string{RungPlain}

func checkLocal(*testing.T, Endpoint, netip.Addr) {}
