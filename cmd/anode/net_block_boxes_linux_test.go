package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestNetBlockBoxes: boxes that let little through are what they are called. Plain clients of
// UDP, TCP and HTTP try; nodes have no part in this.
func TestNetBlockBoxes(t *testing.T) {
	for _, c := range []struct {
		box     string
		program string // "" or what its proxy is
		passes  string // of udp, tcp (8737), http, tls (443), post (by the proxy), connect (to 443 by the proxy)
	}{
		{"home", "", "udp tcp http tls"},
		{"no-udp", "", "tcp http tls"},
		{"web", "", "http tls"},
		{"sealed", "", ""},
		{"portal", "", ""},
		{"tinyproxy", "tinyproxy", "post connect"},
		{"tinyproxy-password", "tinyproxy", "post connect"},
		{"squid", "squid", "post connect"},
		{"squid-digest", "squid", ""}, // a plain client knows no Digest
		{"buffering", "", "post"},
	} {
		if c.program == "squid" && !long() {
			continue // it takes seconds to start
		}
		t.Run(c.box, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			a, server := newMachine(t, "a"), newMachine(t, "server")
			l.put(a, behind(c.box), 1, nil)
			l.put(server, centre, firstRelay, nil)
			l.rules()
			server.answerAll()
			var passes []string
			for _, try := range []struct {
				name string
				f    func(*host, *gateway) error
			}{
				{"udp", triesUDP}, {"tcp", triesTCP(8737)}, {"http", triesHTTP}, {"tls", triesTCP(443)},
				{"post", triesPost}, {"connect", triesConnect},
			} {
				if err := try.f(a, l.innermost(a)); err != nil {
					t.Logf("%s: %v", try.name, err)
				} else {
					passes = append(passes, try.name)
				}
			}
			if got := strings.Join(passes, " "); got != c.passes {
				t.Errorf("%q get through, want %q", got, c.passes)
			}
		})
	}
}

// blockedServer is the machine that plain clients try to reach.
const blockedServer = "9.0.3.2"

// tryFor bounds an attempt that may fail. A way and back take 20 ms.
const tryFor = time.Second

// answerAll has a machine answer on UDP and TCP port 8737, TCP port 443, and by HTTP on port 80.
func (h *host) answerAll() {
	h.t.Helper()
	udp := h.bind(8737)
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			udp.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	for _, port := range []int{8737, 443} {
		go func(l net.Listener) {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); io.Copy(c, c) }()
			}
		}(h.listenOutside(fmt.Sprintf(":%d", port)))
	}
	h.serveHTTP(":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
}

