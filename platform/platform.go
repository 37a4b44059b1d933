// Package platform does what the operating system owns: the adapter's address and
// routes, link events, the clock that counts sleep, the usual directories. There is one
// file for each system; Linux is done by netlink, the others by their own programs.
//
//	interface   the name that package tun opened
//	address     ULA/128, no duplicate address detection, no fe80:: beside it
//	routes      fdZZ:ZZZZ:ZZ00::/40 for each zone in use, never fd00::/8;
//	            ULA/128 for each added peer, which no other route can beat
//	guard       a table of nf_tables that ties these addresses to the interface
//
// Keep makes all of it. On Linux, what is changed by others is put back; elsewhere the
// interface is set up once, and there is no guard.
//
// Addresses and routes are the interface's: they vanish with it, also after kill -9; the
// guard vanishes with the process. Where nf_tables cannot be had, a policy rule stands in
// for half of it, and Cleanup removes one that a killed node left. Nothing else of
// netfilter is touched, and nothing of resolv.conf.
package platform

import (
	"errors"
	"net/netip"
)

// ErrConfigure is wrapped by all errors of setting up an interface.
var ErrConfigure = errors.New("cannot set up the interface")

// Settings are the settings of an adapter's interface.
type Settings struct {
	Wanted            // at first
	ULA    netip.Addr // our address
	MTU    int        // bytes

	// Only Linux has these; 0 leaves what the system chose.
	Queues     int // that it has, if it has several; more are somebody else's
	GSOMaxSize int // bytes of a super-packet, with its headers
	TxQueueLen int // packets that wait for us to read them
}

// Directories holds the default places of files.
type Directories struct {
	State  string // identity and database
	Socket string // of the local interface
	Config string // a file
}
