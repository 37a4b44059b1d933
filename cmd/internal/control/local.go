package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay/book"
)

// Local is what joins programs of this machine and peers; *proxy.Service is one.
type Local interface {
	Doors() []proxy.Status
	Keep(ctx context.Context, spec proxy.Spec, owner string, ready func(proxy.Status)) error
	DialAddress(ctx context.Context, network string, a anode.Address, port uint16) (net.Conn, error)
	Accept(ctx context.Context, port uint16) (net.Conn, error)
}

// ServeLocal has a server answer questions about l, and open doors and connections with it.
func (s *Server) ServeLocal(l Local) { s.local = l }

// Doors are the ways between programs of this machine and peers.
type Doors struct {
	Schema int            `json:"schema"`
	Doors  []proxy.Status `json:"doors"`
}

// KeepRequest opens a door that stays as long as the connection of the request.
type KeepRequest struct {
	Kind     proxy.Kind `json:"kind"` // proxy.Forward or proxy.Expose
	Spec     string     `json:"spec"` // as the configuration has it
	Anywhere bool       `json:"anywhere"`
}

func (r KeepRequest) spec() (proxy.Spec, error) {
	switch r.Kind {
	case proxy.Forward:
		f, err := proxy.ParseForwarding(r.Spec)
		f.Anywhere = r.Anywhere
		return f, invalid(err)
	case proxy.Expose:
		e, err := proxy.ParseExposure(r.Spec)
		return e, invalid(err)
	}
	return nil, &Error{Code: CodeInvalid, Message: fmt.Sprintf("kind: want %s or %s", proxy.Forward, proxy.Expose)}
}

// invalid is an error of a request's text.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: "spec: " + err.Error()}
}

var errNoLocal = &Error{Code: CodeRefused, Message: "this daemon does not join programs and peers"}

func (s *Server) doors(context.Context) (Doors, error) {
	d := Doors{Schema: 1, Doors: []proxy.Status{}}
	if s.local != nil {
		d.Doors = s.local.Doors()
	}
	return d, nil
}

// keep opens a door until the client leaves or the daemon ends.
func (s *Server) keep(ending context.Context, w http.ResponseWriter, r *http.Request) {
	var request KeepRequest
	err := decode(w, r, &request)
	var spec proxy.Spec
	if err == nil {
		spec, err = request.spec()
	}
	if err == nil && s.local == nil {
		err = errNoLocal
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	ctx, cancel := until(r.Context(), ending)
	defer cancel()
	stream := http.NewResponseController(w)
	opened := false
	err = s.local.Keep(ctx, spec, caller(ctx), func(status proxy.Status) {
		opened = true
		w.Header().Set("Content-Type", "application/jsonl")
		// The request was read, and this is all that is written.
		if stream.SetReadDeadline(time.Time{}) != nil || json.NewEncoder(w).Encode(status) != nil || stream.Flush() != nil {
			cancel()
		}
	})
	if !opened {
		reply(w, nil, err)
	}
}

// until returns a context that ends with either of two.
func until(ctx, ending context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ending, cancel)
	return ctx, func() { stop(); cancel() }
}

// The answer to a connection is frames, kind[1] length[2] data, since HTTP cannot tell an end
// from a failure while the request's body, which is what the client sends, goes on.
const (
	frameData   = 0
	frameEnd    = 1 // the peer ended its direction
	frameFailed = 2 // the connection broke; the data is the error
	frameHead   = 3
)

// connection opens a stream to a port of a peer: the body of the request goes to the peer, and
// what the peer sends comes back in frames.
func (s *Server) connection(ending context.Context, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := until(r.Context(), ending)
	defer cancel()
	stream := http.NewResponseController(w)
	wake := func() { _ = stream.SetReadDeadline(time.Now()) } // to close the body would wait for the client
	defer wake()
	err := errors.Join(stream.EnableFullDuplex(), stream.SetReadDeadline(time.Time{}), stream.SetWriteDeadline(time.Time{}))
	if err != nil {
		reply(w, nil, err)
		return
	}
	peer, err := s.dial(ctx, "tcp", r.URL.Query())
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer peer.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	if stream.Flush() != nil {
		return
	}
	_ = proxy.Splice(ctx, &framed{body: r.Body, w: w, flush: stream.Flush, wake: wake}, peer) // the client is told
}

// dial opens the connection that a request asks for.
func (s *Server) dial(ctx context.Context, network string, q url.Values) (net.Conn, error) {
	a, err := anode.ParseAddress(q.Get("address"))
	if err == nil {
		err = book.CheckAddress(a)
	}
	port, perr := strconv.ParseUint(q.Get("port"), 10, 16)
	switch {
	case err != nil:
		return nil, &Error{Code: CodeInvalid, Message: "address: want an address"}
	case perr != nil || port == 0:
		return nil, &Error{Code: CodeInvalid, Message: "port: want 1 to 65535"}
	case s.local == nil:
		return nil, errNoLocal
	}
	c, err := s.local.DialAddress(ctx, network, a, uint16(port))
	if err != nil {
		return nil, dialError(err)
	}
	return c, nil
}

// dialError returns the error of a connection to a peer in words.
func dialError(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Code: CodeRefused, Message: "connection refused: nothing listens on that port of the peer", Try: "on the peer: start the service, or without an adapter anode expose PORT"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeUnreachable, Message: "the peer does not answer", Try: "anode why PEER"}
	}
	return err
}

