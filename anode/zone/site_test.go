package zone

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestSite(t *testing.T) {
	f := mustParse(t, good)
	site := &Site{}
	ask := func(method, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w
	}
	equal(t, ask("GET", "/z").Code, 404) // before there is a file
	site.Set(f, time.Time{})
	equal(t, ask("GET", "/z").Code, 200)
	site.Clear()
	equal(t, ask("GET", "/z").Code, 404)
	site.Set(f, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	w := ask("GET", "/z")
	equal(t, w.Body.String(), good)
	equal(t, w.Header().Get("Content-Type"), "text/plain; charset=utf-8")
	equal(t, w.Header().Get("Cache-Control"), "max-age=3600")
	etag, modified := w.Header().Get("ETag"), w.Header().Get("Last-Modified")
	equal(t, modified, "Sat, 28 Nov 2026 12:00:00 GMT")

	w = ask("HEAD", "/z")
	equal(t, fmt.Sprint(w.Code, " ", w.Body.Len(), " ", w.Header().Get("Content-Length")), fmt.Sprint("200 0 ", len(good)))
	for name, c := range map[string]struct {
		header []string
		want   int
	}{
		"same tag":          {[]string{"If-None-Match", etag}, 304},
		"one of some tags":  {[]string{"If-None-Match", `"x", ` + etag}, 304},
		"another tag":       {[]string{"If-None-Match", `"x"`}, 200},
		"not since then":    {[]string{"If-Modified-Since", modified}, 304},
		"since before":      {[]string{"If-Modified-Since", "Sat, 28 Nov 2026 11:59:59 GMT"}, 200},
		"the tag wins":      {[]string{"If-None-Match", `"x"`, "If-Modified-Since", modified}, 200},
		"a part is refused": {[]string{"Range", "bytes=0-1"}, 200},
	} {
		w := ask("GET", "/z", c.header...)
		want := good
		if c.want == 304 {
			want = ""
		}
		if w.Code != c.want || w.Body.String() != want {
			t.Errorf("%s: got %d, %q", name, w.Code, w.Body)
		}
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{{"GET", "/", 404}, {"GET", "/z/", 404}, {"GET", "/zz", 404}, {"POST", "/z", 405}, {"PUT", "/z", 405}} {
		equal(t, ask(c.method, c.path).Code, c.want)
	}
}

// serveSite serves good on the loopback until the test ends.
func serveSite(t *testing.T, site *Site) (address string) {
	t.Helper()
	site.Set(mustParse(t, good), time.Time{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- site.Serve(ctx, l, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// Who holds connections open keeps only as many as one network may have.
func TestServeLimits(t *testing.T) {
	site := &Site{}
	address := serveSite(t, site)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range maxFromOneNet + 1 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	last := held[maxFromOneNet]
	last.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := last.Read(make([]byte, 1)); err == nil {
		t.Error("it was served")
	} else if n, ok := err.(net.Error); ok && n.Timeout() {
		t.Error("it was kept open")
	}
	equal(t, site.Refused(), 1)
	held[0].SetReadDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(held[0], "GET /z HTTP/1.1\r\nHost: x\r\n\r\n")
	b, err := io.ReadAll(held[0]) // it is closed after one answer
	if err != nil || len(b) < len(good) || string(b[len(b)-len(good):]) != good {
		t.Errorf("got %q, %v", b, err)
	}
	// Its place is free again, at the latest when the server has seen the end.
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Get("http://" + address + "/z")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestLimited(t *testing.T) {
	l := &limited{nets: map[netip.Prefix]int{}}
	from := func(s string) netip.Prefix { return networkOf(&net.TCPAddr{IP: net.ParseIP(s), Port: 1}) }
	equal(t, from("192.0.2.1"), from("::ffff:192.0.2.200"))
	equal(t, from("2001:db8::1"), from("2001:db8:0:ff::1"))
	equal(t, from("2001:db8::1") == from("2001:db8:0:100::1"), false)
	admitted := 0
	for i := range 2 * maxConns {
		if l.admit(from(fmt.Sprintf("10.0.%d.1", i%256))) {
			admitted++
		}
	}
	equal(t, admitted, maxConns)
	for i := range maxConns {
		l.leave(from(fmt.Sprintf("10.0.%d.1", i%256)))
	}
	equal(t, l.total, 0)
	equal(t, len(l.nets), 0)
}
