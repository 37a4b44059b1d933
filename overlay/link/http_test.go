package link

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unique"
)

// posting returns a Mux that takes packets by POST, and one that posts there.
func posting(t testing.TB) (server, client *Mux, ep Endpoint) {
	t.Helper()
	server, client, tcp := muxes(t)
	return server, client, at("http://" + tcp.Addr.String() + "/")
}

// at is the endpoint of a URL.
func at(url string) Endpoint { return Endpoint{Kind: HTTP, URL: unique.Make(url)} }

// packets is a train.
func packets(ep Endpoint, n, size int) []Train {
	return []Train{{Buf: bytes.Repeat([]byte("packet"), n*size/6+1)[:n*size], Size: size, Endpoint: ep}}
}

// thereAndBack sends packets to ep, and others back to where they came from, which it returns.
func thereAndBack(t testing.TB, server, client *Mux, ep Endpoint) (from Endpoint) {
	t.Helper()
	there := packets(ep, 3, 35)
	if sent, err := client.NewWriter().Write(there); sent != 1 || err != nil {
		t.Fatal(sent, err)
	}
	over := make(chan struct{})
	defer close(over)
	go func() { // what would be waited for in vain ends the wait
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-over:
				return
			case <-tick.C:
				if err := client.Trouble(ep); err != nil {
					t.Errorf("%v: %v", ep, err)
					client.Close()
					server.Close()
					return
				}
			}
		}
	}()
	got, from := read(t, server)
	if !bytes.Equal(bytes.Join(got, nil), there[0].Buf) || from.Conn == 0 {
		t.Fatalf("%d packets from %v, connection %d", len(got), from, from.Conn)
	}
	server.Keep(from, "client", true)
	back := packets(from, 1, 8000)
	if sent, err := server.NewWriter().Write(back); sent != 1 || err != nil {
		t.Fatal(sent, err)
	}
	got, back2 := read(t, client)
	if !bytes.Equal(bytes.Join(got, nil), back[0].Buf) || !back2.Same(&ep) {
		t.Fatalf("%d packets from %v, want some from %v", len(got), back2, ep)
	}
	return from
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func count(m *Mux, name string) uint64 { return m.Counters()[name] }

func TestHTTPThereAndBack(t *testing.T) {
	server, client, ep := posting(t)
	from := thereAndBack(t, server, client, ep)
	if from.Kind != HTTP || from.Addr.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("packets came from %v", from)
	}
	if n := count(server, "http_sessions"); n != 1 {
		t.Errorf("%d sessions", n)
	}
	eventually(t, "an answer stays open", func() bool { return count(server, "http_streams") == 1 })
	thereAndBack(t, server, client, ep)
	if n := count(server, "http_sessions_unproved"); n != 0 {
		t.Errorf("%d guests after proof", n)
	}
	if err := client.Trouble(ep); err != nil {
		t.Error(err)
	}
}

// The answers to many packets, both ways, arrive, except those that are counted.
func TestHTTPCarriesALot(t *testing.T) {
	server, client, ep := posting(t)
	from := thereAndBack(t, server, client, ep)
	carry(t, server, client, ep, from, 5000)
}

// carry moves packets both ways until n have come at each end.
func carry(t testing.TB, server, client *Mux, ep, from Endpoint, n int) {
	t.Helper()
	var both sync.WaitGroup
	for _, d := range []struct {
		from, to *Mux
		ep       Endpoint
	}{{client, server, ep}, {server, client, from}} {
		enough := make(chan struct{})
		both.Go(func() {
			w := d.from.NewWriter()
			for {
				select {
				case <-enough:
					return
				default:
				}
				if k, _ := w.Write(packets(d.ep, 40, 1400)); k != 1 {
					time.Sleep(time.Millisecond) // the queue is full
				}
			}
		})
		both.Go(func() {
			defer close(enough)
			ts := make([]Train, 32)
			for got := 0; got < n; {
				k, err := d.to.Read(ts)
				if err != nil {
					t.Error(err)
					return
				}
				for _, x := range ts[:k] {
					got += x.Packets()
				}
			}
		})
	}
	both.Wait()
}

// A port that takes packets serves the zone file too.
func TestHTTPOtherMethodsGoElsewhere(t *testing.T) {
	server := NewMux(MuxConfig{Streams: new(System), Web: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("the zone file"))
	})})
	defer server.Close()
	if err := server.ListenTCP(0); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get("http://127.0.0.1:" + strconv.Itoa(server.listeners[0].Addr().(*net.TCPAddr).Port) + "/z")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var b bytes.Buffer
	b.ReadFrom(answer.Body)
	if b.String() != "the zone file" {
		t.Errorf("%s: %q", answer.Status, b.String())
	}
}

var quiet = log.New(io.Discard, "", 0)

// without are connections, except to one place.
type without struct {
	Streams
	blocked string
}

// Dial implements Streams.
func (w without) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address == w.blocked {
		return nil, syscall.EHOSTUNREACH
	}
	return w.Streams.Dial(ctx, network, address)
}

// plainClient returns a Mux that posts, and trusts a server of TLS.
func plainClient(t testing.TB, secure *httptest.Server) *Mux {
	t.Helper()
	roots := x509.NewCertPool()
	if secure != nil {
		roots.AddCert(secure.Certificate())
	}
	m := NewMux(MuxConfig{Streams: new(System), Roots: roots})
	t.Cleanup(func() { m.Close() })
	return m
}

// A server of others passes on what comes to one path.
func TestHTTPBehindAReverseProxy(t *testing.T) {
	server, client, ep := posting(t)
	to, _ := url.Parse(ep.URL.Value())
	paths := http.NewServeMux()
	paths.Handle("/anode/", &httputil.ReverseProxy{ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.SetXForwarded()
	}})
	front := served(t, paths, client, server)
	there := at(front.URL + "/anode/x?key=value")
	from := thereAndBack(t, server, client, there)
	carry(t, server, client, there, from, 2000)
}

