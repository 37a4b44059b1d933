package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// directFor is how long a direct connection has before one by the proxy is tried as well.
	directFor = 1500 * time.Millisecond
	// maxProxyHeader bounds what a proxy answers to CONNECT.
	maxProxyHeader = 16 << 10
)

// proxyFor returns the proxy for a URL, without credentials; nil: none.
func (m *Mux) proxyFor(u *url.URL) (*url.URL, error) {
	if m.cfg.Proxy == nil {
		return nil, nil
	}
	p, err := m.cfg.Proxy(u)
	if p == nil || err != nil {
		return nil, err
	}
	m.proxies.learnUser(p)
	bare := *p
	bare.User = nil
	if bare.Scheme == "" {
		bare.Scheme = "http"
	}
	return &bare, nil
}

// proxyAddress is HOST:PORT of a proxy.
func proxyAddress(p *url.URL) string {
	port := p.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[p.Scheme]
	}
	return net.JoinHostPort(p.Hostname(), port)
}

// reach opens a connection to IP:PORT: directly, or by a proxy if there is one and the direct way
// takes too long or fails.
func (m *Mux) reach(ctx context.Context, address string) (net.Conn, error) {
	proxy, err := m.proxyFor(&url.URL{Scheme: "https", Host: address})
	if err != nil || proxy == nil {
		return m.cfg.Streams.Dial(ctx, "tcp", address)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results, failed := make(chan result), make(chan struct{})
	go func() {
		conn, err := m.cfg.Streams.Dial(ctx, "tcp", address)
		if err != nil {
			close(failed)
		}
		results <- result{conn, err}
	}()
	go func() {
		wait := time.NewTimer(directFor)
		defer wait.Stop()
		select {
		case <-failed:
		case <-wait.C:
		case <-ctx.Done():
			results <- result{nil, ctx.Err()}
			return
		}
		conn, err := m.tunnel(ctx, proxy, address)
		results <- result{conn, err}
	}()
	var won net.Conn
	for range 2 { // each ends soon once the other has won
		r := <-results
		switch {
		case r.err != nil:
			// That of the proxy says more.
			if t := troubleOf(r.err); err == nil || t.Kind != Unreachable {
				err = r.err
			}
		case won != nil:
			r.conn.Close()
		default:
			won = r.conn
			cancel()
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, err
}

// tunnel opens a connection to HOST:PORT by a proxy's CONNECT. Its error may be a *Trouble.
func (m *Mux) tunnel(ctx context.Context, proxy *url.URL, address string) (net.Conn, error) {
	if proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil, trouble(ProxyRefused, "a proxy of the kind %q cannot be used; try: one that begins with http://", proxy.Scheme)
	}
	for range maxAnswers {
		conn, again, err := m.connect(ctx, proxy, address)
		if err != nil || conn != nil {
			return conn, err
		}
		if !again {
			break
		}
	}
	return nil, trouble(ProxyAuth, "%s", proxy.Host)
}

// connect asks a proxy once. again says that the proxy wants other credentials, and that there are
// some.
func (m *Mux) connect(ctx context.Context, proxy *url.URL, address string) (_ net.Conn, again bool, err error) {
	conn, err := m.cfg.Streams.Dial(ctx, "tcp", proxyAddress(proxy))
	if err != nil {
		return nil, false, trouble(Unreachable, "proxy %s: %w", proxy.Host, err)
	}
	keep := false
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if stop(); !keep {
			conn.Close()
		}
	}()
	if proxy.Scheme == "https" {
		secure := tls.Client(conn, m.tlsConfig(proxy.Hostname()))
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, false, err
		}
		conn = secure
	}
	if until, ok := ctx.Deadline(); ok {
		conn.SetDeadline(until)
	}
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {agent}}}
	answered := m.proxies.authorize(m.cfg.Credentials, proxy, ask, address)
	if err := ask.Write(conn); err != nil {
		return nil, false, trouble(Unreachable, "proxy %s: %w", proxy.Host, err)
	}
	in := bufio.NewReader(io.LimitReader(conn, maxProxyHeader))
	answer, err := http.ReadResponse(in, ask)
	if err != nil {
		return nil, false, trouble(ProxyRefused, "%s does not answer as a proxy: %w", proxy.Host, err)
	}
	switch {
	case answer.StatusCode == http.StatusOK:
		first, _ := in.Peek(in.Buffered())
		conn.SetDeadline(time.Time{})
		if keep = stop(); !keep {
			return nil, false, ctx.Err()
		}
		return &begunConn{Conn: conn, first: first}, false, nil
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return nil, m.proxies.challenge(m.cfg.Credentials, proxy, answer, answered), nil
	}
	return nil, false, trouble(ProxyRefused, "%s answers %s for %s", proxy.Host, answer.Status, address)
}

// tlsConfig is how servers and proxies prove who they are.
func (m *Mux) tlsConfig(host string) *tls.Config {
	return &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: m.cfg.Roots}
}
