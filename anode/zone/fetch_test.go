package zone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

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
		var known Copy
		if c.cached != "" {
			known.File = mustParse(t, c.cached)
		}
		copy, err := Fetch(context.Background(), &http.Client{Transport: c.web}, testZone, known)
		got := ""
		if copy.File != nil {
			got = copy.File.Name()
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
	known := Copy{File: mustParse(t, "n=x")}
	if c, err := Fetch(context.Background(), &http.Client{Transport: web{}}, 0, known); c != known || !errors.Is(err, ErrLocal) {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestFetchCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	known := Copy{File: mustParse(t, "n=x")}
	c, err := Fetch(ctx, NewClient(nil), testZone, known)
	if c != known || !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("got %v, %v", c, err)
	}
}

// slow is a web in which some places never answer.
type slow struct {
	web
	silent []string
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	if slices.Contains(s.silent, r.URL.String()) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return s.web.RoundTrip(r)
}

// A place that does not answer costs a quarter of a second, and one that fails nothing.
func TestFetchDoesNotWait(t *testing.T) {
	for name, c := range map[string]struct {
		silent []string
		web    web
		want   time.Duration
	}{
		"DNS is silent":           {[]string{byDNS}, web{byIP: "n=x"}, headStart},
		"all fail":                {nil, web{}, 0},
		"one is silent, one gone": {[]string{byDNS}, web{mapped: "n=x"}, headStart},
		"all are silent":          {[]string{byDNS, byIP, mapped}, web{}, attemptTimeout + 2*headStart},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				copy, err := Fetch(t.Context(), &http.Client{Transport: slow{c.web, c.silent}}, testZone, Copy{})
				if (err == nil) != (len(c.web) > 0) || (copy.File != nil) != (err == nil) {
					t.Errorf("got %v, %v", copy.File, err)
				}
				if took := time.Since(start); took != c.want {
					t.Errorf("it took %v, want %v", took, c.want)
				}
			})
		})
	}
}

// redirected is a client for which the zone's machine is a test's server.
func redirected(s *httptest.Server) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			if address != "192.0.2.1:80" {
				return nil, &net.DNSError{IsNotFound: true}
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
		},
	}}
}

// What has not changed is not sent again.
func TestFetchConditional(t *testing.T) {
	site := &Site{}
	var answers []int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record := httptest.NewRecorder()
		site.ServeHTTP(record, r)
		answers = append(answers, record.Code)
		maps.Copy(w.Header(), record.Header())
		w.WriteHeader(record.Code)
		w.Write(record.Body.Bytes())
	}))
	defer s.Close()
	client := redirected(s)
	changed := time.Now().Add(-time.Hour)
	site.Set(mustParse(t, good), changed)
	first, err := Fetch(t.Context(), client, testZone, Copy{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, first.Source, byIP)
	equal(t, first.Modified, changed.UTC().Format(http.TimeFormat))
	again, err := Fetch(t.Context(), client, testZone, first)
	if err != nil || again != first {
		t.Errorf("again: %v, %v", again, err)
	}
	byTime := first
	byTime.ETag = ""
	if same, err := Fetch(t.Context(), client, testZone, byTime); err != nil || same != byTime {
		t.Errorf("by time: %v, %v", same, err)
	}
	site.Set(mustParse(t, strings.Replace(good, "7", "8", 1)), changed)
	next, err := Fetch(t.Context(), client, testZone, first)
	if err != nil || next.File.Revision() != 8 {
		t.Errorf("changed: %v, %v", next, err)
	}
	equal(t, fmt.Sprint(answers), "[200 304 304 200]")
	// From another place, it has to be sent whole.
	elsewhere := next
	elsewhere.Source = byDNS
	if _, err := Fetch(t.Context(), client, testZone, elsewhere); err != nil {
		t.Error(err)
	}
	equal(t, fmt.Sprint(answers), "[200 304 304 200 200]")
}

// "Not modified" means nothing to those who did not ask.
func TestFetchUnasked(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }))
	defer s.Close()
	c, err := Fetch(t.Context(), redirected(s), testZone, Copy{File: mustParse(t, good), Source: byIP})
	if c.File == nil || err == nil || !strings.Contains(err.Error(), byIP+": the server answered 304 Not Modified") {
		t.Errorf("got %v, %v", c, err)
	}
}

// Errors are for people.
func TestFetchError(t *testing.T) {
	_, err := Fetch(t.Context(), NewClient(nil), 0x0a000001, Copy{}) // 10.0.0.1
	if err == nil || !strings.Contains(err.Error(), "http://10.0.0.1/z: not a public address: 10.0.0.1") || strings.Contains(err.Error(), "::ffff") {
		t.Errorf("got %v", err)
	}
	for text, err := range map[string]error{
		"DNS has no such name":                       &url.Error{Err: &net.OpError{Err: &net.DNSError{IsNotFound: true}}},
		"DNS did not answer":                         &url.Error{Err: &net.OpError{Err: &net.DNSError{IsTimeout: true}}},
		"no answer":                                  &url.Error{Err: context.DeadlineExceeded},
		"connection refused":                         &url.Error{Err: &net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}},
		"the server closed the connection too early": &url.Error{Err: io.ErrUnexpectedEOF},
	} {
		equal(t, (&Attempt{byIP, err}).Error(), byIP+": "+text)
	}
}

func TestDialed(t *testing.T) {
	for address, want := range map[string]string{
		"a--c0000201.net:80":   "a--c0000201.net.:80", // not a--c0000201.net.office.example
		"a--c0000201.net.:80":  "a--c0000201.net.:80",
		"192.0.2.1:80":         "192.0.2.1:80",
		"[2606:4700::1111]:80": "[2606:4700::1111]:80",
	} {
		equal(t, dialed(address), want)
	}
	ip, port, ok := mappedHost("[::ffff:192.0.2.1]:80")
	equal(t, fmt.Sprint(ip, " ", port, " ", ok), "192.0.2.1 80 true")
	for _, address := range []string{"192.0.2.1:80", "[2606:4700::1111]:80", "a--c0000201.net:80", ""} {
		if _, _, ok := mappedHost(address); ok {
			t.Error(address)
		}
	}
}

func TestNamed(t *testing.T) {
	allow := Named(0x0a000001)
	for s, want := range map[string]bool{
		"10.0.0.1": true, "10.0.0.2": false, "127.0.0.1": false, "1.1.1.1": true, "64:ff9b::a00:1": false,
	} {
		equal(t, allow(netip.MustParseAddr(s)), want)
	}
	equal(t, Named(0x7f000001)(netip.MustParseAddr("127.0.0.1")), false)
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
