package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/overlay/mono"
)

// Port is where DNS is, and OtherPort where ours is, so that resolvers of this machine can have port 53:
// dnsmasq and others take it on all addresses, and do not start where one of these is taken.
const (
	Port      = 53
	OtherPort = 8753
)

// Limits of the server. Each bounds what one program can do to others.
const (
	maxConns  = 64 // by TCP at a time
	connLimit = 5 * time.Second
	pause     = 100 * time.Millisecond // after a failure to accept
)

// limits is how many datagrams are answered, by source port: programs have others. Of each port
// a few are always answered. What busy ports ask beyond that shares a budget, so that a flood from
// many ports leaves the processor to the tunnel, and the others their answers: it is the answers that
// cost, since each wakes its receiver.
type limits struct {
	ports [portSlots]struct{ few, more mono.Bucket }
	busy  mono.Bucket
}

// portSlots is how many ports have a budget of their own; those that are as far apart as this share
// one.
const portSlots = 4096

func fewRate() mono.Rate  { return mono.Rate{PerSecond: 10, Burst: 40} }
func moreRate() mono.Rate { return mono.Rate{PerSecond: 190, Burst: 360} }
func busyRate() mono.Rate { return mono.Rate{PerSecond: 500, Burst: 1000} }

// connRate is what one connection may ask, as much as a port.
func connRate() mono.Rate { return mono.Rate{PerSecond: 200, Burst: 400} }

// allow reports whether a datagram from a port is answered.
func (l *limits) allow(now mono.Time, port uint16) bool {
	p := &l.ports[port%portSlots]
	return p.few.Allow(now, fewRate()) || p.more.Allow(now, moreRate()) && l.busy.Allow(now, busyRate())
}

// Server answers queries out of the snapshot that was published last, of this machine's own
// addresses alone: names are private. Two goroutines do all of it but TCP; memory does not grow
// with queries.
type Server struct {
	log      *slog.Logger
	now      func() mono.Time
	snapshot atomic.Pointer[Snapshot]
	own      atomic.Pointer[map[netip.Addr]bool]
	counters counters
	asked    strangers
	limits   limits // owned by whoever reads datagrams
}

// NewServer makes a server without names. since is a clock that counts sleep.
func NewServer(log *slog.Logger, since func() time.Duration) *Server {
	s := &Server{log: log, now: func() mono.Time { return mono.At(since()) }}
	s.Publish(New(Contents{}))
	s.SetOwn(nil)
	return s
}

// Publish has the server answer out of a snapshot from now on.
func (s *Server) Publish(snapshot *Snapshot) { s.snapshot.Store(snapshot) }

// SetOwn sets this machine's addresses. Queries from others are dropped.
func (s *Server) SetOwn(list []netip.Addr) {
	own := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		own[a] = true
	}
	s.own.Store(&own)
}

// isOwn reports whether an address is this machine's.
func (s *Server) isOwn(a netip.Addr) bool {
	return a.IsLoopback() || (*s.own.Load())[a.WithZone("").Unmap()]
}

// Sockets are a UDP socket and a TCP listener on one port of one address.
type Sockets struct {
	at  netip.AddrPort
	udp *net.UDPConn
	tcp *net.TCPListener
}

// Listen opens both sockets; with port 0, on one that the system chooses. Its error says in words why it cannot.
func Listen(at netip.AddrPort) (*Sockets, error) {
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, portError(at, err)
	}
	at = udp.LocalAddr().(*net.UDPAddr).AddrPort() // with the port that the system chose
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, errors.Join(portError(at, err), udp.Close())
	}
	return &Sockets{at, udp, tcp}, nil
}

// portError returns an error of opening a port without the names of calls.
func portError(at netip.AddrPort, err error) error {
	var system *net.OpError
	if errors.As(err, &system) {
		err = system.Err
		var call interface{ Unwrap() error }
		if errors.As(err, &call) && call.Unwrap() != nil {
			err = call.Unwrap()
		}
	}
	return fmt.Errorf("port %d: %w", at.Port(), err)
}

// At returns where the sockets are.
func (s *Sockets) At() netip.AddrPort { return s.at }

// Close closes both.
func (s *Sockets) Close() error { return errors.Join(s.udp.Close(), s.tcp.Close()) }

// Serve answers on sockets until ctx ends, or one of them fails, and closes them. One call at a
// time.
func (s *Server) Serve(ctx context.Context, at *Sockets) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { at.Close() })
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { cancel(s.datagrams(at.udp)) })
	running.Go(func() { cancel(s.connections(ctx, at.tcp)) })
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, net.ErrClosed) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// datagrams answers queries by UDP until the socket fails. To be woken costs more than to read ten
// datagrams. So if the one that it waited for is more than its port may ask, which is a flood, it
// has others gather for a moment.
func (s *Server) datagrams(c *net.UDPConn) error {
	b, scratch := make([]byte, maxQuery), make([]byte, 0, ednsSize)
	for {
		asked := time.Now()
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		waited := time.Since(asked) > woken
		switch {
		case !s.isOwn(from.Addr()):
			s.counters.foreign.Add(1)
		case !s.limits.allow(s.now(), from.Port()):
			s.counters.limited.Add(1)
		default:
			s.reply(c, b[:n], from, scratch)
			continue
		}
		if waited {
			time.Sleep(gather)
		}
	}
}

