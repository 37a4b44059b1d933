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
	onward *onward
	url    *url.URL
	proxy  *url.URL // nil: none
	seen   bool     // the proxy sees the requests
	http   *http.Transport
}

// newWay prepares one; it opens no connection.
func (m *Mux) newWay(u *url.URL) (*way, error) {
	proxy, err := m.onward.proxyFor(u)
	if err != nil {
		return nil, badProxy()
	}
	w := &way{onward: &m.onward, url: u, proxy: proxy}
	w.http, w.seen = m.onward.transport(u, proxy)
	w.http.MaxIdleConnsPerHost, w.http.MaxConnsPerHost = maxUploads, 2*maxUploads
	dial := w.http.DialContext
	w.http.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return postConn{conn}, nil
	}
	w.http.IdleConnTimeout = idleConnFor - 5*time.Second // ends before the server ends it
	return w, nil
}

func (w *way) close() { w.http.CloseIdleConnections() }

// do makes one request. Its error is a *Trouble.
func (w *way) do(ctx context.Context, q query, body *posted) (*http.Response, error) {
	return w.onward.request(w.http, w.proxy, w.seen, func() (*http.Request, error) { return w.request(ctx, q, body) })
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
		return nil, troubleOf(err)
	}
	r.Header = http.Header{"Content-Type": {octets}, "User-Agent": {agent}, "Cache-Control": {"no-store"}, "Idempotency-Key": {}}
	if body != nil {
		if r.Body, err = body.reader(); err != nil {
			return nil, troubleOf(err)
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
	says := said{fmt.Errorf("it answers %.60q", answer.Status)}
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
