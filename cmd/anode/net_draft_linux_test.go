package main_test

import (
	"bytes"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// What follows is Anode 0.8 written from the draft's text alone, with nothing of this
// project's, to be somebody else's program on the same LAN.

// draftDigest is AES-DIGEST (draft 2.6).
func draftDigest(message []byte) (digest [16]byte) {
	step := func(key []byte) {
		c, err := aes.NewCipher(key)
		if err != nil {
			panic(err)
		}
		previous := digest
		c.Encrypt(digest[:], digest[:])
		for i := range digest {
			digest[i] ^= previous[i]
		}
	}
	rest := message
	for ; len(rest) >= 32; rest = rest[32:] {
		step(rest[:32])
	}
	block := make([]byte, 32)
	copy(block, rest)
	block[len(rest)] = 0x80
	step(block)
	clear(block[:8])
	binary.BigEndian.PutUint64(block[8:16], uint64(len(message)))
	step(block)
	return digest
}

// draftID is a short ID (draft 2.7).
func draftID(address []byte) []byte {
	d := draftDigest(address)
	id := make([]byte, 8)
	for i := range id {
		id[i] = d[i] ^ d[i+8]
	}
	return id
}

// draftMAC is the MAC of a packet (draft 3.3) by CMAC-AES-256 (RFC 4493).
func draftMAC(key, packet []byte) []byte {
	b := bytes.Clone(packet[1:])
	binary.BigEndian.PutUint64(b[1:9], uint64(len(packet)))
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	double := func(x []byte) []byte {
		out, carry := make([]byte, 16), byte(0)
		for i := 15; i >= 0; i-- {
			out[i] = x[i]<<1 | carry
			carry = x[i] >> 7
		}
		out[15] ^= 0x87 * carry
		return out
	}
	k1 := make([]byte, 16)
	c.Encrypt(k1, k1)
	k1 = double(k1)
	last := k1
	if len(b)%16 != 0 {
		b = append(b, 0x80)
		b = append(b, make([]byte, (16-len(b)%16)%16)...)
		last = double(k1)
	}
	for i := range last {
		b[len(b)-16+i] ^= last[i]
	}
	x := make([]byte, 16)
	for ; len(b) > 0; b = b[16:] {
		for i := range x {
			x[i] ^= b[i]
		}
		c.Encrypt(x, x)
	}
	mac := make([]byte, 8)
	for i := range mac {
		mac[i] = x[i] ^ x[i+8]
	}
	return mac
}

// The message types (draft 4.1), and the flags (3.2).
const (
	draftPing, draftPong, draftEPCReq, draftEPC, draftEPI = 1, 2, 3, 4, 5
	draftNetIDReq, draftNetID, draftDgram                 = 7, 8, 9

	draftFullSender, draftFullRecipient, draftAuthError = 1, 2, 4
)

// draftProgram is a program that speaks the draft on a host, to one peer.
type draftProgram struct {
	t             *testing.T
	conn          *net.UDPConn
	self, peer    []byte // addresses
	key           []byte
	to, broadcast *net.UDPAddr
}

func newDraftProgram(h *host, to *host, at string) *draftProgram {
	h.t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	p := &draftProgram{t: h.t, peer: to.address[:], to: &net.UDPAddr{IP: net.ParseIP(at), Port: 8737}, broadcast: &net.UDPAddr{IP: net.IPv4(10, 0, 1, 255), Port: 8737}}
	point := private.PublicKey().Bytes() // 4, X, Y
	p.self = append([]byte{1, 0, 0, 0, 0, 0, 0, 2 + point[64]&1}, point[1:33]...)
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), p.peer[7:])
	public, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, x.FillBytes(make([]byte, 32))...), y.FillBytes(make([]byte, 32))...))
	if err != nil {
		h.t.Fatal(err)
	}
	if p.key, err = private.ECDH(public); err != nil { // 32 bytes: the derived key is the raw one (2.4)
		h.t.Fatal(err)
	}
	p.conn, err = in(h, func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: 8737}) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { p.conn.Close() })
	return p
}

