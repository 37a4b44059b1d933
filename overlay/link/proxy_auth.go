package link

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/icholy/digest"
)

const (
	maxProxies = 16
	// maxAnswers is how often one request answers challenges.
	maxAnswers = 4
)

// proxies knows how to prove to each proxy who we are.
type proxies struct {
	mu    sync.Mutex
	known map[string]*proxyAuth // by HOST:PORT
}

// proxyAuth is what one proxy wants.
type proxyAuth struct {
	user   *url.Userinfo     // of its URL
	basic  bool              // Basic (RFC 7617)
	digest *digest.Challenge // Digest (RFC 7616); nil: not
	count  int               // requests that answered the challenge
}

// at returns what is known of a proxy; with mu.
func (p *proxies) at(proxy *url.URL) *proxyAuth {
	if p.known == nil {
		p.known = make(map[string]*proxyAuth)
	}
	a := p.known[proxy.Host]
	if a == nil {
		if len(p.known) >= maxProxies {
			clear(p.known)
		}
		a = new(proxyAuth)
		p.known[proxy.Host] = a
	}
	return a
}

// learnUser notes the credentials in a proxy's URL.
func (p *proxies) learnUser(proxy *url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proxy.User != nil {
		p.at(proxy).user = proxy.User
	}
}

// credentials returns who we are at a proxy.
func (a *proxyAuth) credentials(from func(string) (string, string), proxy *url.URL) (user, password string) {
	if from != nil {
		user, password = from(proxy.Host)
	}
	if user == "" && a.user != nil {
		user = a.user.Username()
		password, _ = a.user.Password()
	}
	return user, password
}

// authorize adds what the proxy wants to a request for uri. Before it has asked, that is nothing:
// Basic shows the password to everybody on the way. It returns what was answered, for challenge.
func (p *proxies) authorize(from func(string) (string, string), proxy *url.URL, r *http.Request, uri string) (answered string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.at(proxy)
	user, password := a.credentials(from, proxy)
	switch {
	case user == "":
	case a.digest != nil:
		a.count++
		said, err := digest.Digest(a.digest, digest.Options{Method: r.Method, URI: uri, Count: a.count, Username: user, Password: password})
		if err == nil {
			r.Header.Set("Proxy-Authorization", said.String())
		}
		return "Digest " + a.digest.Nonce
	case a.basic:
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
		return "Basic"
	}
	return ""
}

// challenge takes what a proxy asks for, and reports whether the request can be made again: it
// cannot without credentials, nor if they were wrong. answered is what the request had.
func (p *proxies) challenge(from func(string) (string, string), proxy *url.URL, answer *http.Response, answered string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.at(proxy)
	before := a.digest
	a.basic, a.digest = false, nil
	for _, c := range challenges(answer.Header.Values("Proxy-Authenticate")) {
		a.consider(c)
	}
	if a.digest != nil && (before == nil || before.Nonce != a.digest.Nonce) {
		a.count = 0
	}
	user, _ := a.credentials(from, proxy)
	switch {
	case user == "":
		return false
	case a.digest != nil:
		return answered != "Digest "+a.digest.Nonce // it was another's turn, or too old
	}
	return a.basic && answered != "Basic"
}

// consider takes one challenge, if it is better than those before.
func (a *proxyAuth) consider(c string) {
	scheme, _, _ := strings.Cut(c, " ")
	if strings.EqualFold(scheme, "Basic") {
		a.basic = true
	}
	d, err := digest.ParseChallenge(c)
	if err != nil {
		return
	}
	for i := range d.QOP {
		d.QOP[i] = strings.TrimSpace(d.QOP[i])
	}
	// One that is bound to the body would need it twice.
	plain := len(d.QOP) == 0 || d.SupportsQOP("auth")
	if plain && digest.CanDigest(d) && (a.digest == nil || strength(d) > strength(a.digest)) {
		a.digest = d
	}
}

// strength orders the algorithms of Digest.
func strength(c *digest.Challenge) int {
	return slices.Index([]string{"MD5", "SHA-256", "SHA-512-256", "SHA-512"}, strings.ToUpper(cmp.Or(c.Algorithm, "MD5")))
}

// challenges splits header lines that may have several challenges each (RFC 9110, 11.6.1): a
// comma stands between them, and between the parameters of one.
func challenges(lines []string) (all []string) {
	for _, line := range lines {
		for _, part := range commas(line) {
			name, rest, spaced := strings.Cut(part, " ")
			first := strings.IndexByte(name, '=') < 0 && !(spaced && strings.HasPrefix(strings.TrimSpace(rest), "="))
			if first || len(all) == 0 {
				all = append(all, part)
			} else {
				all[len(all)-1] += ", " + part
			}
		}
	}
	return all
}

// commas splits at commas outside of quotes.
func commas(line string) (parts []string) {
	begin, quoted := 0, false
	add := func(end int) {
		if part := strings.TrimSpace(line[begin:end]); part != "" {
			parts = append(parts, part)
		}
		begin = end + 1
	}
	for i := 0; i < len(line); i++ {
		switch {
		case quoted && line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case line[i] == ',' && !quoted:
			add(i)
		}
	}
	add(len(line))
	return parts
}
