package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// directFor is how long a direct connection has before one by the proxy is tried as well.
	directFor = 1500 * time.Millisecond
	// maxProxyHeader bounds what a proxy answers to CONNECT.
	maxProxyHeader = 16 << 10
)

// onward opens connections by proxies.
type onward struct {
	cfg     *MuxConfig // Streams, Proxy, Credentials and Roots of it
	proxies proxies
}

// proxyFor returns the proxy for a URL, without credentials; nil: none.
func (o *onward) proxyFor(u *url.URL) (*url.URL, error) {
	if o.cfg.Proxy == nil {
		return nil, nil
	}
	p, err := o.cfg.Proxy(u)
	if p == nil || err != nil {
		return nil, err
	}
	o.proxies.learnUser(p)
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
	proxy, err := m.onward.proxyFor(&url.URL{Scheme: "https", Host: address})
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
		conn, err := m.onward.tunnel(ctx, proxy, address)
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
func (o *onward) tunnel(ctx context.Context, proxy *url.URL, address string) (net.Conn, error) {
	if proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil, trouble(ProxyRefused, "a proxy of the kind %q cannot be used; try: one that begins with http://", proxy.Scheme)
	}
	answered := ""
	for range maxAnswers {
		conn, with, again, err := o.connect(ctx, proxy, address)
		if err != nil || conn != nil {
			return conn, err
		}
		answered = with
		if !again {
			break
		}
	}
	return nil, unknownTo(proxy, answered)
}

// connect asks a proxy once. again says that the proxy wants other credentials than those that were
// answered, and that there are some.
func (o *onward) connect(ctx context.Context, proxy *url.URL, address string) (_ net.Conn, answered string, again bool, err error) {
	conn, err := o.cfg.Streams.Dial(ctx, "tcp", proxyAddress(proxy))
	if err != nil {
		return nil, "", false, notReached(proxy, err)
	}
	keep := false
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if stop(); !keep {
			conn.Close()
		}
	}()
	if proxy.Scheme == "https" {
		secure := tls.Client(conn, o.tlsConfig(proxy.Hostname()))
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, "", false, err
		}
		conn = secure
	}
	if until, ok := ctx.Deadline(); ok {
		conn.SetDeadline(until)
	}
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {agent}}}
	answered = o.proxies.authorize(o.cfg.Credentials, proxy, ask, address)
	if err := ask.Write(conn); err != nil {
		return nil, "", false, notReached(proxy, err)
	}
	in := bufio.NewReader(io.LimitReader(conn, maxProxyHeader))
	answer, err := http.ReadResponse(in, ask)
	if err != nil {
		return nil, "", false, trouble(ProxyRefused, "%s does not answer as a proxy does", proxy.Host)
	}
	switch {
	case answer.StatusCode == http.StatusOK:
		first, _ := in.Peek(in.Buffered())
		conn.SetDeadline(time.Time{})
		if keep = stop(); !keep {
			return nil, "", false, ctx.Err()
		}
		return &begunConn{Conn: conn, first: first}, "", false, nil
	case answer.StatusCode == http.StatusProxyAuthRequired:
		return nil, answered, o.proxies.challenge(o.cfg.Credentials, proxy, answer, answered), nil
	case refusesUser(answer, answered, true):
		return nil, answered, false, nil
	}
	return nil, "", false, trouble(ProxyRefused, "%s answers %s for %s", proxy.Host, answer.Status, address)
}

// notReached is the trouble where a proxy itself cannot be reached. It does not unwrap to the
// error, which is no server's.
func notReached(proxy *url.URL, err error) *Trouble {
	return trouble(Unreachable, "the proxy %s cannot be reached: %s", proxy.Host, plainly(err))
}

// refusesUser reports whether an answer is a proxy's own, and says that the credentials are wrong:
// some say 401 then, as servers do, and not 407. answered is what the request had. What comes from
// a server has the names of the proxies on the way.
func refusesUser(answer *http.Response, answered string, connect bool) bool {
	return answer.StatusCode == http.StatusUnauthorized && answered != "" && (connect || answer.Header.Get("Via") == "")
}

