package link

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// forward is an HTTP proxy: absolute URLs and CONNECT.
type forward struct {
	asks     func(w http.ResponseWriter, r *http.Request) bool // for credentials; it has answered then
	buffers  bool                                              // bodies pass once they are whole
	refuses  bool                                              // everything
	requests atomic.Int64
	connects atomic.Int64
}

// ServeHTTP implements http.Handler.
func (f *forward) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.asks != nil && f.asks(w, r) {
		return
	}
	if f.refuses {
		http.Error(w, "Access denied", http.StatusForbidden)
		return
	}
	if r.Method == http.MethodConnect {
		f.connects.Add(1)
		f.connect(w, r)
		return
	}
	if !r.URL.IsAbs() {
		http.Error(w, "This is a proxy", http.StatusBadRequest)
		return
	}
	f.requests.Add(1)
	if f.buffers {
		f.whole(w, r)
		return
	}
	proxy := httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, FlushInterval: -1, Transport: new(http.Transport), ErrorLog: quiet}
	proxy.ServeHTTP(w, r)
}

// whole passes bodies on once it has all of them.
func (f *forward) whole(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	out, _ := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), bytes.NewReader(body))
	answer, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	w.Write(body)
}

func (f *forward) connect(w http.ResponseWriter, r *http.Request) {
	there, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, in, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() { io.Copy(there, in); there.Close() })
	both.Go(func() { io.Copy(here, there); here.Close() })
	both.Wait()
}

// basic asks for credentials in clear.
func basic(user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		x := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
		if u, p, ok := x.BasicAuth(); ok && u == user && p == password {
			return false
		}
		w.Header().Set("Proxy-Authenticate", `Basic realm="a, proxy"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return true
	}
}

var parameter = regexp.MustCompile(`(\w+)=("([^"]*)"|[^, ]*)`)

// digested asks for credentials by RFC 7616, and takes each nonce for a few requests.
func digested(user, password, algorithm string, with func() hash.Hash) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	nonce, used := 0, map[string]bool{}
	h := func(parts ...string) string {
		x := with()
		io.WriteString(x, strings.Join(parts, ":"))
		return hex.EncodeToString(x.Sum(nil))
	}
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		said := map[string]string{}
		for _, m := range parameter.FindAllStringSubmatch(r.Header.Get("Proxy-Authorization"), -1) {
			said[m[1]] = strings.Trim(m[2], `"`)
		}
		want := h(h(user, "realm", password), said["nonce"], said["nc"], said["cnonce"], "auth", h(r.Method, r.RequestURI))
		stale := ""
		if said["response"] == want && said["uri"] == r.RequestURI && !used[said["nonce"]+said["nc"]] {
			used[said["nonce"]+said["nc"]] = true
			if said["nonce"] == fmt.Sprint(nonce) && len(used)%50 != 0 {
				return false
			}
			nonce++
			stale = ", stale=true"
		}
		w.Header().Add("Proxy-Authenticate", fmt.Sprintf(`Basic realm="realm", Digest realm="realm", qop="auth-int, auth", algorithm=%s, nonce="%d"%s`, algorithm, nonce, stale))
		w.WriteHeader(http.StatusProxyAuthRequired)
		return true
	}
}

// served starts a test's server. It ends after the Muxes, which have requests there.
func served(t testing.TB, h http.Handler, muxes ...*Mux) *httptest.Server {
	t.Helper()
	s := unstarted(t, h, muxes)
	s.Start()
	return s
}

// secured is the same with TLS.
func secured(t testing.TB, h http.Handler, muxes ...*Mux) *httptest.Server {
	t.Helper()
	s := unstarted(t, h, muxes)
	s.StartTLS()
	return s
}

func unstarted(t testing.TB, h http.Handler, muxes []*Mux) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	t.Cleanup(func() {
		for _, m := range muxes {
			m.Close()
		}
		s.Close()
	})
	return s
}

// through returns a Mux that uses a proxy.
func through(t testing.TB, f *forward, user, password string, roots *x509.CertPool) *Mux {
	t.Helper()
	u, _ := url.Parse(served(t, f).URL)
	m := NewMux(MuxConfig{Streams: new(System), Roots: roots, Proxy: func(*url.URL) (*url.URL, error) { return u, nil }, Credentials: func(proxy string) (string, string) {
		if proxy != u.Host {
			t.Errorf("credentials for %q, want %q", proxy, u.Host)
		}
		return user, password
	}})
	t.Cleanup(func() { m.Close() })
	return m
}

