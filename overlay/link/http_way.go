package link

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	agent  = "anode"
	maxURL = 1 << 10
)

// parseURL takes the URL of an endpoint. Names and passwords in it are not used.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case len(s) > maxURL || err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, trouble(Unreachable, "%.60q is not the URL of a server", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, trouble(Unreachable, "%.60q begins with neither http:// nor https://", s)
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	return u, nil
}

// way is how requests get to one URL.
type way struct {
	m     *Mux
	url   *url.URL
	proxy *url.URL // that sees the requests; nil: none
	http  *http.Transport
}

// newWay prepares one; it opens no connection.
func (m *Mux) newWay(u *url.URL) (*way, error) {
	proxy, err := m.proxyFor(u)
	if err != nil {
		return nil, trouble(ProxyRefused, "%w", err)
	}
	w := &way{m: m, url: u, proxy: proxy, http: &http.Transport{
		DisableCompression:     true,
		MaxIdleConnsPerHost:    maxUploads,
		MaxConnsPerHost:        2 * maxUploads,
		IdleConnTimeout:        idleConnFor - 5*time.Second, // ends before the server ends it
		TLSHandshakeTimeout:    dialFor,
		MaxResponseHeaderBytes: maxProxyHeader,
		TLSClientConfig:        m.tlsConfig(""),
	}}
	w.http.TLSClientConfig.ServerName = "" // each host's own
	tunnel := proxy != nil && u.Scheme == "https" && !strings.HasPrefix(proxy.Scheme, "socks")
	if proxy != nil && !tunnel {
		w.http.Proxy = http.ProxyURL(proxy)
	}
	w.http.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialFor)
		defer cancel()
		if tunnel {
			return m.tunnel(ctx, proxy, address)
		}
		conn, err := m.cfg.Streams.Dial(ctx, network, address)
		if err != nil && proxy != nil {
			err = trouble(Unreachable, "proxy %s: %w", proxy.Host, err)
		}
		return conn, err
	}
	return w, nil
}

func (w *way) close() { w.http.CloseIdleConnections() }

// do makes one request, and again if a proxy wants to know who we are.
func (w *way) do(ctx context.Context, q query, body *posted) (*http.Response, error) {
	for tries := 0; ; tries++ {
		r, err := w.request(ctx, q, body)
		if err != nil {
			return nil, err
		}
		asks := w.proxy != nil && w.url.Scheme == "http"
		answered := ""
		if asks {
			answered = w.m.proxies.authorize(w.m.cfg.Credentials, w.proxy, r, r.URL.String())
		}
		answer, err := w.http.RoundTrip(r)
		if err != nil {
			return nil, troubleOf(err)
		}
		if answer.StatusCode != http.StatusProxyAuthRequired {
			return answer, nil
		}
		discard(answer)
		if !asks || tries >= maxAnswers || !w.m.proxies.challenge(w.m.cfg.Credentials, w.proxy, answer, answered) {
			return nil, trouble(ProxyAuth, "%s", answer.Status)
		}
	}
}

// request makes one that can be repeated where it did not get through: packets may come twice.
func (w *way) request(ctx context.Context, q query, body *posted) (*http.Request, error) {
	u := *w.url
	u.RawQuery = q.append(u.RawQuery)
	if u.Path == "" {
		u.Path = "/"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return nil, trouble(Unreachable, "%w", err)
	}
	r.Header = http.Header{"Content-Type": {octets}, "User-Agent": {agent}, "Cache-Control": {"no-store"}, "Idempotency-Key": {}}
	if body != nil {
		if r.Body, err = body.reader(); err != nil {
			return nil, trouble(Unreachable, "%w", err)
		}
		r.ContentLength = int64(len(body.b))
		r.GetBody = func() (io.ReadCloser, error) { return body.reader() }
	}
	return r, nil
}

// redirect returns where an answer says that the same host is, by https; nil: it does not.
func (w *way) redirect(answer *http.Response) *url.URL {
	switch answer.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil
	}
	to, err := answer.Location()
	if err != nil || w.url.Scheme != "http" || to.Scheme != "https" || !strings.EqualFold(to.Hostname(), w.url.Hostname()) {
		return nil
	}
	next := *to
	next.User, next.Fragment, next.RawFragment, next.RawQuery = nil, "", "", w.url.RawQuery
	return &next
}

// judge returns what is wrong with an answer, a *Trouble, or nil.
func judge(answer *http.Response, proxied bool) error {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	page := kind == "text/html" || kind == "application/xhtml+xml"
	code := answer.StatusCode
	says := fmt.Errorf("it answers %.60q", answer.Status)
	switch {
	case code == http.StatusNetworkAuthenticationRequired, 300 <= code && code < 400, code == http.StatusOK && page:
		return &Trouble{CaptivePortal, says}
	case code == http.StatusOK || code == http.StatusNoContent:
		return nil
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && !proxied:
		return &Trouble{Busy, says}
	case code == http.StatusConflict, code == http.StatusRequestTimeout, code == http.StatusBadGateway && !proxied, code == http.StatusGatewayTimeout:
		return &Trouble{Unreachable, says}
	case proxied && (code == http.StatusForbidden || code >= 500):
		return &Trouble{ProxyRefused, says}
	}
	return &Trouble{NotAnode, says}
}