// text is the program's address for people (draft 2.2.1).
func (p *draftProgram) text() string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(p.self))
}

// packet makes one (draft 3), signed unless it is a broadcast.
func (p *draftProgram) packet(flags, kind byte, message []byte) []byte {
	b := append([]byte{0, flags}, make([]byte, 8)...)
	if flags&draftFullSender != 0 {
		b = append(b, p.self...)
	} else {
		b = append(b, draftID(p.self)...)
	}
	if flags&draftFullRecipient != 0 {
		b = append(b, p.peer...)
	} else {
		b = append(b, draftID(p.peer)...)
	}
	b = append(append(b, 1<<4, kind), message...)
	copy(b[2:10], draftMAC(p.key, b))
	return b
}

func (p *draftProgram) send(packet []byte) {
	p.t.Helper()
	if _, err := p.conn.WriteTo(packet, p.to); err != nil {
		p.t.Fatal(err)
	}
}

// receive returns the message of the next packet of a type to us, and reports whether it
// named its sender in full. It checks all that the draft says of a packet. ok is
// false when none comes in time.
func (p *draftProgram) receive(kind byte, limit time.Duration) (message []byte, full, ok bool) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 2000)
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			return nil, false, false
		}
		b := buf[:n]
		at := 10 + 8
		if n < 28 {
			continue // it is no packet
		}
		if full = b[1]&draftFullSender != 0; full {
			at = 10 + 40
		}
		if b[1]&^draftFullSender != 0 || n < at+10 || b[at+9] != kind || bytes.Equal(b[2:10], make([]byte, 8)) {
			continue // a beacon, something sealed, or something else
		}
		sender := b[10:at]
		if full && !bytes.Equal(sender, p.peer) || !full && !bytes.Equal(sender, draftID(p.peer)) || !bytes.Equal(b[at:at+8], draftID(p.self)) {
			p.t.Errorf("from %x to %x", sender, b[at:at+8])
		}
		if !bytes.Equal(b[2:10], draftMAC(p.key, b)) {
			p.t.Errorf("type %d with a wrong MAC: %x", kind, b)
		}
		if b[0] != 0 || b[at+8]>>4 == 0 || b[at+8]&15 != 1 && b[at+8]&15 != 0 {
			p.t.Errorf("hop count %d, peer IDs %#x", b[0], b[at+8])
		}
		return bytes.Clone(b[at+10:]), full, true
	}
}

// asks sends a packet and gives the answer of a type.
func (p *draftProgram) asks(packet []byte, kind byte) []byte {
	p.t.Helper()
	p.send(packet)
	m, _, ok := p.receive(kind, dialWait)
	if !ok {
		p.t.Fatalf("no type %d came", kind)
	}
	return m
}

// silence sends a packet that may have no answer of a type.
func (p *draftProgram) silence(what string, packet []byte, kind byte) {
	p.t.Helper()
	p.send(packet)
	if m, _, ok := p.receive(kind, 300*time.Millisecond); ok {
		p.t.Errorf("%s: answered by %x", what, m)
	}
}

