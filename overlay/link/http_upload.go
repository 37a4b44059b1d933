package link

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// upload posts what waits, in its order: the next body begins when the one before has left us.
func (p *poster) upload() {
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, maxUploads)
	mine := p.claim()
	for range mine {
		for {
			slots <- struct{}{}
			b := p.take(mine)
			if b == nil {
				<-slots
				break
			}
			body := newPosted(&p.outbox, b)
			q := query{id: p.id, named: true, up: p.bodies.Add(1)}
			all.Go(func() {
				defer func() { <-slots }()
				p.send(q, body)
				body.end()
			})
			<-body.left
		}
	}
}

// send posts one body, and gives its memory back.
func (p *poster) send(q query, body *posted) {
	ctx, cancel := context.WithTimeout(p.ctx, uploadFor)
	defer cancel()
	body.done = ctx.Done()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { body.by(i.Conn) }})
	err := p.roundTrip(ctx, q, body, func(*http.Response) error { return nil })
	if err != nil {
		p.m.c.dropGone.Add(uint64(frames(body.b)))
	} else {
		p.succeeded()
		p.active()
	}
	if body.free() {
		recycle(body.b)
	}
	if err != nil {
		p.failed(troubleOf(err))
	}
}

// posted is the body of a request, which was taken from an outbox. It is read in pieces, each as soon
// as the system has nearly sent those before. The transport may go on reading it for a moment after
// the answer, and begins anew where a connection has ended.
type posted struct {
	from *outbox
	b    []byte
	left chan struct{} // closed once the last piece was read
	done <-chan struct{}

	mu   sync.Mutex
	over bool
	open int       // readers
	read int       // bytes that were read, by whoever read most
	to   *rawWrite // nil: not known
}

func newPosted(from *outbox, b []byte) *posted {
	return &posted{from: from, b: b, left: make(chan struct{})}
}

// by says by which connection it is going to be sent.
func (b *posted) by(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if own, ok := c.(postConn); ok {
		c = own.Conn
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to = newRawWrite(c)
}

// ready waits for a piece's time, and returns how long that piece may be.
func (b *posted) ready() int {
	b.mu.Lock()
	to := b.to
	b.mu.Unlock()
	return b.from.ready(to, b.done)
}

// took says that the first n bytes were read.
func (b *posted) took(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n <= b.read {
		return
	}
	b.from.wrote(n - b.read)
	if b.read = n; n == len(b.b) {
		close(b.left)
	}
}

// end says that nobody needs to read any more of it.
func (b *posted) end() { b.took(len(b.b)) }

// free reports whether nobody reads it, and nobody will.
func (b *posted) free() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	return b.open == 0
}

// reader begins to read it from the start.
func (b *posted) reader() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return nil, io.ErrUnexpectedEOF
	}
	b.open++
	return &postedReader{of: b}, nil
}

type postedReader struct {
	of     *posted
	at     int
	closed bool
}

// Read implements io.Reader.
func (r *postedReader) Read(p []byte) (int, error) {
	if r.at == len(r.of.b) {
		return 0, io.EOF
	}
	n := min(len(p), r.of.ready())
	n = copy(p[:n], r.of.b[r.at:])
	r.at += n
	r.of.took(r.at)
	return n, nil
}

// writeTo writes what is left, without a copy.
func (r *postedReader) writeTo(w io.Writer) (written int64, err error) {
	for r.at < len(r.of.b) && err == nil {
		piece := r.of.b[r.at:]
		piece = piece[:min(len(piece), r.of.ready())]
		var n int
		n, err = w.Write(piece)
		written += int64(n)
		if r.at += n; err == nil {
			r.of.took(r.at)
		}
	}
	return written, err
}

// Close implements io.Closer.
func (r *postedReader) Close() error {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.of.open--
	}
	return nil
}

// postConn is a connection that requests without TLS are written to.
type postConn struct{ net.Conn }

var _ io.ReaderFrom = postConn{}

// ReadFrom implements io.ReaderFrom, for package net/http, which would copy each body through a
// buffer of its own.
func (c postConn) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if body, ok := l.R.(*postedReader); ok && int64(len(body.of.b)-body.at) == l.N {
			n, err := body.writeTo(c.Conn)
			l.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}
