// Package platform does what the operating system owns: the adapter's address and
// routes, link events, the clock that counts sleep, the usual directories. There is one
// file for each system; Linux is done by netlink, the others by their own programs.
//
//	interface   the name that package tun opened
//	address     ULA/128, no duplicate address detection, no fe80:: beside it;
//	            the IPv4 alias with the length and the broadcast of its range
//	routes      fdZZ:ZZZZ:ZZ00::/40 for each zone in use, never fd00::/8;
//	            ULA/128 for each added peer, which no other route can beat;
//	            ALIAS/32 for each added peer, and nothing else of the range
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
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrConfigure is wrapped by all errors of setting up an interface.
var ErrConfigure = errors.New("cannot set up the interface")

// Settings are the settings of an adapter's interface.
type Settings struct {
	Wanted            // at first
	ULA    netip.Addr // our address
	IP4    IP4        // our IPv4 alias; zero: none
	MTU    int        // bytes

	// Only Linux has these; 0 leaves what the system chose.
	Queues     int // that it has, if it has several; more are somebody else's
	GSOMaxSize int // bytes of a super-packet, with its headers
	TxQueueLen int // packets that wait for us to read them
}

// IP4 is our IPv4 alias and the range that it is from.
type IP4 struct {
	Alias netip.Addr
	Range netip.Prefix
}

// broadcast returns the last address of the range.
func (i IP4) broadcast() netip.Addr {
	b := i.Range.Masked().Addr().As4()
	v := binary.BigEndian.Uint32(b[:]) | uint32(1<<(32-i.Range.Bits())-1)
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// Directories holds the default places of files.
type Directories struct {
	State  string // identity and database
	Socket string // of the local interface
	Config string // a file
}
