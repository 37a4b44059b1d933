package info2

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// memNet is a network of pipes: what is dialled must be listened on.
type memNet struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*memListener
}

type memListener struct {
	net   *memNet
	at    netip.AddrPort
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

type memConn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c memConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

func (c memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func newMemNet() *memNet { return &memNet{listeners: make(map[netip.AddrPort]*memListener)} }

func (n *memNet) listen(a netip.Addr) func(context.Context, uint16) (net.Listener, error) {
	return func(_ context.Context, port uint16) (net.Listener, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		at := netip.AddrPortFrom(a, port)
		if n.listeners[at] != nil {
			return nil, &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
		}
		l := &memListener{net: n, at: at, conns: make(chan net.Conn), done: make(chan struct{})}
		n.listeners[at] = l
		return l, nil
	}
}

func (n *memNet) dial(from netip.Addr) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		n.mu.Lock()
		l := n.listeners[to]
		n.mu.Unlock()
		if l == nil {
			return nil, syscall.ECONNREFUSED
		}
		near, far := net.Pipe()
		mine, theirs := memConn{near, netip.AddrPortFrom(from, 40000), to}, memConn{far, to, netip.AddrPortFrom(from, 40000)}
		select {
		case l.conns <- theirs:
			return mine, nil
		case <-l.done:
			return nil, syscall.ECONNREFUSED
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		delete(l.net.listeners, l.at)
		l.net.mu.Unlock()
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// elapse lets virtual time pass, and all that happens in it.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// running is a servent with its end.
type running struct {
	*Servent
	sub  *Subscription
	stop context.CancelFunc
	done chan error
}

// start runs a servent on the network; randomness is its address.
func (n *memNet) start(t *testing.T, a string, change func(*Config)) *running {
	t.Helper()
	cfg := Config{
		Name: "test", Dial: n.dial(ip(a)), Listen: n.listen(ip(a)),
		Rand: bytes.NewReader(append([]byte(fmt.Sprintf("%-32s", a)), 0)),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Servent: s, sub: s.Subscribe(100), stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	synctest.Wait() // it listens
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func (r *running) texts() (list []string) {
	for {
		select {
		case m, ok := <-r.sub.Messages():
			if !ok {
				return list
			}
			list = append(list, m.Text)
		default:
			return list
		}
	}
}

func (r *running) status(t *testing.T) Status {
	t.Helper()
	st, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}
