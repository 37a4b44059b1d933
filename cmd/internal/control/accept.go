package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"anodenet/cmd/internal/proxy"
)

// accept waits for one connection of a peer to a port of the node: the body of the request
// goes to the peer, and what the peer sends comes back in frames, after one with its address.
// The wait ends when the client leaves.
func (s *Server) accept(ending context.Context, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := until(r.Context(), ending)
	defer cancel()
	stream := http.NewResponseController(w)
	err := errors.Join(stream.EnableFullDuplex(), stream.SetReadDeadline(time.Time{}), stream.SetWriteDeadline(time.Time{}))
	if err != nil {
		reply(w, nil, err)
		return
	}
	wake := func() { _ = stream.SetReadDeadline(time.Now()) }
	body := newWatched(r.Body, cancel)
	defer func() {
		wake()
		<-body.looked
	}()
	peer, err := s.acceptOne(ctx, r.URL.Query())
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer peer.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	client := &framed{body: body, w: w, flush: stream.Flush, wake: wake}
	if _, err := client.Write([]byte(peer.RemoteAddr().String())); err != nil {
		return
	}
	_ = proxy.Splice(ctx, client, peer) // the client is told
}

// acceptOne waits for the connection that a request asks for.
func (s *Server) acceptOne(ctx context.Context, q url.Values) (net.Conn, error) {
	port, err := strconv.ParseUint(q.Get("port"), 10, 16)
	switch {
	case err != nil || port == 0:
		return nil, &Error{Code: CodeInvalid, Message: "port: want 1 to 65535"}
	case s.local == nil:
		return nil, errNoLocal
	}
	return s.local.Accept(ctx, uint16(port))
}

// watched is a body whose end is noticed while nobody reads it.
type watched struct {
	in     *bufio.Reader
	looked chan struct{} // closed when the first byte, or the end, has come
}

// newWatched calls gone if the body ends before its first byte.
func newWatched(body io.Reader, gone func()) *watched {
	w := &watched{in: bufio.NewReaderSize(body, maxFrame), looked: make(chan struct{})}
	go func() {
		defer close(w.looked)
		if _, err := w.in.Peek(1); err != nil {
			gone()
		}
	}()
	return w
}

// Read implements io.Reader.
func (w *watched) Read(b []byte) (int, error) {
	<-w.looked
	return w.in.Read(b)
}

// Accept waits for one connection of an added peer to a port of the node. It returns the
// peer's ULA and port too. ctx ends the wait and the connection.
func (c *Client) Accept(ctx context.Context, port uint16) (*Stream, netip.AddrPort, error) {
	ctx, cancel := context.WithCancel(ctx)
	body, send := io.Pipe()
	c = c.once(ctx, send)
	answer, err := c.exchangeBodies(ctx, http.MethodPost, "accept?port="+strconv.Itoa(int(port)), body)
	if err != nil {
		cancel()
		return nil, netip.AddrPort{}, err
	}
	s := &Stream{client: c, ctx: ctx, cancel: cancel, send: send, answer: answer}
	from, err := s.remote()
	if err != nil {
		s.Close()
		return nil, netip.AddrPort{}, err
	}
	return s, from, nil
}

// once returns a client for one request, whose body comes from a pipe. The pipe ends with the
// connection or ctx: a request does not end while its body is being read.
func (c *Client) once(ctx context.Context, send *io.PipeWriter) *Client {
	one := NewClient(c.socket)
	t := one.http.Transport.(*http.Transport)
	t.DisableKeepAlives = true
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return hooked{conn, func() { send.CloseWithError(io.ErrUnexpectedEOF) }}, nil
	}
	context.AfterFunc(ctx, func() { send.CloseWithError(context.Cause(ctx)) })
	return one
}

// hooked is a connection that tells when it is closed.
type hooked struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (h hooked) Close() error {
	h.closed()
	return h.Conn.Close()
}

// remote reads the first frame, which is an address.
func (s *Stream) remote() (netip.AddrPort, error) {
	n, err := readFrame(s.answer)
	if err != nil {
		return netip.AddrPort{}, s.failed(err)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(s.answer, text); err != nil {
		return netip.AddrPort{}, s.failed(unexpected(err))
	}
	from, err := netip.ParseAddrPort(string(text))
	if err != nil {
		return netip.AddrPort{}, errFrame
	}
	return from, nil
}