func TestProxies(t *testing.T) {
	type asks = func(http.ResponseWriter, *http.Request) bool
	for name, proxy := range map[string]func() asks{
		"open":   func() asks { return nil },
		"basic":  func() asks { return basic("user", "secret") },
		"md5":    func() asks { return digested("user", "secret", "MD5", md5.New) },
		"sha256": func() asks { return digested("user", "secret", "SHA-256", sha256.New) },
	} {
		t.Run(name, func(t *testing.T) {
			server, _, ep := posting(t)
			f := &forward{asks: proxy()}
			client := through(t, f, "user", "secret", nil)
			from := thereAndBack(t, server, client, ep)
			eventually(t, "an answer stays open", func() bool { return count(server, "http_streams") == 1 })
			carry(t, server, client, ep, from, 2000)
			if f.requests.Load() == 0 {
				t.Error("the proxy has seen no request")
			}
		})
		t.Run(name+", https", func(t *testing.T) {
			server, _, _ := posting(t)
			secure := secured(t, server.HTTP(), server)
			roots := x509.NewCertPool()
			roots.AddCert(secure.Certificate())
			f := &forward{asks: proxy()}
			client := through(t, f, "user", "secret", roots)
			thereAndBack(t, server, client, at(secure.URL+"/a/path"))
			client.Close()
			if f.connects.Load() == 0 || f.requests.Load() != 0 {
				t.Error("the proxy has seen no CONNECT, or requests")
			}
		})
	}
}

// Nothing is lost where bodies pass as a whole: no answer stays open then.
func TestProxyThatBuffers(t *testing.T) {
	server, _, ep := posting(t)
	client := through(t, &forward{buffers: true}, "", "", nil)
	from := thereAndBack(t, server, client, ep)
	thereAndBack(t, server, client, ep)
	carry(t, server, client, ep, from, 2000)
	if n := count(server, "http_streams"); n != 0 {
		t.Errorf("%d answers stayed open", n)
	}
}

// TCP goes by CONNECT where there is no direct way.
func TestProxyForTCP(t *testing.T) {
	server, _, ep := muxes(t)
	f := &forward{asks: basic("user", "secret")}
	client := through(t, f, "user", "secret", nil)
	inner := client.cfg.Streams
	client.cfg.Streams = without{inner, ep.Addr.String()}
	thereAndBack(t, server, client, ep)
	if n := f.connects.Load(); n != 1 {
		t.Errorf("%d CONNECTs", n)
	}
}

// troubled sends a packet, and returns the trouble that follows.
func troubled(t *testing.T, client *Mux, ep Endpoint) *Trouble {
	t.Helper()
	client.NewWriter().Write(packets(ep, 1, 40))
	eventually(t, "trouble", func() bool { return client.Trouble(ep) != nil })
	x, ok := errors.AsType[*Trouble](client.Trouble(ep))
	if !ok {
		t.Fatal(client.Trouble(ep))
	}
	return x
}

func TestProxyTroubles(t *testing.T) {
	_, _, ep := posting(t)
	for name, c := range map[string]struct {
		f    *forward
		user string
		want TroubleKind
	}{
		"no credentials":          {&forward{asks: basic("user", "secret")}, "", ProxyAuth},
		"wrong ones":              {&forward{asks: basic("user", "another")}, "user", ProxyAuth},
		"wrong ones, digest":      {&forward{asks: digested("user", "another", "MD5", md5.New)}, "user", ProxyAuth},
		"an unknown algorithm":    {&forward{asks: digested("user", "secret", "SHA3-256", sha256.New)}, "", ProxyAuth},
		"everything is refused":   {&forward{refuses: true}, "", ProxyRefused},
		"refused with a password": {&forward{asks: basic("user", "secret"), refuses: true}, "user", ProxyRefused},
	} {
		for _, to := range []Endpoint{ep, at(strings.Replace(ep.URL.Value(), "http:", "https:", 1))} {
			t.Run(name+" "+to.String()[:5], func(t *testing.T) {
				if x := troubled(t, through(t, c.f, c.user, "secret", nil), to); x.Kind != c.want {
					t.Errorf("%v: %v, want %v", x.Kind, x, c.want)
				}
			})
		}
	}
}

// forbidding answers wrong credentials as tinyproxy does: it asks with 407, and refuses with 401.
func forbidding(user, password string) func(http.ResponseWriter, *http.Request) bool {
	ask := basic(user, password)
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Proxy-Authorization") == "" {
			return ask(w, r)
		}
		answer := httptest.NewRecorder()
		if !ask(answer, r) {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// Credentials that a proxy does not take are told apart from none, and from a server that wants
// some of its own.
func TestProxyRefusesUser(t *testing.T) {
	_, _, ep := posting(t)
	guarded := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Via", "1.1 proxy")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	for name, c := range map[string]struct {
		f    *forward
		user string
		to   Endpoint
		want string
	}{
		"none":             {&forward{asks: forbidding("user", "secret")}, "", ep, "asks for a user name and a password;"},
		"wrong ones, 401":  {&forward{asks: forbidding("user", "another")}, "user", ep, "refuses the user name and the password;"},
		"wrong ones, 407":  {&forward{asks: basic("user", "another")}, "user", ep, "refuses the user name and the password;"},
		"the same, TLS":    {&forward{asks: forbidding("user", "another")}, "user", at(strings.Replace(ep.URL.Value(), "http:", "https:", 1)), "refuses the user name and the password;"},
		"a server's":       {&forward{asks: basic("user", "secret")}, "user", at(guarded.URL), "server: it does not speak"},
		"without a proxy?": {&forward{}, "", at(guarded.URL), "server: it does not speak"},
	} {
		t.Run(name, func(t *testing.T) {
			if x := troubled(t, through(t, c.f, c.user, "secret", nil), c.to); !strings.Contains(x.Error(), c.want) {
				t.Errorf("%v, want %q", x, c.want)
			}
		})
	}
}

