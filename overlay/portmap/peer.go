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
	defer ending(ctx, c)()

	for wait := firstWait; ; wait *= 2 {
		if _, err := c.Write(request); err != nil {
			return unsent(ctx, err)
		}
		if err := patient(ctx, c, time.Now().Add(wait)); err != nil {
			return err
		}
		if err := listen(ctx, c, take); !isTimeout(err) || ctx.Err() != nil {
			return err
		}
	}
}

// listen passes packets to take until it returns anything but errOther.
func listen(ctx context.Context, c net.Conn, take func([]byte) error) error {
	b := make([]byte, pcpMost+1) // one more, to see that a packet is too long
	for {
		n, err := c.Read(b)
		if isTimeout(err) && ctx.Err() == nil {
			return err
		}
		if err != nil {
			return unsent(ctx, err)
		}
		if err := take(b[:n]); !errors.Is(err, errOther) {
			return err
		}
	}
}

// ending has reads and writes of the socket end when ctx does, until the returned function
// is called.
func ending(ctx context.Context, c net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
}

// patient has reads wait until a time. The error is that of ctx if it has ended: the
// deadline that ending set may have been replaced.
func patient(ctx context.Context, c net.Conn, until time.Time) error {
	c.SetReadDeadline(until)
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
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		err = errno
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