// framed is the client's side of a connection, as proxy.Splice takes it.
type framed struct {
	net.Conn // nil: Splice needs no more than the methods below
	body     io.Reader
	flush    func() error
	wake     func() // ends a Read that waits

	mu    sync.Mutex
	w     io.Writer
	ended bool
}

// Read implements net.Conn.
func (f *framed) Read(b []byte) (int, error) { return f.body.Read(b) }

// Write implements net.Conn.
func (f *framed) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		part := b[n:min(len(b), n+maxFrame)]
		if err = f.frame(frameData, part); err == nil {
			n += len(part)
		}
	}
	return n, err
}

// maxFrame is the most data of a frame.
const maxFrame = 0xffff

func (f *framed) frame(kind byte, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return net.ErrClosed
	}
	f.ended = kind != frameData
	if _, err := f.w.Write([]byte{kind, byte(len(data) >> 8), byte(len(data))}); err != nil {
		return err
	}
	if _, err := f.w.Write(data); err != nil {
		return err
	}
	return f.flush()
}

// CloseWrite tells the client that the peer ended its direction.
func (f *framed) CloseWrite() error { return f.frame(frameEnd, nil) }

// Abort tells the client that the connection broke.
func (f *framed) Abort() { _ = f.frame(frameFailed, []byte("the connection to the peer broke")) }

// Close ends the client's direction.
func (f *framed) Close() error {
	f.wake()
	return nil
}

// Doors returns the ways between programs of the daemon's machine and peers.
func (c *Client) Doors(ctx context.Context) (Doors, error) {
	return call[Doors](ctx, c, http.MethodGet, "local", nil)
}

// Keep opens a door, calls ready, and returns when ctx ends, or with ErrNoDaemon when the daemon
// ends or the door fails.
func (c *Client) Keep(ctx context.Context, r KeepRequest, ready func(proxy.Status)) error {
	body, err := c.ask(ctx, http.MethodPost, "local/keep", r)
	if err != nil {
		return err
	}
	defer body.Close()
	d := json.NewDecoder(body)
	var status proxy.Status
	if err := d.Decode(&status); err != nil {
		return c.explain(ctx, err)
	}
	ready(status)
	return c.explain(ctx, d.Decode(&status)) // it comes to an end
}

// Stream is a connection to a port of a peer through the daemon. One goroutine may read while
// another one writes.
type Stream struct {
	client *Client
	ctx    context.Context // of the request
	cancel context.CancelFunc
	send   *io.PipeWriter
	answer io.ReadCloser
	left   int   // of the frame that is being read
	err    error // of all further reads
}

// Open opens a connection to a port of a peer. ctx ends it.
func (c *Client) Open(ctx context.Context, a anode.Address, port uint16) (*Stream, error) {
	return c.openStream(ctx, "connect", a, port)
}

// Read returns io.EOF after the peer's end, and an *Error if the connection broke.
func (s *Stream) Read(b []byte) (n int, err error) {
	for s.left == 0 && s.err == nil {
		s.left, s.err = readFrame(s.answer)
	}
	if s.left == 0 {
		return 0, s.failed(s.err)
	}
	n, err = s.answer.Read(b[:min(len(b), s.left)])
	s.left -= n
	if err != nil && n == 0 {
		s.left, s.err = 0, unexpected(err)
		return 0, s.failed(s.err)
	}
	return n, nil
}

// Finish waits, after both directions have ended, until the daemon has passed on all that was
// written. Who closes before that resets the connection to the peer.
func (s *Stream) Finish() error {
	if _, err := io.Copy(io.Discard, s.answer); err != nil {
		return s.failed(unexpected(err))
	}
	return nil
}

// failed turns the end of the daemon into ErrNoDaemon.
func (s *Stream) failed(err error) error {
	var remote *Error
	if errors.Is(err, io.EOF) || errors.As(err, &remote) {
		return err
	}
	return s.client.explain(s.ctx, err)
}

// readFrame reads the head of a frame, and returns the length of its data. At the end it
// returns io.EOF; the error of a broken connection is an *Error.
func readFrame(r io.Reader) (data int, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, unexpected(err)
	}
	n := int(head[1])<<8 | int(head[2])
	switch head[0] {
	case frameData:
		return n, nil
	case frameEnd:
		return 0, io.EOF
	case frameFailed:
		text, err := io.ReadAll(io.LimitReader(r, int64(n)))
		if err != nil || len(text) < n {
			return 0, io.ErrUnexpectedEOF
		}
		message, try, _ := strings.Cut(string(text), "; try: ")
		return 0, &Error{Code: CodeInternal, Message: message, Try: try}
	}
	return 0, errFrame
}

var errFrame = errors.New("the daemon sends something unknown")

// unexpected is an error of reading within frames, which have an end of their own.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write sends to the peer.
func (s *Stream) Write(b []byte) (int, error) {
	n, err := s.send.Write(b)
	if err != nil {
		err = s.client.explain(s.ctx, err)
	}
	return n, err
}

// CloseWrite ends our direction.
func (s *Stream) CloseWrite() error { return s.send.Close() }

// Close ends the connection. If both directions have not ended, the peer sees a reset.
func (s *Stream) Close() error {
	_ = s.send.CloseWithError(net.ErrClosed) // not an end, unless there was one
	s.cancel()
	return s.answer.Close()
}
