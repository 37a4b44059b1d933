package vnet

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// web is a client at a site from which only a proxy is reached, and a web server.
type web struct {
	client *http.Client
	proxy  *Proxy
	there  netip.AddrPort
}

func newWeb(t *testing.T, w *World, c ProxyConfig, user *url.Userinfo, h http.HandlerFunc) *web {
	t.Helper()
	n := w.Internet(Link{Delay: 10 * time.Millisecond})
	a, p, b := n.Site("a", Home), n.Public("proxy"), n.Public("web")
	a.DropUDP(true)
	a.AllowTCP(3128)
	proxy, err := p.Host.Proxy(3128, c)
	if err != nil {
		t.Fatal(err)
	}
	var s service
	if err := s.start(b.Host, 80, h); err != nil {
		t.Fatal(err)
	}
	x := &web{proxy: proxy, there: netip.AddrPortFrom(b.public4(1), 80)}
	by := &url.URL{Scheme: "http", Host: netip.AddrPortFrom(p.public4(1), 3128).String(), User: user}
	transport := &http.Transport{DialContext: a.Host.Dial, Proxy: http.ProxyURL(by)}
	x.client = &http.Client{Transport: transport, Timeout: time.Minute}
	if _, err := dial(t, a.Host, x.there, time.Second); err == nil {
		t.Error("the server is reached without the proxy")
	}
	t.Cleanup(func() { transport.CloseIdleConnections(); proxy.Close(); s.stop(); w.Close() })
	return x
}

// inWeb is in without the end of the world, which is for newWeb.
func inWeb(t *testing.T, f func(t *testing.T, w *World)) {
	t.Helper()
	seed := Seed(t)
	synctest.Test(t, func(t *testing.T) { f(t, New(seed)) })
}

func (x *web) url() string { return "http://" + x.there.String() + "/x?y=1" }

func TestProxyForwards(t *testing.T) {
	for _, buffers := range []bool{false, true} {
		inWeb(t, func(t *testing.T, w *World) {
			x := newWeb(t, w, ProxyConfig{Buffers: buffers}, nil, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				w.Header().Set("X-Asked", r.Method+" "+r.URL.String()+" "+r.Header.Get("X-Mine"))
				fmt.Fprintf(w, "%d %s", len(b), b)
			})
			body := strings.Repeat("body", 30_000)
			r, _ := http.NewRequest("POST", x.url(), strings.NewReader(body))
			r.Header.Set("X-Mine", "yes")
			answer, err := x.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			got, err := io.ReadAll(answer.Body)
			if want := fmt.Sprintf("%d %s", len(body), body); string(got) != want || err != nil {
				t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
			}
			if h := answer.Header.Get("X-Asked"); h != "POST /x?y=1 yes" {
				t.Errorf("the server saw %q", h)
			}
		})
	}
}

// A body that goes on comes in parts, except through a proxy that buffers.
func TestProxyStreams(t *testing.T) {
	for _, buffers := range []bool{false, true} {
		inWeb(t, func(t *testing.T, w *World) {
			x := newWeb(t, w, ProxyConfig{Buffers: buffers}, nil, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "one")
				http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Second)
				io.WriteString(w, "two")
			})
			began := time.Now()
			answer, err := x.client.Get(x.url())
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			first := make([]byte, 3)
			io.ReadFull(answer.Body, first)
			if d := time.Since(began); (d > 9*time.Second) != buffers || string(first) != "one" {
				t.Errorf("buffers %v: %q came after %v", buffers, first, d)
			}
			if rest, err := io.ReadAll(answer.Body); string(rest) != "two" || err != nil {
				t.Errorf("the rest is %q, %v", rest, err)
			}
		})
	}
}

func TestProxyCredentials(t *testing.T) {
	for _, c := range []struct {
		user *url.Userinfo
		want int
	}{
		{nil, http.StatusProxyAuthRequired},
		{url.UserPassword("me", "wrong"), http.StatusProxyAuthRequired},
		{url.UserPassword("me", "secret"), http.StatusOK},
	} {
		inWeb(t, func(t *testing.T, w *World) {
			x := newWeb(t, w, ProxyConfig{User: "me", Password: "secret"}, c.user, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Proxy-Authorization") != "" {
					t.Error("the server sees the credentials")
				}
			})
			answer, err := x.client.Get(x.url())
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != c.want || c.want != http.StatusOK && answer.Header.Get("Proxy-Authenticate") == "" {
				t.Errorf("%v: %s", c.user, answer.Status)
			}
		})
	}
}

func TestProxyConnects(t *testing.T) {
	inWeb(t, func(t *testing.T, w *World) {
		x := newWeb(t, w, ProxyConfig{}, nil, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "tunnelled") })
		transport := x.client.Transport.(*http.Transport)
		by, _ := transport.Proxy(&http.Request{URL: &url.URL{Scheme: "http"}})
		c, err := transport.DialContext(t.Context(), "tcp", by.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", x.there, x.there)
		const ok = "HTTP/1.1 200 OK\r\n\r\n"
		got := make([]byte, len(ok))
		if io.ReadFull(c, got); string(got) != ok {
			t.Fatalf("%q", got)
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if b, err := io.ReadAll(c); !bytes.HasSuffix(b, []byte("tunnelled")) || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// A captive portal answers in everybody's name, and drops the rest, until somebody agrees.
func TestCaptive(t *testing.T) {
	inWeb(t, func(t *testing.T, w *World) {
		n := w.Internet(Link{Delay: 10 * time.Millisecond})
		a, b := n.Site("a", Home), n.Public("web")
		var s service
		if err := s.start(b.Host, 80, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the web") })); err != nil {
			t.Fatal(err)
		}
		server(t, b.Host, 443)
		p, err := a.Captive("<html>pay here</html>")
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{DialContext: a.Host.Dial, DisableKeepAlives: true}
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		get := func() string {
			answer, err := client.Get("http://" + b.public4(1).String())
			if err != nil {
				return err.Error()
			}
			defer answer.Body.Close()
			got, _ := io.ReadAll(answer.Body)
			return string(got)
		}
		if got := get(); got != "<html>pay here</html>" {
			t.Errorf("got %q", got)
		}
		if _, err := dial(t, a.Host, netip.AddrPortFrom(b.public4(1), 443), time.Second); err == nil {
			t.Error("port 443 is reached")
		}
		p.Agree()
		if got := get(); got != "the web" {
			t.Errorf("got %q", got)
		}
		if c, err := dial(t, a.Host, netip.AddrPortFrom(b.public4(1), 443), time.Second); err != nil {
			t.Error("port 443:", err)
		} else {
			c.Close()
		}
		p.Close()
		s.stop()
		w.Close()
	})
}