// unknownTo is the trouble where a proxy does not take who we say we are; answered: "" if we said
// nothing.
func unknownTo(proxy *url.URL, answered string) *Trouble {
	if answered == "" {
		return trouble(ProxyAuth, "%s asks for a user name and a password", proxy.Host)
	}
	return trouble(ProxyAuth, "%s refuses the user name and the password", proxy.Host)
}

// transport makes what carries requests for one URL, by the proxy, or directly if that is nil. seen
// says that the proxy sees the requests: they are to have the credentials.
func (o *onward) transport(u, proxy *url.URL) (t *http.Transport, seen bool) {
	t = &http.Transport{
		DisableCompression:     true,
		TLSHandshakeTimeout:    dialFor,
		MaxResponseHeaderBytes: maxProxyHeader,
		TLSClientConfig:        o.tlsConfig(""), // each host has a name of its own
	}
	tunnel := proxy != nil && u.Scheme == "https" && !strings.HasPrefix(proxy.Scheme, "socks")
	if proxy != nil && !tunnel {
		t.Proxy = http.ProxyURL(proxy)
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialFor)
		defer cancel()
		if tunnel {
			return o.tunnel(ctx, proxy, address)
		}
		conn, err := o.cfg.Streams.Dial(ctx, network, address)
		if err != nil && proxy != nil {
			err = notReached(proxy, err)
		}
		return conn, err
	}
	return t, proxy != nil && u.Scheme == "http"
}

// request makes a request, and again if a proxy that sees it wants to know who we are. next makes
// it anew. The error is a *Trouble.
func (o *onward) request(t *http.Transport, proxy *url.URL, seen bool, next func() (*http.Request, error)) (*http.Response, error) {
	for tries := 0; ; tries++ {
		r, err := next()
		if err != nil {
			return nil, troubleOf(err)
		}
		answered := ""
		if seen {
			if r.URL.Path == "" {
				r.URL.Path = "/" // as it is sent
			}
			answered = o.proxies.authorize(o.cfg.Credentials, proxy, r, r.URL.String())
		}
		answer, err := t.RoundTrip(r)
		switch {
		case err != nil:
			return nil, troubleOf(err)
		case seen && refusesUser(answer, answered, false):
			discard(answer)
			return nil, unknownTo(proxy, answered)
		case answer.StatusCode != http.StatusProxyAuthRequired:
			return answer, nil
		}
		discard(answer)
		switch {
		case !seen: // a server has no business to ask for this
			return nil, trouble(NotAnode, "it answers %.60q", answer.Status)
		case tries >= maxAnswers || !o.proxies.challenge(o.cfg.Credentials, proxy, answer, answered):
			return nil, unknownTo(proxy, answered)
		}
	}
}

// ByProxy makes requests without a body by the proxy that there is for each URL, and answers what
// that asks for. Its errors are *Trouble. Any goroutine may use it.
type ByProxy struct {
	onward onward
}

var _ http.RoundTripper = (*ByProxy)(nil)

// NewByProxy makes one from Streams, Proxy, Credentials and Roots of a configuration.
func NewByProxy(cfg MuxConfig) *ByProxy {
	return &ByProxy{onward{cfg: &cfg}}
}

// RoundTrip implements http.RoundTripper. Each request has a connection of its own.
func (b *ByProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	proxy, err := b.onward.proxyFor(r.URL)
	if err != nil {
		return nil, badProxy()
	}
	t, seen := b.onward.transport(r.URL, proxy)
	t.DisableKeepAlives = true
	answer, err := b.onward.request(t, proxy, seen, func() (*http.Request, error) { return r.Clone(r.Context()), nil })
	if err != nil {
		return nil, err
	}
	if seen && answer.StatusCode != http.StatusOK && answer.Header.Get("Via") == "" {
		if t, ok := errors.AsType[*Trouble](judge(answer, true)); ok && t.Kind == ProxyRefused {
			discard(answer)
			return nil, t
		}
	}
	return answer, nil
}

// badProxy is the trouble where the settings name no proxy that can be used.
func badProxy() *Trouble {
	return trouble(ProxyRefused, "its URL in the settings cannot be used")
}

// tlsConfig is how servers and proxies prove who they are.
func (o *onward) tlsConfig(host string) *tls.Config {
	return &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: o.cfg.Roots}
}
