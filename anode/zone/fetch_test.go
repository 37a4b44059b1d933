package zone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"anodenet/anode"
)

func TestCandidates(t *testing.T) {
	for z, want := range map[anode.Zone][]string{
		0:          nil,
		0xc0000201: {"http://a--c0000201.net/z", "http://192.0.2.1/z", "http://[::ffff:192.0.2.1]/z"},
		0x00000001: {"http://a--00000001.net/z"},
		0x7f000001: {"http://a--7f000001.net/z"},
		0xe0000001: {"http://a--e0000001.net/z"},
		0xffffffff: {"http://a--ffffffff.net/z"},
	} {
		if got := Candidates(z); !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", z, got, want)
		}
	}
}

// web is a client's whole world: bodies by URI.
type web map[string]string

func (w web) RoundTrip(r *http.Request) (*http.Response, error) {
	body, ok := w[r.URL.String()]
	if !ok {
		return nil, errors.New("no such host")
	}
	status := http.StatusOK
	if body == "404" {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

const (
	testZone = anode.Zone(0xc0000201)
	byDNS    = "http://a--c0000201.net/z"
	byIP     = "http://192.0.2.1/z"
	mapped   = "http://[::ffff:192.0.2.1]/z"
)

func TestFetch(t *testing.T) {
	revision := func(r int, where string) string { return fmt.Sprintf("n=%s\nr=%d\n", where, r) }
	huge := "n=huge\n" + strings.Repeat(";", MaxSize)
	for name, c := range map[string]struct {
		web    web
		cached string
		want   string // the name in the file, or "" for none
		err    error
	}{
		"by DNS first":            {web{byDNS: revision(1, "dns"), byIP: revision(9, "ip")}, "", "dns", nil},
		"then by IP":              {web{byIP: revision(1, "ip"), mapped: revision(9, "mapped")}, "", "ip", nil},
		"then mapped":             {web{mapped: revision(1, "mapped")}, "", "mapped", nil},
		"nothing":                 {web{}, "", "", errors.ErrUnsupported},
		"nothing, but the cached": {web{}, revision(3, "cached"), "cached", errors.ErrUnsupported},
		"a newer one":             {web{byDNS: revision(4, "dns")}, revision(3, "cached"), "dns", nil},
		"the same revision":       {web{byDNS: revision(3, "dns")}, revision(3, "cached"), "dns", nil},
		"an older one":            {web{byDNS: revision(2, "dns")}, revision(3, "cached"), "cached", ErrOlder},
		"one without a revision":  {web{byDNS: "n=dns\n"}, revision(3, "cached"), "cached", ErrOlder},
		"an older, then a newer":  {web{byDNS: revision(2, "dns"), byIP: revision(3, "ip")}, revision(3, "cached"), "ip", nil},
		"not found, then found":   {web{byDNS: "404", byIP: revision(1, "ip")}, "", "ip", nil},
		"not found":               {web{byDNS: "404"}, "", "", errors.ErrUnsupported},
		"a web page":              {web{byDNS: "<html lang=en><meta a=b>"}, "", "", ErrInvalid},
		"too large":               {web{byDNS: huge}, "", "", ErrSize},
		"binary":                  {web{byDNS: "n=\x00"}, "", "", ErrNUL},
	} {
		var cached *File
		if c.cached != "" {
			cached = mustParse(t, c.cached)
		}
		f, err := Fetch(context.Background(), &http.Client{Transport: c.web}, testZone, cached)
		got := ""
		if f != nil {
			got = f.Name()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		switch {
		case (err == nil) != (c.err == nil):
			t.Errorf("%s: got %v", name, err)
		case c.err != nil && c.err != errors.ErrUnsupported && !errors.Is(err, c.err): // ErrUnsupported: any
			t.Errorf("%s: got %v, want %v", name, err, c.err)
		}
	}
}

func TestFetchLocalZone(t *testing.T) {
	cached := mustParse(t, "n=x")
	if f, err := Fetch(context.Background(), &http.Client{Transport: web{}}, 0, cached); f != nil || !errors.Is(err, ErrLocal) {
		t.Errorf("got %v, %v", f, err)
	}
}

func TestFetchCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cached := mustParse(t, "n=x")
	f, err := Fetch(ctx, NewClient(nil), testZone, cached)
	if f != cached || !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("got %v, %v", f, err)
	}
}

// A name that leads home, or a web server that sends us there, does not get there.
func TestNewClientRefuses(t *testing.T) {
	reached := false
	home := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer home.Close()
	if _, err := NewClient(nil).Get(home.URL); !errors.Is(err, ErrNotPublic) || reached {
		t.Errorf("got %v, reached %v", err, reached)
	}

	away := httptest.NewServer(http.RedirectHandler(home.URL, http.StatusFound))
	defer away.Close()
	connections := 0
	client := NewClient(func(ip netip.Addr) bool {
		connections++
		return ip.IsLoopback() && connections == 1
	})
	if _, err := client.Get(away.URL); !errors.Is(err, ErrNotPublic) || reached {
		t.Errorf("redirected: got %v, reached %v", err, reached)
	}
}

func TestNewClientRedirections(t *testing.T) {
	n := 0
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, s.URL, http.StatusFound)
	}))
	defer s.Close()
	if _, err := NewClient(netip.Addr.IsLoopback).Get(s.URL); err == nil || n != 1+maxRedirects {
		t.Errorf("got %v after %d requests", err, n)
	}
}

func TestHandler(t *testing.T) {
	f := mustParse(t, good)
	s := httptest.NewServer(Handler(f))
	defer s.Close()
	resp, err := NewClient(netip.Addr.IsLoopback).Get(s.URL + "/z")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(b, f.Bytes()) {
		t.Errorf("got %q, %v", b, err)
	}
	equal(t, resp.Header.Get("Content-Type"), "text/plain; charset=utf-8")
	equal(t, resp.Header.Get("Cache-Control"), "max-age=3600")

	for _, c := range []struct {
		method, path string
		want         int
	}{{"GET", "/", 404}, {"GET", "/z/", 404}, {"POST", "/z", 405}, {"HEAD", "/z", 200}} {
		w := httptest.NewRecorder()
		Handler(f).ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.want {
			t.Errorf("%s %s: got %d, want %d", c.method, c.path, w.Code, c.want)
		}
	}
}

func TestPublic(t *testing.T) {
	for s, want := range map[string]bool{
		"1.1.1.1": true, "223.255.255.254": true, "172.15.0.1": true, "172.32.0.1": true, "100.128.0.1": true,
		"0.0.0.1": false, "10.1.2.3": false, "100.64.0.1": false, "127.0.0.1": false, "169.254.169.254": false,
		"172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "198.18.0.1": false, "192.0.2.1": false,
		"224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"2606:4700::1111": true, "2001:200::1": true, "3fff:1000::1": true,
		"::": false, "::1": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "2001:db8::1": false,
		"2002:a00:1::1": false, "2001::1": false, "3fff::1": false, "4000::1": false,
		"::ffff:10.0.0.1": false, "::ffff:1.1.1.1": true, "64:ff9b::1.1.1.1": true, "64:ff9b::10.0.0.1": false,
		"64:ff9b:1::1.1.1.1": false, "::1.1.1.1": false,
	} {
		if got := Public(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: got %v", s, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address passes")
	}
}