// Only the same host is followed, to https, and once.
func TestHTTPRedirects(t *testing.T) {
	server, _, _ := posting(t)
	secure := secured(t, server.HTTP(), server)
	client := plainClient(t, secure)
	there := served(t, http.RedirectHandler(secure.URL+"/here", http.StatusMovedPermanently), client)
	thereAndBack(t, server, client, at(there.URL))
	u, _ := url.Parse(secure.URL)
	u.Host = net.JoinHostPort("localhost", u.Port())
	for name, to := range map[string]string{"another host": u.String(), "not to https": "http://127.0.0.1/"} {
		other := served(t, http.RedirectHandler(to, http.StatusFound), client)
		if x := troubled(t, client, at(other.URL)); x.Kind != CaptivePortal {
			t.Errorf("%s: %v", name, x)
		}
	}
}

// What answers in place of the server is told apart.
func TestHTTPTroubles(t *testing.T) {
	says := func(code int, kind, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			io.WriteString(w, body)
		})
	}
	for name, c := range map[string]struct {
		server http.Handler
		want   TroubleKind
	}{
		"a portal's page":     {says(200, "text/html; charset=utf-8", "<html>Welcome"), CaptivePortal},
		"a portal's status":   {says(511, "text/plain", ""), CaptivePortal},
		"no such thing":       {http.NotFoundHandler(), NotAnode},
		"another method":      {says(405, "text/html", "<html>"), NotAnode},
		"other bytes":         {says(200, octets, "\x00\x05Hello"), NotAnode},
		"half a packet":       {says(200, octets, "\x00\x80Hello"), NotAnode},
		"nothing is free":     {says(503, "text/plain", ""), Busy},
		"the server is ill":   {says(502, "text/html", ""), Unreachable},
		"headers without end": {says(200, strings.Repeat("x", 1<<20), ""), Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			client := plainClient(t, nil)
			if x := troubled(t, client, at(served(t, c.server, client).URL)); x.Kind != c.want {
				t.Errorf("%v: %v, want %v", x.Kind, x, c.want)
			}
		})
	}
	secure := secured(t, http.NotFoundHandler())
	if x := troubled(t, plainClient(t, nil), at(secure.URL)); x.Kind != TLS {
		t.Errorf("a certificate of nobody: %v", x)
	}
	for _, url := range []string{"ftp://127.0.0.1/", "http://", "nothing", "http://" + strings.Repeat("x", 2000)} {
		if x := troubled(t, plainClient(t, nil), at(url)); x.Kind != Unreachable {
			t.Errorf("%s: %v", url, x)
		}
	}
}

// An answer without end takes no more memory than one of its reads.
func TestHTTPAnswerWithoutEnd(t *testing.T) {
	endless := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		frame := appendFrames(nil, &Train{Buf: make([]byte, 1200), Size: 1200})
		w.Header().Set("Content-Type", octets)
		for {
			if _, err := w.Write(frame); err != nil {
				return
			}
		}
	}))
	client := plainClient(t, nil)
	client.NewWriter().Write(packets(at(endless.URL), 1, 40))
	for range 1000 {
		read(t, client)
	}
}

// Close waits for requests of servers that are not the Mux's.
func TestHTTPCloseEndsRequests(t *testing.T) {
	server, client, _ := posting(t)
	other := served(t, server.HTTP(), client, server)
	thereAndBack(t, server, client, at(other.URL))
	server.Close()
	answer, err := http.Post(other.URL, octets, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable {
		t.Error(answer.Status)
	}
}

func FuzzHTTPQuery(f *testing.F) {
	f.Add("id=0123456789abcdef0123456789abcdef&n=1")
	f.Add("x=y&id=0123456789abcdef0123456789ABCDEF&d=7&w=300&s=1&seen=3")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil || !q.named {
			return
		}
		again, err := parseQuery(q.append(""))
		if q.down == 0 || q.stream || q.seen != 0 || q.patient == 0 {
			again.patient = q.patient // it is not said
		}
		if err != nil || again != q {
			t.Errorf("%+v, then %+v, %v", q, again, err)
		}
	})
}

// Whatever a request has, no more packets come of it than its body has bytes for.
func FuzzHTTPRequest(f *testing.F) {
	m := NewMux(MuxConfig{Streams: new(System)})
	f.Cleanup(func() { m.Close() })
	var got atomic.Int64
	go func() {
		ts := make([]Train, 32)
		for {
			n, err := m.Read(ts)
			if err != nil {
				return
			}
			for _, x := range ts[:n] {
				got.Add(int64(len(x.Buf)))
			}
		}
	}()
	f.Add("id=0123456789abcdef0123456789abcdef&n=1", appendFrames(nil, &Train{Buf: make([]byte, 80), Size: 40}))
	f.Add("id=0123456789abcdef0123456789abcdef&d=1&s=1", []byte{})
	f.Fuzz(func(t *testing.T, raw string, body []byte) {
		before := got.Load()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		r, err := http.NewRequestWithContext(gone, http.MethodPost, "http://server/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery, r.RemoteAddr = raw, "203.0.113.5:1234"
		w := httptest.NewRecorder()
		m.HTTP().ServeHTTP(w, r)
		if n := got.Load() - before; n > int64(len(body)) {
			t.Errorf("%d bytes of packets in %d", n, len(body))
		}
		m.web.mu.Lock()
		for _, s := range m.web.sessions {
			defer m.web.drop(s)
		}
		m.web.mu.Unlock()
	})
}
