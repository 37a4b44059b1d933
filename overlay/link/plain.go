package link

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// plain is the rung of one packet a system call, through package net. Systems other than
// Linux have only this rung; Linux falls back to it.
type plain struct {
	*socket

	// owned by the goroutine that reads
	buf   []byte
	oob   [controlSize]byte
	zones zones
}

// newPlain reads packets of up to size bytes.
func newPlain(s *socket, size int) *plain { return &plain{socket: s, buf: make([]byte, size)} }

// Read implements Conn, one packet at a time.
func (p *plain) Read(ts []Train) (int, error) {
	n, err := p.read(ts)
	if err != nil {
		return 0, ErrClosed
	}
	return n, nil
}

// read is Read with the error that ended it.
func (p *plain) read(ts []Train) (int, error) {
	if len(ts) == 0 {
		return 0, nil
	}
	for {
		n, oobn, flags, from, err := p.udp.ReadMsgUDPAddrPort(p.buf, p.oob[:])
		if err != nil {
			var errno syscall.Errno
			switch {
			case !errors.As(err, &errno): // closed, or a deadline
				return 0, err
			case truncated(errno):
				p.c.rxTruncated.Add(1)
			case passing(errno):
				p.c.rxErrors.Add(1)
			default:
				return 0, err
			}
			continue
		}
		if flags&msgTrunc != 0 {
			p.c.rxTruncated.Add(1)
			continue
		}
		e := Endpoint{If: p.zones.index(from.Addr().Zone())}
		e.Addr = netip.AddrPortFrom(from.Addr().WithZone("").Unmap(), from.Port())
		if _, ok := parseControl(p.oob[:oobn], &e); !ok || flags&msgCtrunc != 0 {
			p.c.rxBad.Add(1)
			continue
		}
		ts[0] = Train{Buf: p.buf[:n], Size: n, Endpoint: e}
		p.c.rxPackets.Add(1)
		p.c.rxTrains.Add(1)
		p.c.rxBytes.Add(uint64(n))
		return 1, nil
	}
}

// NewWriter implements Conn.
func (p *plain) NewWriter() Writer { return &plainWriter{socket: p.socket} }

// Rung implements Conn.
func (p *plain) Rung() string { return RungPlain }

type plainWriter struct {
	*socket
	oob [controlSize]byte
}

// Write implements Writer.
func (w *plainWriter) Write(ts []Train) (sent int, err error) {
	for i := range ts {
		e := w.train(&ts[i])
		if errors.Is(e, net.ErrClosed) {
			return sent, ErrClosed
		}
		if e == nil {
			sent++
		} else if err == nil {
			err = e
		}
	}
	return sent, err
}

// train sends the packets of t, and goes on after one that is refused.
func (w *plainWriter) train(t *Train) (err error) {
	if !t.valid(w.four) {
		w.c.txBadEndpoint.Add(1)
		return ErrEndpoint
	}
	packets := 0
	for off, end := 0, 0; ; off = end {
		end = t.next(off)
		e := w.packet(t.Buf[off:end], t.Endpoint)
		switch {
		case e == nil:
			packets++
			w.c.txBytes.Add(uint64(end - off))
		case errors.Is(e, net.ErrClosed):
			return e
		default:
			w.c.refuse(errnoOf(e), 1)
			if err == nil {
				err = e
			}
		}
		if end == len(t.Buf) {
			break
		}
	}
	w.c.txPackets.Add(uint64(packets))
	if packets > 0 {
		w.c.txTrains.Add(1)
	}
	return err
}

// packet sends one packet, without Local and If if they are no longer valid.
func (w *plainWriter) packet(b []byte, e Endpoint) error {
	err := w.send(b, e)
	if err != nil && e.loosens(errnoOf(err)) && !errors.Is(err, net.ErrClosed) {
		e.Local, e.If = netip.Addr{}, 0
		w.c.txUnpinned.Add(1)
		return w.send(b, e)
	}
	return err
}

func (w *plainWriter) send(b []byte, e Endpoint) error {
	_, _, err := w.udp.WriteMsgUDPAddrPort(b, appendPktinfo(w.oob[:0], e), zoned(e))
	return err
}
