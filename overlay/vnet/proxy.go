package vnet

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// ProxyConfig says what an HTTP proxy is like. The zero value passes on what comes as it comes,
// for everyone.
type ProxyConfig struct {
	Buffers        bool   // it passes on bodies only when it has them whole
	User, Password string // that it asks for (Basic); no User: it asks for nothing
	NoConnect      bool   // it refuses CONNECT
}

// Proxy is an HTTP/1.1 proxy on a host: it takes requests with whole URLs, and CONNECT. Names of
// hosts must be addresses.
type Proxy struct {
	host    *Host
	cfg     ProxyConfig
	server  service
	client  *http.Transport
	tunnels sync.WaitGroup
}

// Proxy starts a proxy on a TCP port of the host. Close it before the bubble ends.
func (h *Host) Proxy(port uint16, c ProxyConfig) (*Proxy, error) {
	p := &Proxy{host: h, cfg: c, client: &http.Transport{DialContext: h.Dial, DisableCompression: true}}
	return p, p.server.start(h, port, p)
}

// Close ends the proxy and all that goes through it.
func (p *Proxy) Close() {
	p.server.stop()
	p.client.CloseIdleConnections()
	p.tunnels.Wait()
}

// service is an HTTP server on a host, whose requests end with it.
type service struct {
	server  http.Server
	ctx     context.Context
	end     context.CancelFunc
	running sync.WaitGroup
}

func (s *service) start(h *Host, port uint16, handler http.Handler) error {
	l, err := h.ListenTCP(port)
	if err != nil {
		return err
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.server.BaseContext = func(net.Listener) context.Context { return s.ctx }
	s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		handler.ServeHTTP(w, r)
	})
	s.running.Go(func() { s.server.Serve(l) })
	return nil
}

func (s *service) stop() {
	if s.end != nil {
		s.end()
		s.server.Close()
		s.running.Wait()
	}
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !p.knows(r):
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect && p.cfg.NoConnect:
		http.Error(w, "no tunnels here", http.StatusForbidden)
	case r.Method == http.MethodConnect:
		p.tunnel(w, r)
	case !r.URL.IsAbs():
		http.Error(w, "this is a proxy", http.StatusBadRequest)
	default:
		p.forward(w, r)
	}
}

// knows checks the credentials.
func (p *Proxy) knows(r *http.Request) bool {
	if p.cfg.User == "" {
		return true
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.cfg.User+":"+p.cfg.Password))
	return subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) == 1
}

// hopByHop are the headers that a proxy does not pass on (RFC 9110, 7.6.1).
var hopByHop = [...]string{"Connection", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// forward sends a request on.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	for _, name := range hopByHop {
		out.Header.Del(name)
	}
	if p.cfg.Buffers {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	} else {
		// An error means a protocol that has no need of it.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	answer, err := p.client.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	for _, name := range hopByHop {
		w.Header().Del(name)
	}
	p.answer(w, answer)
}

// answer passes on a body.
func (p *Proxy) answer(w http.ResponseWriter, answer *http.Response) {
	if p.cfg.Buffers {
		if body, err := io.ReadAll(answer.Body); err == nil {
			w.WriteHeader(answer.StatusCode)
			w.Write(body)
		}
		return
	}
	w.WriteHeader(answer.StatusCode)
	flush := http.NewResponseController(w)
	flush.Flush()
	for b := make([]byte, 32<<10); ; {
		n, err := answer.Body.Read(b)
		if n > 0 {
			if _, e := w.Write(b[:n]); e != nil || flush.Flush() != nil {
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			if c, _, e := flush.Hijack(); e == nil {
				c.Close() // so that the client sees that a part is missing
			}
			return
		}
	}
}

// tunnel joins the client to where it wants to connect.
func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	there, err := p.host.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		return
	}
	both := func() { here.Close(); there.Close() }
	stop := context.AfterFunc(p.server.ctx, both)
	defer stop()
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	p.tunnels.Go(func() {
		io.Copy(there, buffered)
		both()
	})
	io.Copy(here, there)
	both()
}

// Portal is what keeps guests of a network from the internet until somebody has agreed to
// something on a page.
type Portal struct {
	host   *Host
	page   string
	server service

	agreed bool // under the world's mu
}

// Captive has the site's router answer all HTTP from the inside by a page, and drop the rest,
// until Agree. Close it before the bubble ends.
func (s *Site) Captive(page string) (*Portal, error) {
	p := &Portal{host: s.Router, page: page}
	if err := p.server.start(s.Router, 80, p); err != nil {
		return nil, err
	}
	s.Router.w.mu.Lock()
	defer s.Router.w.mu.Unlock()
	s.Router.portal = p
	return p, nil
}

// ServeHTTP implements http.Handler.
func (p *Portal) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	io.WriteString(w, p.page)
}

// Agree lets everything through from now on.
func (p *Portal) Agree() {
	p.host.w.mu.Lock()
	defer p.host.w.mu.Unlock()
	p.agreed = true
}

// Close ends the portal's server; what it stopped is stopped still.
func (p *Portal) Close() { p.server.stop() }

// stops reports whether it takes or drops a packet that comes to the router.
func (p *Portal) stops(in *Interface, x *packet) bool {
	h, to := p.host, x.to
	switch {
	case h.nat != nil && in == h.nat.outside, in.broadcast(to.Addr()):
		return false
	case x.seg != nil && to.Port() == 80 && (!p.agreed || h.streams.open[streamKey{to, x.from}] != nil):
		h.segments(*x)
	case p.agreed:
		return false
	default:
		h.w.count["drop_portal"]++
	}
	return true
}
