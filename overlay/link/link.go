// Package link moves packets between a node and the network: batches of trains over UDP,
// with the kernel's segmentation if it has that; and over what a Mux has beside it, for
// networks that let no UDP through.
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
//
// Every packet goes out with don't-fragment set, whatever path MTU the kernel believes in:
// the engine finds that out itself (anode/wire, PROBE).
package link

import (
	"context"
	"errors"
)

const (
	// Port is Anode's UDP port: always for beacons, by default for packets (draft 4.2.6).
	Port = 8737
	// MaxTrain is the most bytes that a train to be written may hold.
	MaxTrain = 65000
	// MaxSegments is the most packets that a train to be written may hold.
	MaxSegments = 64
	// ReadSize is the most bytes that a train that was read may hold.
	ReadSize = 1 << 16
)

// ErrClosed is returned by Read and Write after Close.
var ErrClosed = errors.New("link: closed")

// Train is one buffer of packets of one length, and their endpoint. A Writer never joins
// trains: a packet in a train of its own leaves as a single datagram, whatever else the
// same Write sends. What measures how large a single packet may be relies on it, since
// some links take trains and lose large single packets.
type Train struct {
	Buf      []byte
	Size     int // bytes of each packet except the last, which may be shorter
	Endpoint Endpoint
}

// Conn is one socket. Read is for one goroutine; writing is through a Writer,
// one for each goroutine that writes.
type Conn interface {
	// Read waits for packets and sets up to len(ts) trains. Their buffers belong to the
	// Conn and are valid until the next Read. It returns ErrClosed after Close, and never
	// another error: transient errors are counted.
	Read(ts []Train) (n int, err error)
	// NewWriter makes a writer with scratch space of its own.
	NewWriter() Writer
	// LocalPort returns the port that the socket is bound to.
	LocalPort() uint16
	// Rung returns the rung in use: "gso", "batch" or "plain".
	Rung() string
	// Counters adds up the Conn's counters by name.
	Counters() map[string]uint64
	Close() error
}

// Writer sends trains; it is for one goroutine.
type Writer interface {
	// Write sends all trains, in order, and keeps none of their memory. It waits
	// while the socket's buffer is full.
	//
	// Packets that the system refuses are skipped and counted. The first such error is
	// returned, with the number of trains of which every packet was sent: ErrEndpoint, or
	// one that wraps or is a syscall.Errno (EMSGSIZE: larger than the interface's MTU).
	// After Close it is ErrClosed. If Local or If are no longer valid, and the address
	// has a meaning without them, packets go without them.
	Write(ts []Train) (sent int, err error)
}

// Network supplies a node's sockets and the state of its links: the operating system
// (System), or a simulation (package vnet).
type Network interface {
	// Listen opens the node's socket; port 0 lets the system choose.
	Listen(port uint16) (Conn, error)
	// ListenBeacons opens a second, shared socket on Port for a node that has another
	// port itself, since beacons are sent to Port. It is only for reading; answers go
	// through the node's own socket.
	ListenBeacons() (Conn, error)
	// State returns the present state of the links. Its interfaces are those fit for
	// beacons: up, not loopback, not point to point, not a tunnel, not a member of a
	// bridge. Any goroutine may call it.
	State() (State, error)
	// Watch calls changed with each state that differs from the one before, starting from
	// known, including changes since known was read. Changes in quick succession come as
	// one. It returns nil when ctx has ended, or an error if it cannot watch.
	Watch(ctx context.Context, known State, changed func(State)) error
}

// Grouper is a Network that can open several sockets on one port, for one goroutine
// each. A sealed packet goes to the socket whose number is the low byte of its
// receiver index modulo n, and everything else to the first: a peer that was granted a
// block of indices spreads its flows over all sockets. Of a broadcast each gets a copy.
type Grouper interface {
	// ListenGroup opens n sockets, which must be closed together. If the system cannot,
	// the error wraps errors.ErrUnsupported.
	ListenGroup(port uint16, n int) ([]Conn, error)
}
