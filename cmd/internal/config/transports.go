package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"anodenet/anode/private"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// maxPorts is the most TCP ports to listen on.
const maxPorts = 8

// portsAuto is the text of Ports that were not set.
const portsAuto = "auto"

// Ports are the TCP ports to listen on. Zero is the default.
type Ports struct {
	given bool
	list  []uint16
}

// For returns the ports, for a node with a UDP port.
func (p Ports) For(udp uint16) []uint16 {
	if !p.given {
		return []uint16{udp}
	}
	return p.list
}

// ports is a value that is Ports: "auto", or a list of numbers.
type ports struct{ p *Ports }

func (v ports) want() string {
	return "a list of at most " + strconv.Itoa(maxPorts) + " TCP ports from 1 to 65535, such as [8737, 443] ([]: none), or \"auto\""
}

func (v ports) set(x any) bool {
	switch x := x.(type) {
	case string:
		if x == portsAuto {
			*v.p = Ports{}
		}
		return x == portsAuto
	case []any:
		list := []uint16{}
		for _, item := range x {
			n, ok := item.(int64)
			if !ok || n < 1 || n > 65535 {
				return false
			}
			if !slices.Contains(list, uint16(n)) {
				list = append(list, uint16(n))
			}
		}
		if len(list) > maxPorts {
			return false
		}
		*v.p = Ports{true, list}
		return true
	}
	return false
}

// parse takes them separated by commas or blanks; nothing is none.
func (v ports) parse(s string) bool {
	if s == portsAuto {
		return v.set(s)
	}
	list := []any{}
	for _, word := range listWords(s) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return false
		}
		list = append(list, n)
	}
	return v.set(list)
}

// culprit is that of list.
func (v ports) culprit(x any) any {
	items, _ := x.([]any)
	for _, item := range items {
		if !(ports{new(Ports)}).set([]any{item}) {
			return item
		}
	}
	return x
}

func (v ports) format() string {
	if !v.p.given {
		return quote(portsAuto)
	}
	words := make([]string, len(v.p.list))
	for i, n := range v.p.list {
		words[i] = strconv.Itoa(int(n))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func (v ports) plain() any {
	if !v.p.given {
		return portsAuto
	}
	return v.p.list
}

func (v ports) quoted() bool { return false }

// Proxy is what connections go through where they cannot be opened directly: what the environment says
// (zero), nobody, or one proxy.
type Proxy struct {
	none bool
	url  string // "": none is named
}

// The words for a Proxy that is not a URL.
const (
	proxyEnv  = "env"
	proxyNone = "none"
)

// None reports whether there is to be no proxy.
func (p Proxy) None() bool { return p.none }

// URL returns the proxy that was named, or "".
func (p Proxy) URL() string { return p.url }

// String returns "env", "none" or the URL.
func (p Proxy) String() string {
	switch {
	case p.none:
		return proxyNone
	case p.url == "":
		return proxyEnv
	}
	return p.url
}

// proxyForms is how a Proxy is written.
const proxyForms = "\"env\", \"none\" or the URL of an HTTP proxy, such as \"http://proxy.example.org:3128\" " +
	"(a user name and password go into the file of proxy_credentials)"

var errProxy = errors.New("want " + proxyForms)

// UnmarshalText reads what String returns.
func (p *Proxy) UnmarshalText(b []byte) error {
	switch s := string(b); s {
	case proxyEnv:
		*p = Proxy{}
	case proxyNone:
		*p = Proxy{none: true}
	default:
		e, err := book.ParseEndpoint(s) // a URL has the same rules
		if err != nil || e.Kind != wire.HTTP {
			return errProxy
		}
		u, err := url.Parse(e.URI)
		if err != nil || u.Path != "/" || u.RawQuery != "" || u.ForceQuery {
			return errProxy
		}
		*p = Proxy{url: strings.TrimSuffix(e.URI, "/")}
	}
	return nil
}

// MarshalText returns what String returns.
func (p Proxy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Credentials names the file that says who we are at a proxy; the configuration itself
// never holds that.
type Credentials struct{ Path string } // empty: none

// UnmarshalText reads "file:PATH", or nothing.
func (c *Credentials) UnmarshalText(b []byte) (err error) {
	c.Path, err = privatePath(b)
	return err
}

// MarshalText returns what UnmarshalText reads.
func (c Credentials) MarshalText() ([]byte, error) { return Secret(c).MarshalText() }

// Load reads USER:PASSWORD from the file, which belongs to this user or root alone. It returns
// nothing if no file is named.
func (c Credentials) Load() (user, password string, err error) {
	if c.Path == "" {
		return "", "", nil
	}
	text, err := private.ReadFile(c.Path, maxSecretFile)
	if _, unsafe := errors.AsType[*private.Error](err); unsafe {
		return "", "", &unreadable{err.Error(), ErrInvalid}
	}
	if err != nil {
		return "", "", inWords(c.Path, err)
	}
	line := strings.TrimRight(string(text), "\r\n")
	user, password, ok := strings.Cut(line, ":")
	control := strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError })
	if !ok || user == "" || control {
		return "", "", &unreadable{fmt.Sprintf("%s does not hold one line USER:PASSWORD; try: printf '%%s\\n' 'USER:PASSWORD' > %s", c.Path, c.Path), ErrInvalid}
	}
	return user, password, nil
}
