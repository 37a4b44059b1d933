// Package platform does what the operating system owns: the adapter's address and
// routes, link events, the clock that counts sleep, the usual directories. There is one
// file for each system; Linux is done by netlink, the others by their own programs.
//
//	interface   the name that package tun opened
//	address     ULA/128, no duplicate address detection, no fe80:: beside it
//	routes      fdZZ:ZZZZ:ZZ00::/40 for each zone in use, never fd00::/8
//
// Addresses and routes are the interface's: they vanish with it, also after kill -9.
// Nothing here touches netfilter or resolv.conf.
package platform

import (
	"errors"
	"net/netip"
)

// ErrConfigure is wrapped by all errors of setting up an interface.
var ErrConfigure = errors.New("cannot set up the interface")

// Settings are the settings of an adapter's interface.
type Settings struct {
	ULA    netip.Addr     // our address
	Routes []netip.Prefix // of the zones in use
	MTU    int            // bytes

	// Only Linux has these; 0 leaves what the system chose.
	GSOMaxSize int // bytes of a super-packet, with its headers
	TxQueueLen int // packets that wait for us to read them
}

// Directories holds the default places of files.
type Directories struct {
	State  string // identity and database
	Socket string // of the local interface
	Config string // a file
}
