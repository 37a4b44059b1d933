package overlay

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// stun asks the STUN servers that the user named (RFC 8489) how they see the main socket. They
// serve where no relay and no friend can be asked. One request and one attribute of the answer is
// all of STUN that is needed, which is why there is no library for it.
type stun struct {
	list []*server // at most maxServers
}

type server struct {
	at    netip.AddrPort
	id    stunID // of the last request
	waits bool   // for its answer
	tries int    // without an answer
	next  mono.Time
}

const (
	maxServers = 4
	stunTries  = 5
	stunRetry  = 500 * time.Millisecond // doubles (RFC 8489, 6.2.1)
	stunEvery  = 2 * time.Minute        // while no anchor keeps the mapping; others notice if it changes
)

// stunID is a transaction ID.
type stunID [12]byte

// begin asks anew: our links are other ones.
func (s *stun) begin(now mono.Time) {
	for _, x := range s.list {
		x.tries, x.next = 0, now
	}
}

// setSTUN replaces the servers. DNS said where they are, so no packets for many, or for programs
// on this machine, follow from it.
func (r *reach) setSTUN(list []netip.AddrPort) {
	r.stun.list = nil
	for _, a := range list {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if len(r.stun.list) < maxServers && r.plausible(a.Addr()) && a.Port() != 0 && !slices.ContainsFunc(r.stun.list, func(x *server) bool { return x.at == a }) {
			r.stun.list = append(r.stun.list, &server{at: a, next: r.l.now})
		}
	}
	r.stun.note(r.l.n)
}

// stunAwaited is the transaction IDs of the requests that wait for an answer. The loop replaces
// them, and the lanes read them; nil: there are none.
type stunAwaited struct{ atomic.Pointer[[]stunID] }

// note tells the lanes which answers are expected.
func (s *stun) note(n *Node) {
	var ids []stunID
	for _, x := range s.list {
		if x.waits {
			ids = append(ids, x.id)
		}
	}
	if ids == nil {
		n.stunWaits.Store(nil)
		return
	}
	n.stunWaits.Store(&ids)
}

// tickSTUN sends the requests that are due.
func (r *reach) tickSTUN() mono.Time {
	next := mono.Never
	for _, x := range r.stun.list {
		if x.next <= r.l.now {
			r.askSTUN(x)
		}
		next = min(next, x.next)
	}
	return next
}

func (r *reach) askSTUN(x *server) {
	if x.tries == stunTries {
		x.waits, x.tries, x.next = false, 0, r.l.now.Add(stunEvery)
		r.stun.note(r.l.n)
		return
	}
	if x.tries == 0 {
		rand.Read(x.id[:])
	}
	x.waits = true // before the answer can come
	x.next = r.l.now.Add(stunRetry << x.tries)
	x.tries++
	r.stun.note(r.l.n)
	r.l.shell.write(appendBinding(r.l.shell.buf[:0], x.id), link.Endpoint{Addr: x.at})
}

// stunAnswer takes what came from a server, if it answers a request.
func (r *reach) stunAnswer(b []byte, from link.Endpoint) {
	id, seen, ok := parseBinding(b)
	k := slices.IndexFunc(r.stun.list, func(x *server) bool { return x.waits && x.id == id && x.at == from.Addr })
	if !ok || k < 0 || !r.plausible(seen.Addr()) || seen.Port() == 0 || seen.Addr().Is4() != from.Addr.Addr().Is4() {
		r.l.n.counters.count(dSTUN)
		return
	}
	x := r.stun.list[k]
	x.waits, x.tries, x.next = false, 0, mono.Never
	if len(r.anchors.list) == 0 {
		x.next = r.l.now.Add(stunEvery)
	}
	r.stun.note(r.l.n)
	r.seen(path.Sample{Local: r.l.n.conns[0].LocalPort(), Main: true, To: x.at, Seen: seen, At: r.l.now}, anode.Address{})
}

// looksSTUN reports whether a packet on the main socket is a server's answer: it names a request
// that waits for one, by 96 random bits that only the server and who is on the way to it can know.
// So what anybody can make shares nothing with it.
func (n *lanes) looksSTUN(p []byte) bool {
	if len(p) < stunHeader || p[0] != 1 || p[1] != 1 {
		return false
	}
	ids := n.stunWaits.Load()
	return ids != nil && bytes.Equal(p[4:8], stunCookie[:]) &&
		slices.ContainsFunc(*ids, func(id stunID) bool { return subtle.ConstantTimeCompare(id[:], p[8:stunHeader]) == 1 })
}

// stunRate bounds the answers that one lane passes on: whoever is on the way can repeat one.
var stunRate = mono.Rate{PerSecond: 20, Burst: 20}

// The format of RFC 8489:
//
//	type[2] length[2] cookie[4] transaction[12] | attributes: type[2] length[2] value, padded to 4
//
//	XOR-MAPPED-ADDRESS: 0[1] family[1] port[2]^cookie address[4|16]^(cookie transaction)
const (
	stunHeader   = 20
	stunRequest  = 0x0001
	stunSuccess  = 0x0101
	stunXOR      = 0x0020
	stunFamily4  = 1
	stunFamily6  = 2
	stunAttrHead = 4
)

var stunCookie = [4]byte{0x21, 0x12, 0xa4, 0x42}

// appendBinding writes a Binding request.
func appendBinding(b []byte, id stunID) []byte {
	b = binary.BigEndian.AppendUint16(b, stunRequest)
	b = binary.BigEndian.AppendUint16(b, 0)
	return append(append(b, stunCookie[:]...), id[:]...)
}

// parseBinding reads a Binding success response.
func parseBinding(b []byte) (id stunID, seen netip.AddrPort, ok bool) {
	if len(b) < stunHeader || binary.BigEndian.Uint16(b) != stunSuccess || !bytes.Equal(b[4:8], stunCookie[:]) ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b)-stunHeader {
		return id, seen, false
	}
	id = stunID(b[8:])
	for attrs := b[stunHeader:]; len(attrs) >= stunAttrHead; {
		kind, n := binary.BigEndian.Uint16(attrs), int(binary.BigEndian.Uint16(attrs[2:]))
		attrs = attrs[stunAttrHead:]
		if n > len(attrs) {
			return id, seen, false
		}
		if kind == stunXOR {
			seen, ok = unmask(attrs[:n], b[4:stunHeader])
			return id, seen, ok
		}
		attrs = attrs[min((n+3)&^3, len(attrs)):]
	}
	return id, seen, false
}

// unmask reads the value of XOR-MAPPED-ADDRESS; mask is cookie and transaction.
func unmask(v, mask []byte) (netip.AddrPort, bool) {
	if len(v) < 4 || v[1] == stunFamily4 && len(v) != 8 || v[1] == stunFamily6 && len(v) != 20 || v[1] != stunFamily4 && v[1] != stunFamily6 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:]) ^ binary.BigEndian.Uint16(mask)
	raw := bytes.Clone(v[4:])
	for k := range raw {
		raw[k] ^= mask[k]
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}
