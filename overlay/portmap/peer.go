package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// firstWait is how long the first request waits for its answer; each further one waits twice
// as long (RFC 6886 3.1). Within answerTime these are four.
const firstWait = 250 * time.Millisecond

// peer is the gateway's server for PCP and NAT-PMP, as seen from one address of ours.
type peer struct {
	from netip.Addr
	to   netip.AddrPort
}

// exchange sends a request until take returns anything but errOther for an answer, and
// returns that. It fails after answerTime. The socket is connected, so only packets from the
// server itself come in.
func (p peer) exchange(ctx context.Context, request []byte, take func([]byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.from, 0))}
	c, err := d.DialContext(ctx, "udp", p.to.String())
	if err != nil {
		return unsent(ctx, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()

	b := make([]byte, pcpMost+1) // one more, to see that a packet is too long
	for wait := firstWait; ctx.Err() == nil; wait *= 2 {
		if _, err := c.Write(request); err != nil {
			return unsent(ctx, err)
		}
		until := time.Now().Add(wait)
		for {
			c.SetReadDeadline(until)
			if ctx.Err() != nil {
				return ctx.Err() // the deadline replaced that of AfterFunc
			}
			n, err := c.Read(b)
			if err == nil {
				err = take(b[:n])
			} else if !isTimeout(err) {
				return unsent(ctx, err)
			} else {
				break
			}
			if !errors.Is(err, errOther) {
				return err
			}
		}
	}
	return ctx.Err()
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// unsent returns the failure of a socket.
func unsent(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED):
		return &failure{code: NoAnswer, detail: "nobody listens on the port"}
	}
	return &failure{code: Failed, detail: err.Error()}
}

// epoch follows the seconds that a gateway counts since it lost its mappings (RFC 6887 8.5).
type epoch struct {
	server uint32
	at     time.Time // zero: nothing is known; no monotonic part, so that sleep counts
}

// take takes an answer's epoch in, and reports whether the gateway has restarted since the
// last one.
func (e *epoch) take(server uint32, now time.Time) bool {
	last := *e
	*e = epoch{server, now.Round(0)}
	if last.at.IsZero() {
		return false
	}
	ours := int64(e.at.Sub(last.at) / time.Second)
	theirs := int64(server) - int64(last.server)
	return theirs < -1 || ours+2 < theirs-theirs/16 || theirs+2 < ours-ours/16
}
