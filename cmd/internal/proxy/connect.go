package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxRequest is the most bytes of a request to the HTTP proxy.
const maxRequest = 16 << 10

// connect serves a connection of a program to the HTTP proxy. CONNECT alone is served: a
// page in a browser can send other methods to any port of this machine.
func (s *Service) connect(ctx context.Context, c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(maxHandshake))
	whole := &io.LimitedReader{R: c, N: maxRequest}
	r := bufio.NewReaderSize(whole, 4096)
	host, port, err := readConnect(r)
	if err != nil {
		s.counts.handshake.Add(1)
		if errors.Is(err, errNotConnect) || errors.Is(err, errNoTarget) {
			connectRefuse(c, err)
		}
		return false
	}
	whole.N = math.MaxInt64 // the limit is that of the request
	_ = c.SetDeadline(time.Time{})
	waits, stop := patient(ctx, c, r)
	far, err := s.Dial(waits, "tcp", host, port)
	stop()
	if err != nil {
		_ = c.SetDeadline(time.Now().Add(maxHandshake))
		connectRefuse(c, err)
		return false
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connected\r\n\r\n"); err != nil {
		abort(far)
		return false
	}
	_ = Splice(ctx, &ahead{c, r}, far) // both sides have seen it
	return true
}

// Errors of requests to the HTTP proxy.
var (
	errNotConnect = errors.New("only CONNECT is served")
	errNoTarget   = errors.New("CONNECT wants HOST:PORT")
)

// readConnect reads a CONNECT.
func readConnect(r *bufio.Reader) (host string, port uint16, err error) {
	request, err := http.ReadRequest(r)
	switch {
	case errors.As(err, new(net.Error)), errors.Is(err, io.EOF):
		return "", 0, err
	case err != nil:
		return "", 0, errNoTarget
	}
	if request.Method != http.MethodConnect {
		return "", 0, errNotConnect
	}
	host, number, err := net.SplitHostPort(request.RequestURI)
	port, ok := parsePort(number, 1)
	if err != nil || !ok || host == "" {
		return "", 0, errNoTarget
	}
	return host, port, nil
}

// connectRefuse answers a request that is not served.
func connectRefuse(c net.Conn, err error) {
	status, text := http.StatusBadGateway, err.Error()
	switch {
	case errors.Is(err, errNotConnect):
		status = http.StatusMethodNotAllowed
		text = "This is the proxy of an Anode node. It serves only CONNECT, which programs use for https.\n" +
			"For other requests use its SOCKS5 proxy, or tell the program to tunnel: curl --proxytunnel."
	case errors.Is(err, errNoTarget):
		status = http.StatusBadRequest
	default:
		switch failingOf(err) {
		case failNotPeer:
			status = http.StatusForbidden
			text += "; this proxy reaches only peers (anode peers list)"
		case failUnreachable:
			status = http.StatusGatewayTimeout
		case failRefused, failOther:
		}
	}
	allow := ""
	if status == http.StatusMethodNotAllowed {
		allow = "Allow: CONNECT\r\n"
	}
	text += "\n"
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), allow, strconv.Itoa(len(text)), text)
	linger(c)
}

// linger ends a connection so that the other side can still read the answer: what it sent
// beyond the request would otherwise reset the connection.
func linger(c net.Conn) {
	_ = closeWrite(c)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c, maxRequest)
}
