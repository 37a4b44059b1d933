package link

import (
	"net/netip"
	"unique"

	"anodenet/anode/wire"
)

// Kind is the transport that an endpoint belongs to (draft 2.9).
type Kind uint8

// The kinds.
const (
	UDP Kind = iota
	TCP
	HTTP
	Ethernet
)

// String returns "udp", "tcp", "http" or "ethernet".
func (k Kind) String() string {
	return [...]string{"udp", "tcp", "http", "ethernet"}[k]
}

// Connected reports whether packets of this kind travel in connections: they are neither
// lost nor too large there, and come late instead.
func (k Kind) Connected() bool { return k == TCP || k == HTTP }

// Endpoint is where a packet came from or goes to. It is comparable. One that was read
// can be used for writing as it is: the answer then takes the same path back.
type Endpoint struct {
	// Addr is the address: IPv4 unmapped, IPv6 without a zone name. Of an HTTP endpoint
	// with a URL it is invalid. Of an Ethernet endpoint it is the link-local address that
	// IPv6 makes of the MAC (RFC 4291, appendix A), with Port.
	Addr netip.AddrPort

	Kind Kind

	// Conn is the number of the connection that the other side opened; 0: none. Such an
	// endpoint ends with it.
	Conn uint32

	// URL is where packets are sent by HTTP POST; zero: nowhere.
	URL unique.Handle[string]

	// Local is our address. Read: the one that the packet was sent to; for a
	// broadcast one that we have on that interface; for a multicast, or where the
	// system does not tell (all but Linux), invalid. Written: the source; invalid
	// leaves it to the system.
	Local netip.Addr

	// If is the index of the interface. Read: by which the packet came in. Written:
	// by which it leaves; link-local addresses, multicast and 255.255.255.255 need
	// one, and for others 0 leaves it to the system.
	If int
}

// Same reports whether both are one place, whatever our own side of them is.
func (e *Endpoint) Same(o *Endpoint) bool {
	return e.Addr == o.Addr && e.Kind == o.Kind && e.Conn == o.Conn && e.URL == o.URL
}

// Place strips an endpoint to what identifies the other side.
func (e Endpoint) Place() Endpoint {
	x := Endpoint{Addr: e.Addr, Kind: e.Kind, Conn: e.Conn, URL: e.URL}
	if e.Addr.Addr().IsLinkLocalUnicast() {
		x.If = e.If
	}
	return x
}

// FromWire returns the endpoint that a message or a person names; ok is false for one that has no
// meaning here: of an unknown type, or Ethernet without an interface.
func FromWire(e wire.Endpoint) (ep Endpoint, ok bool) {
	switch e.Kind {
	case wire.UDP4, wire.UDP6:
		return Endpoint{Addr: e.Addr}, true
	case wire.TCP4, wire.TCP6:
		return Endpoint{Addr: e.Addr, Kind: TCP}, true
	case wire.HTTP:
		return Endpoint{Kind: HTTP, URL: unique.Make(e.URI)}, true
	}
	return Endpoint{}, false
}

// Wire returns how messages name the endpoint.
func (e Endpoint) Wire() wire.Endpoint {
	switch e.Kind {
	case TCP:
		return wire.TCP(e.Addr)
	case HTTP:
		if e.URL == (unique.Handle[string]{}) {
			return wire.Endpoint{}
		}
		return wire.Endpoint{Kind: wire.HTTP, URI: e.URL.Value()}
	case Ethernet:
		return wire.Endpoint{Kind: wire.Ethernet, MAC: e.MAC()}
	}
	return wire.UDP(e.Addr)
}

// String returns the endpoint as people read it: udp:IP:PORT, tcp:IP:PORT, a URL,
// eth:MAC, or http:IP for a client that posts to us.
func (e Endpoint) String() string {
	if e.Kind == HTTP && e.URL == (unique.Handle[string]{}) {
		return "http:" + e.Addr.Addr().String()
	}
	return e.Wire().String()
}

// MAC returns an Ethernet endpoint's address.
func (e Endpoint) MAC() [6]byte {
	a := e.Addr.Addr().As16()
	return [6]byte{a[8] ^ 2, a[9], a[10], a[13], a[14], a[15]}
}

// AtMAC returns the endpoint of an Ethernet address, on an interface.
func AtMAC(mac [6]byte, index int) Endpoint {
	a := [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom16(a), Port), Kind: Ethernet, If: index}
}
