package daemon

import (
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

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
		return fmt.Errorf("the proxy's credentials: %w", err)
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

// credentials returns who we are at the proxies.
func (p *proxies) credentials(string) (user, password string) {
	s := p.now.Load()
	return s.user, s.password
}