// Requests that are none of the Mux's go by the proxy, with what it asks for.
func TestByProxy(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	plain, secure := served(t, hello), secured(t, hello)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	for name, asks := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"open": nil, "basic": basic("user", "secret"), "digest": digested("user", "secret", "SHA-256", sha256.New), "another password": forbidding("user", "another"),
	} {
		f := &forward{asks: asks}
		u, _ := url.Parse(served(t, f).URL)
		client := &http.Client{Transport: NewByProxy(MuxConfig{Streams: new(System), Roots: roots,
			Proxy:       func(*url.URL) (*url.URL, error) { return u, nil },
			Credentials: func(string) (string, string) { return "user", "secret" }})}
		for _, to := range []string{plain.URL, secure.URL} {
			r, err := client.Get(to)
			if name == "another password" {
				if x, ok := errors.AsType[*Trouble](err); !ok || x.Kind != ProxyAuth {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			body, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || string(body) != "hello" {
				t.Errorf("%s: %q, %v", name, body, err)
			}
		}
		if name == "open" && (f.requests.Load() != 1 || f.connects.Load() != 1) {
			t.Errorf("%d requests, %d CONNECTs", f.requests.Load(), f.connects.Load())
		}
	}
}

// No text of Go's packages reaches a user, whatever a server sends.
func TestTroubleIsPlain(t *testing.T) {
	for name, says := range map[string]string{
		"nothing": "", "not HTTP": "SSH-2.0-OpenSSH_9.2\r\n", "no status": "HTTP/1.1 abc\r\n\r\n", "half": "HTTP/1.1 200 OK\r\nContent-",
		"bad header": "HTTP/1.1 200 OK\r\n: x\r\n\r\n", "bad length": "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
		"bad coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: zip\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var all sync.WaitGroup
			defer all.Wait()
			defer l.Close()
			all.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Read(make([]byte, 1<<10))
					io.WriteString(c, says)
					c.Close()
				}
			})
			for _, url := range []string{"http://", "https://"} {
				x := troubled(t, plainClient(t, nil), at(url+l.Addr().String()+"/"))
				if text := x.Error(); strings.Contains(text, "net/http") || strings.Contains(text, "http: ") || strings.Contains(text, "malformed") || strings.Contains(text, "EOF") || strings.Contains(text, "tcp") || strings.Contains(text, "tls: ") {
					t.Errorf("%s %s", url, text)
				}
			}
		})
	}
}

func TestProxyChallenges(t *testing.T) {
	for line, want := range map[string][]string{
		`Basic realm="x"`: {`Basic realm="x"`},
		`Basic realm="a, b", Digest realm="c", nonce="d,\"e", qop="auth,auth-int"`: {`Basic realm="a, b"`, `Digest realm="c", nonce="d,\"e", qop="auth,auth-int"`},
		`Negotiate, NTLM,Basic realm=x`:                                            {`Negotiate`, `NTLM`, `Basic realm=x`},
		``:                                                                         nil, `,`: nil, `"`: {`"`},
	} {
		if got := challenges([]string{line}); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func FuzzProxyChallenges(f *testing.F) {
	f.Add(`Basic realm="a, b", Digest realm="c", nonce="d,\"e", qop="auth,auth-int"`, true)
	f.Add(`Digest nonce=x, algorithm=SHA-256, stale=true`, false)
	f.Fuzz(func(t *testing.T, line string, connect bool) {
		var p proxies
		proxy := &url.URL{Scheme: "http", Host: "proxy:3128"}
		who := func(string) (string, string) { return "user", "secret" }
		answer := &http.Response{Header: http.Header{"Proxy-Authenticate": {line}}}
		again := p.challenge(who, proxy, answer, "")
		r, _ := http.NewRequest(http.MethodPost, "http://server/", nil)
		p.authorize(who, proxy, r, "http://server/")
		if again != (r.Header.Get("Proxy-Authorization") != "") {
			t.Errorf("again %v with %q", again, r.Header)
		}
	})
}
