package tun

import (
	"errors"
	"syscall"

	"anodenet/anode"
)

// Injector is one more way into the system: for TCP packets that are not made of a peer's
// messages, but by somebody on this machine in the name of a peer. The policy judges them
// as if the peer had sent them. One goroutine at a time may call Put.
type Injector struct {
	self   anode.ULA
	has    offloads
	policy *policy
	write  func(frame []byte) error
	count  counters
	buf    []byte // a frame; made for the first packet
}

// Put passes an IPv6 packet to the system, of which the parts are the bytes, and whose
// source is a peer's ULA. Its TCP header follows the fixed header, and its checksum does not
// matter: it is computed anew. Of a super-packet size is the length of each segment's
// payload, else 0. trusted reports whether the policy lets everything of the peer in. Put
// keeps none of the memory. What cannot be passed on is dropped and counted; the only
// errors are ErrClosed and ErrGone.
func (i *Injector) Put(trusted bool, size int, parts ...[]byte) error {
	if i.buf == nil {
		i.buf = make([]byte, vnetSize+ip6Size+maxIP6)
	}
	n := vnetSize
	for _, p := range parts {
		k := copy(i.buf[n:], p)
		if n += k; k < len(p) {
			i.count.add(inMalformed, 1)
			return nil
		}
	}
	frame := i.buf[:n]
	headers, drop := i.check(frame[vnetSize:], trusted)
	if drop != none {
		i.count.add(drop, 1)
		return nil
	}
	payload := n - vnetSize - headers
	if size <= 0 || size >= payload {
		size = payload
	}
	if size < payload && !i.has.tcp {
		return i.split(headers, size, n)
	}
	return i.put(frame, headers, size)
}

// check returns the length of a packet's headers, or why it may not come in.
func (i *Injector) check(p []byte, trusted bool) (headers int, drop counter) {
	if len(p) < ip6Size || p[0]>>4 != 6 || p[6] != protoTCP || ip6Size+int(be.Uint16(p[4:])) != len(p) {
		return 0, inMalformed
	}
	b := p[ip6Size:]
	from := anode.ULA(p[8:24])
	if tcpLen(b) == 0 || anode.ULA(p[24:40]) != i.self || from[0] != 0xfd || from == i.self {
		return 0, inMalformed
	}
	return ip6Size + tcpLen(b), i.policy.admit(from, trusted, protoTCP, b)
}

// put writes one frame. size is the payload of each of its segments.
func (i *Injector) put(frame []byte, headers, size int) error {
	ip := frame[vnetSize:]
	b := ip[ip6Size:]
	be.PutUint16(ip[4:], uint16(len(b)))
	clear(frame[:vnetSize])
	initial := sum(ip[8:ip6Size], add(protoTCP, uint16(len(b))))
	segments := 1
	if i.has.checksum {
		be.PutUint16(b[tcpChecksum:], initial)
		v := vnetHeader{flags: vnetNeedsChecksum, start: ip6Size, at: tcpChecksum}
		if payload := len(ip) - headers; size < payload {
			v.size, v.kind = size, vnetTCP6
			if b[tcpFlags]&flagCWR != 0 {
				v.kind |= vnetECN
			}
			segments = (payload + size - 1) / size
		}
		v.put(frame, headers)
	} else {
		complete(b, tcpChecksum, initial)
	}
	i.count.add(inMessages, segments)
	i.count.add(inWrites, 1)
	err := i.write(frame)
	if err == nil {
		return nil
	}
	i.count.add(inWrite, 1)
	if segments > 1 && errors.Is(err, syscall.EINVAL) {
		i.count.add(inRefused, 1)
		i.has.tcp = false // this system accepts none, although it offered to
	}
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrGone) {
		return err
	}
	return nil
}

// split writes the segments of a super-packet of n bytes in buf. Each gets its header right
// in front of its payload, over the end of the segment before.
func (i *Injector) split(headers, size, n int) error {
	var head [ip6Size + 60]byte
	copy(head[:headers], i.buf[vnetSize:])
	for at := vnetSize + headers; at < n; at += size {
		end := min(at+size, n)
		frame := i.buf[at-headers-vnetSize : end]
		copy(frame[vnetSize:], head[:headers])
		b := frame[vnetSize+ip6Size:]
		if end < n {
			b[tcpFlags] &^= flagFIN | flagPSH
		}
		if err := i.put(frame, headers, end-at); err != nil {
			return err
		}
		seq := head[ip6Size+tcpSeq:]
		be.PutUint32(seq, be.Uint32(seq)+uint32(size))
		head[ip6Size+tcpFlags] &^= flagCWR
	}
	return nil
}
