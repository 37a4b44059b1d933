// Package link moves packets between a node and the network: batches of trains
// over UDP, with the kernel's segmentation where it has it.
//
// A train is consecutive packets of one length in one buffer, all from or to one
// endpoint; a single packet is a train of one:
//
//	Buf   |-- Size --|-- Size --|-- Size --|- rest -|
//
// One rung of the ladder below is in use at a time, chosen by a self-test at start
// and lowered by errors later; what is on the wire is the same on each:
//
//	gso    UDP_SEGMENT and UDP_GRO: a train is one message of sendmmsg/recvmmsg
//	batch  sendmmsg/recvmmsg, a packet a message
//	plain  one packet a system call, through package net
package link

import (
	"context"
	"errors"
	"net/netip"
)

const (
	// Port is Anode's own: beacons always, packets by default (draft 4.2.6).
	Port = 8737
	// MaxTrain is the most bytes that a train to be written may hold.
	MaxTrain = 65000
	// MaxSegments is the most packets that a train to be written may hold.
	MaxSegments = 64
	// ReadSize is the length of the buffer behind each train that is read.
	ReadSize = 1 << 16
)

// ErrClosed is returned by Read and Write after Close.
var ErrClosed = errors.New("link: closed")

// Endpoint is where a packet came from or is to go. It is comparable.
type Endpoint struct {
	Addr  netip.AddrPort // IPv4 unmapped, IPv6 without a zone name
	Local netip.Addr     // our address: read, where the packet was sent to; written, its source; invalid leaves it to the system
	If    int            // interface index: read, where it came in; written, required for link-local and broadcast, else 0 leaves it to the system
}

// Train is one buffer of packets of one length, and their endpoint.
type Train struct {
	Buf      []byte
	Size     int // of each packet but the last, which may be shorter
	Endpoint Endpoint
}

// Conn is one socket. Read is for one goroutine; writing is through a Writer,
// one for each goroutine that writes.
type Conn interface {
	// Read waits for packets and sets up to len(ts) trains. Their buffers belong
	// to the Conn and are valid until the next Read. It returns ErrClosed after
	// Close and never any other error: passing errors are counted.
	Read(ts []Train) (n int, err error)
	// NewWriter makes a writer with scratch space of its own.
	NewWriter() Writer
	// LocalPort is the port that the socket is bound to.
	LocalPort() uint16
	// Rung tells which way packets go now: "gso", "batch" or "plain".
	Rung() string
	// Counters adds up the Conn's counters by name.
	Counters() map[string]uint64
	Close() error
}

// Writer sends trains; it is for one goroutine.
type Writer interface {
	// Write sends all trains, in order, and keeps none of their memory. Trains
	// that the system refuses are skipped and counted; the first such error is
	// returned, with the number of trains sent.
	Write(ts []Train) (sent int, err error)
}

// Interface is a network interface that beacons go out of and come in by.
type Interface struct {
	Name      string
	Index     int
	MTU       int
	Prefixes  []netip.Prefix // its addresses, with the length of their on-link prefix
	Broadcast []netip.Addr   // IPv4 directed broadcast addresses
	Multicast bool           // IPv6 link-local multicast works on it
}

// Network is where a node's sockets and what it knows of its links come from: the
// operating system's (System), or a simulated one (package vnet).
type Network interface {
	// Listen opens the node's socket; port 0 lets the system choose.
	Listen(port uint16) (Conn, error)
	// ListenBeacons opens a second, shared socket on Port for a node whose own
	// port is another, since beacons are sent to Port.
	ListenBeacons() (Conn, error)
	// Interfaces lists those fit for beacons: up, not loopback, not point to
	// point, not a tunnel, not a member of a bridge.
	Interfaces() ([]Interface, error)
	// Watch calls changed, from a goroutine of its own, after addresses or links
	// have changed, until ctx ends.
	Watch(ctx context.Context, changed func()) error
}
