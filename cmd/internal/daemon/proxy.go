package daemon

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
)

// proxies says by which proxy a URL is reached, and who we are there. Any goroutine may call its
// methods.
type proxies struct {
	now atomic.Pointer[proxySettings]
}

type proxySettings struct {
	choose         func(*url.URL) (*url.URL, error)
	user, password string
}

// set takes up the settings of a configuration. If the credentials cannot be read, nothing
// changes.
func (p *proxies) set(c config.Config) error {
	user, password, err := c.Credentials.Load()
	if err != nil {
		return fmt.Errorf("proxy_credentials: %w", err)
	}
	p.now.Store(&proxySettings{chooser(c.Proxy), user, password})
	return nil
}

// chooser returns what finds the proxy for a URL.
func chooser(p config.Proxy) func(*url.URL) (*url.URL, error) {
	var one *url.URL // nil: none
	if text := p.URL(); text != "" {
		one, _ = url.Parse(text) // it was read before
	} else if !p.None() {
		return func(u *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: u}) }
	}
	return func(*url.URL) (*url.URL, error) { return one, nil }
}

// proxyOf returns the proxy for a URL, nil for none.
func (p *proxies) proxyOf(u *url.URL) (*url.URL, error) { return p.now.Load().choose(u) }

// fetcher gets the file of the own zone by a proxy if there is one and the file cannot be got
// directly. Those of other zones it leaves alone: nobody could check where the proxy connects to.
func (p *proxies) fetcher(own anode.Zone, direct zoneFetcher) zoneFetcher {
	client := &http.Client{Transport: &http.Transport{
		Proxy:                  p.named,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		ResponseHeaderTimeout:  proxyPatience,
		TLSHandshakeTimeout:    proxyPatience,
		MaxResponseHeaderBytes: 16 << 10,
	}}
	return func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error) {
		c, err := direct(ctx, z, known)
		if err == nil || z != own || ctx.Err() != nil || !p.leadsTo(zone.Candidates(z)) {
			return c, err
		}
		known.Lower = c.Lower
		if by, failed := zone.Fetch(ctx, client, z, known); failed == nil {
			return by, nil
		}
		return c, err
	}
}

type zoneFetcher func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error)

// proxyPatience is how long a proxy may take to answer.
const proxyPatience = 10 * time.Second

// leadsTo reports whether there is a proxy for any of some URLs.
func (p *proxies) leadsTo(urls []string) bool {
	return slices.ContainsFunc(urls, func(text string) bool {
		u, err := url.Parse(text)
		if err != nil {
			return false
		}
		proxy, err := p.proxyOf(u)
		return err == nil && proxy != nil
	})
}

// named returns the proxy for a request, with who we are there.
func (p *proxies) named(r *http.Request) (*url.URL, error) {
	proxy, err := p.proxyOf(r.URL)
	if err != nil || proxy == nil {
		return nil, err
	}
	if user, password := p.credentials(proxy.Host); user != "" {
		with := *proxy
		with.User = url.UserPassword(user, password)
		proxy = &with
	}
	return proxy, nil
}

// credentials returns who we are at the proxies.
func (p *proxies) credentials(string) (user, password string) {
	s := p.now.Load()
	return s.user, s.password
}
