// Package tun is the adapter. It opens the system's TUN device, turns the IP packets
// that ordinary programs send into messages, and the messages of peers into packets.
// Addresses never travel; both ends know them.
//
//	UDP, class 0, hop limit 64    09 | source port[2] destination port[2] | payload       DGRAM
//	echo request, the same        01 | ident[2] sequence[2] | data                        PING
//	  its reply                   02 | ident[2] sequence[2] | data                        PONG
//	TCP and UDP, checksum sound   53 | version/class/flow[4] next[1] hops[1] | TCP, UDP    IP6P
//	everything else               50 | version/class/flow[4] next[1] hops[1] | payload     IP6
//	IPv4 between aliases          54 | class[1] ident[2] fragment[2] ttl[1] proto[1] | payload  IP4
//	to groups and to all          55 | destination[16] | as IP6 or IP4 from here on        GROUP
//
// Files in the order in which packets meet them:
//
//	open_*.go   port_linux.go  portable.go   the device, and frames read and written raw
//	queue.go    both directions of one queue, as the engine uses it
//	split.go    outgoing: super-packets cut in place into messages
//	split4.go   outgoing: the same for IPv4, and for groups
//	policy.go   incoming: what may come in, and who may send it
//	merge.go    incoming: messages made packets, and joined in place to super-packets
//	merge4.go   incoming: the same for IPv4, and for groups
//	lan.go      both ways: which groups and protocols are for programs of people
//	inject.go   incoming: TCP that the gateway makes in the name of a peer
//	icmp*.go    errors about packets that could not be sent
//
// A frame is a virtio-net header (vnet.go) and a packet. Where a system has no such
// header, it is zero, and each packet is one message with a checksum that is complete.
//
// Memory is fixed: three buffers of 64 KB per queue, and 0.4 MB per device for the tables
// that recognize replies.
package tun

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"anodenet/anode"
	"anodenet/overlay/alias"
)

var (
	// ErrClosed is returned by Read and Flush after Close.
	ErrClosed = errors.New("tun: closed")
	// ErrGone is returned by Read and Flush when somebody has removed the interface.
	ErrGone = errors.New("the interface of the adapter was removed")
	// ErrOpen is wrapped by all errors of Open, which say what to do about it.
	ErrOpen = errors.New("cannot open the TUN device")
)

// Offload is what is left to the kernel.
type Offload string

// Values of Offload.
const (
	OffloadAuto Offload = "auto" // whatever the kernel has
	OffloadOn   Offload = "on"   // at least checksums and TCP super-packets, or fail
	OffloadOff  Offload = "off"  // one packet at a time, checksums complete
)

// Config is what Open needs.
type Config struct {
	Name    string       // of the interface; empty lets the system choose
	MTU     int          // of the interface, at least 1280
	Queues  int          // packet queues, 0 for 1; more only on Linux
	Self    anode.ULA    // our address: the source of every outgoing packet, and the destination of every incoming one
	Offload Offload      // empty for OffloadAuto
	Log     *slog.Logger // nil for none

	// Aliases says who has which IPv4 alias; nil: no IPv4 passes.
	Aliases *alias.Table
	// Ethernet has the interface be like one of Ethernet, for programs that pass over those
	// that are point-to-point. Only Linux has that.
	Ethernet bool
	// Groups lets packets to multicast groups and broadcasts pass, as wire.Group. Queue.Read
	// returns the group then: ff02::/16, ff05::/16, or an IPv4 address mapped into IPv6.
	Groups bool
	// Reports, if it is set, is called when the system has told routers of the link which
	// groups programs joined or left (MLD, IGMP). The report itself never leaves. It is called
	// by the goroutines that call Queue.Read, and must not wait.
	Reports func()

	// Now is the clock for expected replies and rate limits; nil for time.Now.
	Now func() time.Time
}

// port reads and writes frames of one queue of the device.
type port interface {
	// read fills frame and returns its length. With wait false, 0 means that there
	// is nothing to read. The frame's bytes are valid until the next read.
	read(frame []byte, wait bool) (int, error)
	// write takes one frame. It may change the frame's first vnetSize bytes.
	write(frame []byte) error
}

// Device is an open TUN device. It implements overlay.Device.
type Device struct {
	name     string
	mtu      int
	has      offloads
	close    func() error
	queues   []*Queue
	incoming *Queue
	injector Injector
	errors   errorMaker
	count    counters // of errors
}