// listenOutside opens a TCP listener of the host, outside the adapter.
func (h *host) listenOutside(at string) net.Listener {
	h.t.Helper()
	l, err := in(h, func() (net.Listener, error) { return net.Listen("tcp4", at) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	return l
}

// serveHTTP has the host answer requests until the test ends.
func (h *host) serveHTTP(at string, handler http.Handler) {
	h.t.Helper()
	s := &http.Server{Handler: handler, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	go s.Serve(h.listenOutside(at))
	h.t.Cleanup(func() { s.Close() })
}

// dialOutside opens a TCP connection of the host, outside the adapter.
func (h *host) dialOutside(to string, limit time.Duration) (net.Conn, error) {
	return in(h, func() (net.Conn, error) { return net.DialTimeout("tcp4", to, limit) })
}

// web is a client on the host. Without a proxy it asks the server.
func (h *host) web(proxy *url.URL) *http.Client {
	t := &http.Transport{
		DialContext:       func(_ context.Context, _, to string) (net.Conn, error) { return h.dialOutside(to, tryFor) },
		DisableKeepAlives: true,
	}
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{Transport: t, Timeout: 3 * tryFor}
}

// echoes reports what went wrong if a connection does not return what is sent.
func echoes(c net.Conn) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(tryFor))
	said := []byte("anybody there?")
	if _, err := c.Write(said); err != nil {
		return err
	}
	buf := make([]byte, len(said))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if !bytes.Equal(buf, said) {
		return fmt.Errorf("answer %q", buf)
	}
	return nil
}

func triesUDP(a *host, _ *gateway) error {
	c, err := in(a, func() (net.Conn, error) { return net.Dial("udp4", blockedServer+":8737") })
	if err != nil {
		return err
	}
	return echoes(c)
}

func triesTCP(port int) func(*host, *gateway) error {
	return func(a *host, _ *gateway) error {
		c, err := a.dialOutside(fmt.Sprintf("%s:%d", blockedServer, port), tryFor)
		if err != nil {
			return err
		}
		return echoes(c)
	}
}

func triesHTTP(a *host, _ *gateway) error { return posts(a.web(nil)) }

func triesPost(a *host, g *gateway) error {
	if g.proxy == "" {
		return fmt.Errorf("there is no proxy")
	}
	u, err := url.Parse(g.proxyURL())
	if err != nil {
		return err
	}
	return posts(a.web(u))
}

// posts reports what went wrong if a POST request is not answered by its own body.
func posts(c *http.Client) error {
	const said = "anybody there?"
	r, err := c.Post("http://"+blockedServer+"/", "application/octet-stream", strings.NewReader(said))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && (r.StatusCode != http.StatusOK || string(b) != said) {
		err = fmt.Errorf("answer %s", r.Status)
	}
	return err
}

func triesConnect(a *host, g *gateway) error {
	if g.proxy == "" {
		return fmt.Errorf("there is no proxy")
	}
	c, err := a.dialOutside(g.proxyAt().String(), tryFor)
	if err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(3 * tryFor))
	request := "CONNECT " + blockedServer + ":443 HTTP/1.1\r\nHost: " + blockedServer + ":443\r\n"
	if user := proxies[g.proxy].user; user != "" {
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		c.Close()
		return err
	}
	answer := make([]byte, 0, 1000)
	for b := make([]byte, 1); !bytes.HasSuffix(answer, []byte("\r\n\r\n")); answer = append(answer, b...) {
		if _, err := io.ReadFull(c, b); err != nil {
			c.Close()
			return fmt.Errorf("%w after %q", err, answer)
		}
	}
	if f := strings.Fields(string(answer)); len(f) < 2 || f[1] != "200" {
		c.Close()
		return fmt.Errorf("answer %q", answer)
	}
	return echoes(c)
}

// TestNetBlockPortal: a portal answers for everybody by HTTP until it is opened, and lets
// nothing else through.
func TestNetBlockPortal(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	a, server := newMachine(t, "a"), newMachine(t, "server")
	l.put(a, behind("portal"), 1, nil)
	l.put(server, centre, firstRelay, nil)
	l.rules()
	server.answerAll()
	r, err := a.web(nil).Get("http://" + blockedServer + "/z")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); !strings.Contains(string(b), "<html>") || r.Request.URL.Hostname() != "192.168.1.1" {
		t.Errorf("%v answers %q", r.Request.URL, b)
	}
	g := l.innermost(a)
	l.openPortal(a)
	for name, try := range map[string]func(*host, *gateway) error{"udp": triesUDP, "http": triesHTTP} {
		if err := try(a, g); err != nil {
			t.Errorf("the portal was opened, but %s: %v", name, err)
		}
	}
}

// TestNetBlockFlips: a box that begins to drop UDP drops that of old connections too, and lets
// it through again by the same port.
func TestNetBlockFlips(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	a, server := newMachine(t, "a"), newMachine(t, "server")
	l.put(a, behind("home"), 1, nil)
	l.put(server, centre, firstRelay, nil)
	l.rules()
	from, known := a.bind(8737), server.bind(1000)
	to := netip.MustParseAddrPort(blockedServer + ":1000")
	for _, blocked := range []bool{false, true, false} {
		l.blockUDP(a, blocked)
		from.WriteToUDPAddrPort([]byte("out"), to)
		if !asWanted(known, !blocked) {
			t.Errorf("UDP is blocked: %v; it gets out: %v", blocked, blocked)
		}
	}
}
