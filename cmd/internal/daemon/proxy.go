package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
	"anodenet/overlay/link"
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

// fetcher gets the file of the own zone directly, and by a proxy too if there is one and the direct
// way fails or takes long: firewalls often drop what they let nobody do. Those of other zones it
// gets directly alone: nobody could check where the proxy connects to. alone is told when only the
// proxy had the file.
func (p *proxies) fetcher(own anode.Zone, direct zoneFetcher, alone func(context.Context)) zoneFetcher {
	client := &http.Client{Transport: link.NewByProxy(link.MuxConfig{Streams: new(link.System), Proxy: p.proxyOf, Credentials: p.credentials})}
	return func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error) {
		if z != own || !p.leadsTo(zone.Candidates(z)) {
			return direct(ctx, z, known)
		}
		return fetchEither(ctx, z, known, direct, func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error) {
			c, err := zone.Fetch(ctx, client, z, known)
			if err == nil {
				alone(ctx)
			}
			return c, err
		})
	}
}

// fetchEither fetches a file directly, and by a proxy if that fails or is not done soon. It waits
// for all that it began.
func fetchEither(ctx context.Context, z anode.Zone, known zone.Copy, direct, byProxy zoneFetcher) (zone.Copy, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		copy zone.Copy
		err  error
	}
	first, second := make(chan result, 1), make(chan result, 1)
	ask := func(by zoneFetcher, to chan<- result) {
		c, err := by(ctx, z, known)
		to <- result{c, err}
	}
	go ask(direct, first)
	late := time.NewTimer(directPatience)
	defer late.Stop()
	var failed *result
	select {
	case r := <-first:
		if r.err == nil || ctx.Err() != nil {
			return r.copy, r.err
		}
		failed = &r
	case <-late.C:
	}
	go ask(byProxy, second)
	if failed != nil {
		r := <-second
		return eitherOf(r.copy, r.err, failed.copy, failed.err)
	}
	select {
	case r := <-first:
		if r.err == nil {
			cancel()
			<-second
			return r.copy, nil
		}
		by := <-second
		return eitherOf(by.copy, by.err, r.copy, r.err)
	case by := <-second:
		if by.err == nil {
			cancel()
			<-first
			return by.copy, nil
		}
		r := <-first
		return eitherOf(by.copy, by.err, r.copy, r.err)
	}
}

// eitherOf returns what came by the proxy, or else directly. If neither has a file, the proxy's
// own words say more than that the direct way does not work.
func eitherOf(byProxy zone.Copy, refused error, direct zone.Copy, err error) (zone.Copy, error) {
	switch t, said := errors.AsType[*link.Trouble](refused); {
	case refused == nil:
		return byProxy, nil
	case err == nil:
		return direct, nil
	case said:
		return direct, t
	}
	return direct, err
}

type zoneFetcher func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error)

// directPatience is how long the direct way has before the proxy is asked as well.
const directPatience = 300 * time.Millisecond

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

// credentials returns who we are at the proxies.
func (p *proxies) credentials(string) (user, password string) {
	s := p.now.Load()
	return s.user, s.password
}