// opened is what the system's part of Open returns.
type opened struct {
	name     string
	has      offloads
	ports    []port
	errors   port // one more way to write, for ICMP errors
	incoming port // and one for Device.Incoming
	inject   port // and one for Device.Injector
	close    func() error
}

// Open makes the interface. It is not up yet and has no address: that is package
// platform's part.
func Open(c Config) (*Device, error) {
	if c.MTU < minMTU || c.MTU > maxIP6 {
		return nil, fmt.Errorf("%w: MTU %d; IPv6 needs 1280 to 65535", ErrOpen, c.MTU)
	}
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.Offload == "" {
		c.Offload = OffloadAuto
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	o, err := open(c)
	if err != nil {
		return nil, err
	}
	d := newDevice(c, o)
	c.Log.Info("adapter is open", "name", d.name, "queues", len(d.queues), "offload", d.Offload())
	return d, nil
}

func newDevice(c Config, o opened) *Device {
	d := &Device{name: o.name, mtu: c.MTU, has: o.has, close: o.close}
	l := newLAN(&c)
	l.unknown = d.errors.noAlias
	d.errors = errorMaker{self: c.Self, lan: &l, now: c.Now, write: o.errors.write, count: &d.count}
	p := newPolicy(c.Self, c.Now)
	for _, port := range o.ports {
		d.queues = append(d.queues, newQueue(c.Self, &l, o.has, p, port))
	}
	d.incoming = newIncoming(c.Self, &l, o.has, p, o.incoming)
	d.injector = Injector{self: c.Self, has: o.has, policy: p, write: o.inject.write}
	return d
}

// Name returns the name of the interface.
func (d *Device) Name() string { return d.name }

// MTU returns the MTU that the interface had when it was opened, in bytes.
func (d *Device) MTU() int { return d.mtu }

// Offload returns what is left to the kernel: "tcp udp", "tcp", "checksum" or "off".
func (d *Device) Offload() string { return d.has.String() }

// SuperPackets reports whether the system passes many packets of a TCP flow as one.
func (d *Device) SuperPackets() bool { return d.has.tcp }

// Queues returns the device's queues. What is read from one should be answered on the
// same: the system then keeps the flow there.
func (d *Device) Queues() []*Queue { return d.queues }

// Incoming returns the incoming half of one more queue, for one more goroutine that has packets
// for the system. Nothing is read from it.
func (d *Device) Incoming() *Queue { return d.incoming }

// Injector returns the way into the system for TCP packets that are made on this machine in
// the name of a peer.
func (d *Device) Injector() *Injector { return &d.injector }

// NoRoute answers the packet that msg was made of: the peer cannot be found or reached
// (RFC 4443, 3.1, code 0; for IPv4 RFC 792, host unreachable). Any goroutine may call NoRoute, TooBig and Prohibited.
func (d *Device) NoRoute(to anode.ULA, msg []byte) {
	d.errors.answer(to, msg, icmpUnreachable, icmpNoRoute, 0)
}

// Prohibited answers the packet that msg was made of: it may not be sent (RFC 4443,
// 3.1, code 1; for IPv4 RFC 1812, 5.2.7.1, code 13).
func (d *Device) Prohibited(to anode.ULA, msg []byte) {
	d.errors.answer(to, msg, icmpUnreachable, icmpProhibited, 0)
}

// TooBig answers the packet that msg was made of: packets to that peer may have at most
// mtu bytes, or 1280 if mtu is less (RFC 4443, 3.2; for IPv4 RFC 1191, 4).
func (d *Device) TooBig(to anode.ULA, msg []byte, mtu int) {
	d.errors.answer(to, msg, icmpTooBig, 0, uint32(max(mtu, minMTU)))
}

// Counters adds up the counters of the device and all its queues, by name.
func (d *Device) Counters() map[string]uint64 {
	sums := make(map[string]uint64, numCounters)
	for i := none + 1; i < numCounters; i++ {
		n := d.count[i].Load()
		n += d.incoming.in.count[i].Load() + d.injector.count[i].Load()
		for _, q := range d.queues {
			n += q.out.count[i].Load() + q.in.count[i].Load()
		}
		sums[counterNames[i]] = n
	}
	return sums
}

// Close removes the interface, with all addresses and routes that were on it, and ends
// a waiting Read with ErrClosed.
func (d *Device) Close() error { return d.close() }

// String returns the words of Device.Offload.
func (o offloads) String() string {
	switch {
	case o.tcp && o.udp:
		return "tcp udp"
	case o.tcp:
		return "tcp"
	case o.checksum:
		return "checksum"
	}
	return "off"
}