// TestNetDraft: a program by others that speaks Anode 0.8 and nothing of ours is
// understood and answered, byte for byte; it gets signalling and no data.
func TestNetDraft(t *testing.T) {
	b, c := newHost(t, "b"), newHost(t, "c")
	join(1, b, c)
	b.up("--open")
	p := newDraftProgram(c, b, "10.0.1.1")
	if id := draftID(b.address[:]); !bytes.Equal(id, b.id[:]) || !bytes.Equal(id, b.ula[8:]) {
		t.Fatalf("the short ID of b is %x, it says %s, %s", id, b.id, b.ula)
	}
	for _, added := range []bool{false, true} {
		name := "a stranger"
		if added {
			name = "a peer"
		}
		step(t, name, func(t *testing.T) {
			p.t = t
			if added {
				b.anode("peers", "add", p.text(), "draft")
			}
			for _, flags := range []byte{draftFullSender, draftFullSender | draftFullRecipient, 0, draftFullRecipient} {
				for _, size := range []int{0, 1, 31, 32, 1000} {
					data := random(uint64(size), size)
					if m := p.asks(p.packet(flags, draftPing, data), draftPong); !bytes.Equal(m, data) {
						t.Errorf("flags %d, PING %x, PONG %x", flags, data, m)
					}
					if !added && size == 1 {
						break // pings of strangers have a budget
					}
				}
				if m := p.asks(p.packet(flags, draftEPCReq, []byte{1, 2, 3, flags}), draftEPC); !bytes.Equal(m, []byte{1, 2, 3, flags}) {
					t.Errorf("EPC %x", m)
				}
			}
			// NETID fills in where it was asked from: UDP over IPv4, 10.0.1.2:8737.
			here := []byte{2, 10, 0, 1, 2, 0x22, 0x21}
			for _, endpoint := range [][]byte{{0}, here} {
				request := append([]byte{9, 8, 7, 6}, endpoint...)
				if m := p.asks(p.packet(draftFullSender, draftNetIDReq, request), draftNetID); !bytes.Equal(m, append([]byte{9, 8, 7, 6}, here...)) {
					t.Errorf("NETID %x", m)
				}
			}
			third := []byte{9, 8, 7, 6, 2, 10, 0, 1, 77, 0x22, 0x21}
			p.silence("NETID_REQ for a third party", p.packet(draftFullSender, draftNetIDReq, third), draftNetID)

			broken := p.packet(draftFullSender, draftPing, []byte("broken"))
			broken[len(broken)-1] ^= 1
			p.silence("a wrong MAC", broken, draftPong)
			p.silence("an authentication error", p.packet(draftFullSender|draftAuthError, draftPing, []byte("error")), draftPong)
			hops := p.packet(draftFullSender, draftPing, []byte("hops"))
			hops[0] = 3 // not in the MAC
			if m := p.asks(hops, draftPong); string(m) != "hops" {
				t.Errorf("after three hops: %x", m)
			}
		}, b)
	}

	// EPI: b wants to speak to its peers, and asks back where they say that they are.
	for name, epi := range map[string][]byte{"EPI": {0, 0, 0}, "EPI with an endpoint": {0, 2, 10, 0, 1, 2, 0x22, 0x21, 0}} {
		within(t, dialWait, "EPC_REQ after "+name, func() bool {
			p.send(p.packet(draftFullSender, draftEPI, epi))
			m, _, ok := p.receive(draftEPCReq, 500*time.Millisecond)
			if ok {
				p.send(p.packet(draftFullSender, draftEPC, m))
			}
			return ok
		})
	}
	// As a broadcast it has neither recipient nor MAC.
	b.down(15)
	b.up("--open")
	beacon := slices.Concat([]byte{0, draftFullSender}, make([]byte, 8), p.self, make([]byte, 8), []byte{1 << 4, draftEPI}, []byte{0, 0, 0})
	within(t, dialWait, "EPC_REQ after a broadcast EPI", func() bool {
		if _, err := p.conn.WriteTo(beacon, p.broadcast); err != nil {
			t.Fatal(err)
		}
		_, _, ok := p.receive(draftEPCReq, 500*time.Millisecond)
		return ok
	})

	// Data in clear is not for the system, whoever it comes from.
	into := b.udp(9)
	p.send(p.packet(draftFullSender, draftDgram, slices.Concat([]byte{0x12, 0x34, 0, 9}, []byte("in clear"))))
	p.asks(p.packet(draftFullSender, draftPing, nil), draftPong) // which comes after it
	into.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := into.Read(make([]byte, 100)); err == nil || !os.IsTimeout(err) {
		t.Errorf("%d bytes in clear came in: %v", n, err)
	}
	if n := b.status().Counters["drop_cleartext"]; n != 1 {
		t.Errorf("drop_cleartext is %d", n)
	}
}