// A read that took so long has waited. The socket's buffer takes a quarter of a million datagrams a
// second for as long as others gather, so none of other programs is lost.
const (
	woken  = 20 * time.Microsecond
	gather = time.Millisecond
)

// reply answers one datagram. The reply may be made in the scratch buffer.
func (s *Server) reply(c *net.UDPConn, query []byte, to netip.AddrPort, scratch []byte) {
	if b := s.answer(query, false, scratch); b != nil {
		if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
			s.counters.failed.Add(1)
		}
	}
}

// answer answers one query and counts it. The reply may be in the scratch buffer.
func (s *Server) answer(query []byte, tcp bool, scratch []byte) []byte {
	r := s.snapshot.Load().answer(query, tcp, scratch)
	s.counters.count(r)
	if !r.named.IsZero() {
		s.asked.remember(s.now(), r.named)
	}
	return r.message
}

// connections accepts connections until the listener fails, and waits for those that are
// open.
func (s *Server) connections(ctx context.Context, l *net.TCPListener) error {
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, maxConns)
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			s.counters.failed.Add(1)
			select { // files or memory are short
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			continue
		}
		if !s.admit(c, slots) {
			_ = c.SetLinger(0) // nothing is said, not even a proper end
			c.Close()
			continue
		}
		open.Go(func() {
			defer func() { <-slots }()
			s.connection(ctx, c)
		})
	}
}

// admit reports whether a connection is this machine's and there is a slot for it, which it
// takes.
func (s *Server) admit(c *net.TCPConn, slots chan<- struct{}) bool {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !s.isOwn(from.AddrPort().Addr()) {
		s.counters.foreign.Add(1)
		return false
	}
	select {
	case slots <- struct{}{}:
		return true
	default:
		s.counters.full.Add(1)
		return false
	}
}

// connection answers the queries of one connection, for a while.
func (s *Server) connection(ctx context.Context, c *net.TCPConn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.SetDeadline(time.Now().Add(connLimit)); err != nil {
		return
	}
	var limit mono.Bucket
	for {
		query, err := readFrame(c)
		if err != nil {
			return
		}
		if !limit.Allow(s.now(), connRate()) {
			s.counters.limited.Add(1)
			return
		}
		reply := s.answer(query, true, nil)
		if reply == nil {
			return
		}
		frame := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply))), reply...)
		if _, err := c.Write(frame); err != nil {
			s.counters.failed.Add(1)
			return
		}
	}
}

// readFrame reads a query and the length before it. Of one that is longer than any needs to be
// it returns the beginning, which is malformed.
func readFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	b := make([]byte, min(n, maxQuery))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	_, err := io.CopyN(io.Discard, r, int64(n-len(b)))
	return b, err
}

// strangersKept is how many addresses that were asked for are remembered, and strangersFor how
// long.
const (
	strangersKept = 256
	strangersFor  = 10 * time.Minute
)

// counters count queries by what became of them.
type counters struct {
	found, nothing, refused, malformed, other atomic.Uint64 // by the code of the reply
	cut                                       atomic.Uint64 // replies that did not fit
	silent                                    atomic.Uint64 // responses, and less than a header
	foreign                                   atomic.Uint64 // from other machines
	limited                                   atomic.Uint64 // more than one program may ask
	full                                      atomic.Uint64 // connections beyond those that may be open
	failed                                    atomic.Uint64 // the system did not send or accept
}

func (c *counters) count(r reply) {
	if r.message == nil {
		c.silent.Add(1)
		return
	}
	if r.cut {
		c.cut.Add(1)
	}
	switch r.code {
	case dnsmessage.RCodeSuccess:
		c.found.Add(1)
	case dnsmessage.RCodeNameError:
		c.nothing.Add(1)
	case dnsmessage.RCodeRefused:
		c.refused.Add(1)
	case dnsmessage.RCodeFormatError:
		c.malformed.Add(1)
	default:
		c.other.Add(1)
	}
}

// Count adds the counters to others. Any goroutine may call it.
func (s *Server) Count(to map[string]uint64) {
	c := &s.counters
	for name, n := range map[string]*atomic.Uint64{
		"dns_found": &c.found, "dns_not_found": &c.nothing, "dns_refused": &c.refused, "dns_malformed": &c.malformed,
		"dns_unsupported": &c.other, "dns_truncated": &c.cut, "dns_silent": &c.silent, "dns_foreign": &c.foreign,
		"dns_limited": &c.limited, "dns_connections_full": &c.full, "dns_failed": &c.failed,
	} {
		to[name] = n.Load()
	}
}
