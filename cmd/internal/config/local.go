package config

import (
	"fmt"
	"slices"

	"anodenet/cmd/internal/proxy"
)

// Local is how programs of this machine and peers are joined without an adapter. The texts are
// those that package proxy reads.
type Local struct {
	SOCKS    string   `toml:"socks"` // "": none
	HTTP     string   `toml:"http"`
	Anywhere bool     `toml:"anywhere"`
	Forward  []string `toml:"forward"`
	Expose   []string `toml:"expose"`
}

// Specs returns the doors that a sound configuration asks for.
func (l Local) Specs() (list []proxy.Spec) {
	if at, err := proxy.ParsePlace(l.SOCKS); err == nil {
		list = append(list, proxy.Proxy{Type: proxy.SOCKS, At: at, Anywhere: l.Anywhere})
	}
	if at, err := proxy.ParsePlace(l.HTTP); err == nil {
		list = append(list, proxy.Proxy{Type: proxy.HTTP, At: at, Anywhere: l.Anywhere})
	}
	for _, text := range l.Forward {
		if f, err := proxy.ParseForwarding(text); err == nil {
			f.Anywhere = l.Anywhere
			list = append(list, f)
		}
	}
	for _, text := range l.Expose {
		if e, err := proxy.ParseExposure(text); err == nil {
			list = append(list, e)
		}
	}
	return list
}

// placeOf is where programs connect, or nothing.
func placeOf(p *string) text {
	return text{
		"a PORT, \"IP:PORT\" or \"unix:/PATH\"",
		func(s string) bool {
			if _, err := proxy.ParsePlace(s); err != nil && s != "" {
				return false
			}
			*p = s
			return true
		},
		func() string { return *p },
	}
}

// maxDoors is the most ports to forward or to expose.
const maxDoors = 256

// doorsOf are ports to forward or to expose.
func doorsOf[T any](p *[]string, form string, parse func(string) (T, error)) list {
	return list{
		"a list such as " + form,
		func(words []string) bool {
			return len(words) <= maxDoors && !slices.ContainsFunc(words, func(s string) bool {
				_, err := parse(s)
				return err != nil
			})
		},
		p,
	}
}

// checkLocal refuses addresses that other machines reach, unless somebody says that this is wanted.
func (l *loader) checkLocal() {
	c := l.config.Local
	if c.Anywhere || l.bad["local.anywhere"] {
		return
	}
	check := func(key, text string, at proxy.Place, err error) {
		if err == nil && !at.Private() {
			l.problem(l.origins[key], fmt.Sprintf("%s: %s is no loopback address: everybody who reaches it could use the network as this node; try: a port alone; or local.anywhere = true, if that is wanted", key, text))
		}
	}
	for key, text := range map[string]string{"local.socks": c.SOCKS, "local.http": c.HTTP} {
		at, err := proxy.ParsePlace(text)
		check(key, text, at, err)
	}
	for _, text := range c.Forward {
		f, err := proxy.ParseForwarding(text)
		check("local.forward", text, f.At, err)
	}
}
