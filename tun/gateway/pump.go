package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// idleBuffer is what waits for a stream's data.
	idleBuffer = 2 << 10
	// keepAlive is after how much silence a stream's peer is asked whether it is there. The
	// program's own probes end at netstack.
	keepAlive = 15 * time.Minute
)

// conn is one connection.
type conn struct {
	g       *Gateway
	flow    flow
	request chan *tcp.ForwarderRequest // for a program's: from netstack

	// Under the gateway's lock.
	pending  bool // a program's, whose stream is being opened
	shaking  bool // netstack may see the program's SYN
	endpoint      // of netstack; set once
}

// pump moves bytes both ways until both have ended.
func (c *conn) pump(stream net.Conn) {
	p := &pump{c: c, endpoint: c.endpoint, stream: stream}
	c.ep.SocketOptions().SetKeepAlive(true)
	idle := tcpip.KeepaliveIdleOption(silence)
	_ = c.ep.SetSockOpt(&idle)
	if k, ok := stream.(interface{ KeepAlive(time.Duration) }); ok {
		k.KeepAlive(keepAlive)
	}
	stop := context.AfterFunc(c.g.ctx, p.abort)
	defer func() {
		if !stop() {
			p.once.Do(func() {}) // waits until it has run
		}
	}()
	entry := waiter.NewFunctionEntry(waiter.EventHUp|waiter.EventErr, p.broken)
	c.wq.EventRegister(&entry)
	defer c.wq.EventUnregister(&entry)
	p.broken(0) // before we were told

	p.both.Go(p.toStream)
	p.toSystem()
	p.both.Wait()
	c.ep.Close()
	_ = stream.Close()
}

// pump is a connection and its stream.
type pump struct {
	c *conn
	endpoint
	stream net.Conn
	both   sync.WaitGroup
	once   sync.Once
}

// abort ends the connection and the stream at once.
func (p *pump) abort() {
	p.once.Do(func() {
		p.c.g.count.add(aborted)
		p.ep.Abort()
		abort(p.stream)
	})
}

// broken aborts the stream of a connection that the system reset, so that nobody waits for
// it. It is called while netstack holds locks.
func (p *pump) broken(waiter.EventMask) {
	if tcp.EndpointState(p.ep.State()) == tcp.StateError {
		abort(p.stream)
	}
}

// toStream moves what the system sends.
func (p *pump) toStream() {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	p.wq.EventRegister(&entry)
	defer p.wq.EventUnregister(&entry)
	for {
		err := p.drain()
		if err == nil {
			<-ready
			continue
		}
		if err == io.EOF {
			err = closeWrite(p.stream)
		}
		if err != nil {
			p.abort()
		}
		return
	}
}

// drain moves what has come from the system. It returns io.EOF after the end.
func (p *pump) drain() error {
	if p.ep.Readiness(waiter.ReadableEvents)&waiter.ReadableEvents == 0 {
		return nil
	}
	buf := p.c.g.buffer()
	defer p.c.g.buffers.put(buf)
	for {
		w := tcpip.SliceWriter(*buf)
		r, failed := p.ep.Read(&w, tcpip.ReadOptions{})
		if failed != nil {
			return p.readError(failed)
		}
		p.ep.ModerateRecvBuf(r.Count)
		if _, err := p.stream.Write((*buf)[:r.Count]); err != nil {
			return err
		}
	}
}

var errReset = errors.New("reset by the system")

// readError returns nil if there is nothing to read now.
func (p *pump) readError(failed tcpip.Error) error {
	switch failed.(type) {
	case *tcpip.ErrWouldBlock:
		return nil
	case *tcpip.ErrClosedForReceive:
		if tcp.EndpointState(p.ep.State()) != tcp.StateError {
			return io.EOF
		}
	}
	return errReset
}

// buffer returns one for bytes on their way.
func (g *Gateway) buffer() *[]byte {
	g.mu.Lock()
	many := len(g.table.all) > manyConns
	g.mu.Unlock()
	return g.buffers.get(many)
}

// closeWrite ends our direction of a stream.
func closeWrite(s net.Conn) error {
	if c, ok := s.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// toSystem moves what the peer sends. While nothing comes, it waits with a small buffer.
func (p *pump) toSystem() {
	first := make([]byte, idleBuffer)
	for {
		n, err := p.stream.Read(first)
		if e := p.write(first[:n]); e != nil {
			err = e
		} else if n == len(first) && err == nil {
			err = p.busy()
		}
		if err == io.EOF {
			if p.ep.Shutdown(tcpip.ShutdownWrite) == nil {
				return
			}
			err = errReset
		}
		if err != nil {
			p.abort()
			return
		}
	}
}

// busy moves what the peer sends with a large buffer, as long as that is filled.
func (p *pump) busy() error {
	buf := p.c.g.buffer()
	defer p.c.g.buffers.put(buf)
	for {
		n, err := p.stream.Read(*buf)
		if e := p.write((*buf)[:n]); e != nil {
			return e
		}
		if err != nil || n < len(*buf) {
			return err
		}
	}
}

// write passes bytes to netstack, and waits while its buffer is full.
func (p *pump) write(b []byte) error {
	var r bytes.Reader
	for len(b) > 0 {
		r.Reset(b) // netstack may read more of it than it takes
		n, failed := p.ep.Write(&r, tcpip.WriteOptions{})
		b = b[n:]
		switch failed.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			p.writable()
		default:
			return errReset
		}
	}
	return nil
}

// writable waits until netstack takes more, or has failed.
func (p *pump) writable() {
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	p.wq.EventRegister(&entry)
	defer p.wq.EventUnregister(&entry)
	if p.ep.Readiness(waiter.WritableEvents)&waiter.WritableEvents == 0 {
		<-ready
	}
}
