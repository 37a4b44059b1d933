package control

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/proxy"
)

// Datagrams of one port of a peer. The body of the request is datagrams, length[2] data; the
// answer is frames, as that of a connection, each with one datagram. The client's end ends both.

// datagrams exchanges datagrams with a port of a peer.
func (s *Server) datagrams(ending context.Context, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := until(r.Context(), ending)
	defer cancel()
	stream := http.NewResponseController(w)
	wake := func() { _ = stream.SetReadDeadline(time.Now()) }
	defer wake()
	err := errors.Join(stream.EnableFullDuplex(), stream.SetReadDeadline(time.Time{}), stream.SetWriteDeadline(time.Time{}))
	var peer net.Conn
	if err == nil {
		peer, err = s.dial(ctx, "udp", r.URL.Query())
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	defer peer.Close()
	if stream.Flush() != nil {
		return
	}
	done := make(chan struct{}) // from here on w is that goroutine's
	stop := context.AfterFunc(ctx, func() {
		peer.Close()
		wake()
	})
	go func() {
		defer close(done)
		answers(&framed{w: w, flush: stream.Flush}, peer)
		wake()
	}()
	questions(peer, r.Body)
	stop()
	peer.Close()
	<-done
}

// questions sends what the client sends, until its end or a failure.
func questions(peer net.Conn, body io.Reader) {
	b := make([]byte, 1<<16)
	for {
		if _, err := io.ReadFull(body, b[:2]); err != nil {
			return
		}
		data := b[:binary.BigEndian.Uint16(b)]
		if _, err := io.ReadFull(body, data); err != nil {
			return
		}
		_, _ = peer.Write(data) // what is lost is lost; the next read says why
	}
}

// answers passes on what the peer sends, until the socket is closed or fails.
func answers(client *framed, peer net.Conn) {
	b := make([]byte, 1<<16)
	for {
		n, err := peer.Read(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			_ = client.CloseWrite()
			return
		case errors.Is(err, syscall.ECONNREFUSED):
			_ = client.frame(frameFailed, []byte("connection refused: nothing listens on that UDP port of the peer; try: on the peer: start the service, or without an adapter anode expose --udp PORT"))
			return
		case err != nil:
			client.Abort()
			return
		}
		if client.frame(frameData, b[:n]) != nil {
			return
		}
	}
}

// Datagrams is a socket that exchanges datagrams with one port of a peer through the daemon.
// One goroutine may receive while another one sends.
type Datagrams struct{ s *Stream }

// OpenDatagrams opens a socket to a UDP port of a peer. ctx ends it.
func (c *Client) OpenDatagrams(ctx context.Context, a anode.Address, port uint16) (*Datagrams, error) {
	s, err := c.openStream(ctx, "datagrams", a, port)
	if err != nil {
		return nil, err
	}
	return &Datagrams{s}, nil
}

// openStream opens what the body of a request and of its answer carry.
func (c *Client) openStream(ctx context.Context, path string, a anode.Address, port uint16) (*Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	body, send := io.Pipe()
	c = c.once(ctx, send)
	q := url.Values{"address": {a.String()}, "port": {strconv.Itoa(int(port))}}
	answer, err := c.exchangeBodies(ctx, http.MethodPost, path+"?"+q.Encode(), body)
	if err != nil {
		cancel()
		return nil, err
	}
	return &Stream{client: c, ctx: ctx, cancel: cancel, send: send, answer: answer}, nil
}

// Send sends a datagram of at most 65527 bytes; longer ones are an error.
func (d *Datagrams) Send(b []byte) error {
	if len(b) > proxy.MostDatagram {
		return syscall.EMSGSIZE
	}
	_, err := d.s.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b))), b...))
	return err
}

// Receive waits for a datagram. It returns an *Error if the peer refuses datagrams, and io.EOF
// at the end.
func (d *Datagrams) Receive() ([]byte, error) {
	s := d.s
	if s.err != nil {
		return nil, s.failed(s.err)
	}
	n, err := readFrame(s.answer)
	b := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(s.answer, b)
		err = unexpected(err)
	}
	if err != nil {
		s.err = err
		return nil, s.failed(err)
	}
	return b, nil
}

// Close ends the socket.
func (d *Datagrams) Close() error { return d.s.Close() }
