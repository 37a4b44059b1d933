package zone

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// hostileServer is what a server writes after a request, without any limit of its own.
type hostileServer func(w io.Writer)

// sends writes the same again and again, with a pause between, until nobody listens.
func sends(head, again string, pause time.Duration) hostileServer {
	return func(w io.Writer) {
		_, err := io.WriteString(w, head)
		for err == nil {
			time.Sleep(pause)
			_, err = io.WriteString(w, again)
		}
	}
}

// says writes one text.
func says(text string) hostileServer {
	return func(w io.Writer) { io.WriteString(w, text) }
}

// counting counts what comes through.
type counting struct {
	io.Writer
	n int
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n += n
	return n, err
}

// clientOf is a client of NewClient for which the zone's address is a server's, and everything
// else is not there. sent is how much the server got rid of; requests is how many it got.
func clientOf(server hostileServer, sent, requests *atomic.Int64) *http.Client {
	client := NewClient(nil)
	client.Transport.(*http.Transport).DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); host != "192.0.2.1" {
			if ip, err := netip.ParseAddr(host); err == nil && !Public(ip) {
				return nil, &notPublic{ip}
			}
			return nil, &net.DNSError{IsNotFound: true}
		}
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			if _, err := http.ReadRequest(bufio.NewReader(there)); err != nil {
				return
			}
			requests.Add(1)
			c := &counting{Writer: there}
			server(c)
			sent.Add(int64(c.n))
		}()
		return here, nil
	}
	return client
}

// Whatever a server does, it costs bounded time and memory, and the reason is told in words.
func TestFetchHostile(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	redirect := func(to string) hostileServer {
		return says("HTTP/1.1 302 Found\r\nLocation: " + to + "\r\nContent-Length: 0\r\n\r\n")
	}
	for name, c := range map[string]struct {
		server hostileServer
		want   string
	}{
		"a byte a second":         {sends(ok+"\r\nn=", "x", time.Second), "the server does not send the file within 10s"},
		"a header byte a second":  {sends(ok, "x", time.Second), "no answer"},
		"a silent one":            {sends("", "", time.Hour), "no answer"},
		"an endless body":         {sends(ok+"\r\n", "n=xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", 0), "zone file too large: more than 1048576 bytes"},
		"an endless chunked body": {sends(ok+"Transfer-Encoding: chunked\r\n\r\n", "8\r\nn=xxxxx\n\r\n", 0), "zone file too large: more than 1048576 bytes"},
		"an endless header":       {sends(ok, "X-A: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", 0), "the server does not answer as a web server should"},
		"an endless header line":  {sends(ok+"X-A: ", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0), "the server does not answer as a web server should"},
		"endless 1xx answers":     {sends("", "HTTP/1.1 103 Early Hints\r\n\r\n", 0), "the server does not answer as a web server should"},
		"a promise it breaks":     {says(ok + "Content-Length: 1000\r\n\r\nn=x\n"), "the server closed the connection too early"},
		"a length beyond all":     {says(ok + "Content-Length: 99999999999999999999\r\n\r\nn=x\n"), "the server does not answer as a web server should"},
		"another protocol":        {says("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "the server does not answer as a web server should"},
		"nothing":                 {says(""), "the server closed the connection too early"},
		"an empty file":           {says(ok + "\r\n"), "zone file: none of the entries n, d, c, r and ttl is in it"},
		"a portal":                {says(ok + "Content-Type: text/html\r\n\r\n\ufeff \r\n<!DOCTYPE html>\r\n<script>\nr=5\nn=5\n</script>"), ErrPage.Error()},
		"a compressed file":       {says(ok + "Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08n=x\n"), "the server sends the file compressed"},
		"a loop":                  {redirect("/z"), "the server redirects too often"},
		"a redirect to a file":    {redirect("file:///etc/passwd"), "the server redirects to a place that is not on the web"},
		"a redirect to a script":  {redirect("javascript:alert(1)"), "the server redirects to a place that is not on the web"},
		"a redirect into the LAN": {redirect("http://192.168.1.1/reboot"), "not a public address: 192.168.1.1"},
		"a redirect to metadata":  {redirect("http://169.254.169.254/latest/"), "not a public address: 169.254.169.254"},
		"a redirect home by IPv6": {redirect("http://[::1]:631/"), "not a public address: ::1"},
		"a redirect to nowhere":   {says("HTTP/1.1 302 Found\r\n\r\n"), "the server answered 302 Found"},
		"an answer nobody knows":  {says("HTTP/1.1 299 Well\r\nContent-Length: 0\r\n\r\n"), "the server answered 299"},
		"a partial file":          {says("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nn=x"), "the server answered 206 Partial Content"},
		"not modified, unasked":   {says("HTTP/1.1 304 Not Modified\r\n\r\n"), "the server answered 304 Not Modified"},
		"a picture":               {says(ok + "\r\n\x89PNG\r\n\x1a\n\x00"), ErrNUL.Error()},
		"many entries":            {sends(ok+"\r\n", "=\nn=\na1=\n", 0), "zone file too large: more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var sent, requests atomic.Int64
				_, err := Fetch(t.Context(), clientOf(c.server, &sent, &requests), testZone, Copy{})
				if err == nil {
					t.Fatal("it is taken")
				}
				took := time.Since(start)
				time.Sleep(2 * time.Hour) // the server's goroutine ends
				equal(t, err.Error(), byIP+": "+c.want)
				if took > attemptTimeout+headStart {
					t.Errorf("it took %v", took)
				}
				if sent.Load() > 2*MaxSize || requests.Load() > 1+maxRedirects {
					t.Errorf("it got rid of %d bytes, and got %d requests", sent.Load(), requests.Load())
				}
			})
		})
	}
}

// A validator that pins a forged file is not believed for long: the ETag of the zone's own
// file, or a time.
func TestFetchForgedValidators(t *testing.T) {
	for name, header := range map[string]string{
		"the ETag of the zone's own file": `ETag: "own"`,
		"a time between the two":          "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT", // synctest begins then
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent, requests atomic.Int64
				forged := says("HTTP/1.1 200 OK\r\n" + header + "\r\n\r\nn=forged\nr=9\n")
				known, err := Fetch(t.Context(), clientOf(forged, &sent, &requests), testZone, Copy{})
				if err != nil || known.ETag+known.Modified == "" {
					t.Fatal(known, err)
				}
				own := &Site{}
				own.Set(mustParse(t, "n=own\nr=9\n"), time.Now().Add(-time.Hour))
				client := siteClient(own)
				own.page.Load().etag = `"own"`
				for i := range 26 {
					if known, err = Fetch(t.Context(), client, testZone, known); err != nil {
						t.Fatal(err)
					}
					if i == 0 && known.File.Name() != "forged" {
						t.Error("the validator is not sent at all")
					}
					time.Sleep(time.Hour)
				}
				equal(t, known.File.Name(), "own")
			})
		})
	}
}

// siteClient is a client for which the zone's address is a Site.
func siteClient(s *Site) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.String() != byIP {
			return nil, &net.DNSError{IsNotFound: true}
		}
		return answerOf(s, r), nil
	})}
}

// A time in the future is no validator: until then, no file would count as changed.
func TestFetchModifiedInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent, requests atomic.Int64
		server := says("HTTP/1.1 200 OK\r\nLast-Modified: " + time.Now().Add(time.Minute).UTC().Format(http.TimeFormat) + "\r\n\r\nn=x\n")
		c, err := Fetch(t.Context(), clientOf(server, &sent, &requests), testZone, Copy{})
		if err != nil || c.Modified != "" {
			t.Errorf("got %+v, %v", c, err)
		}
	})
}

// files is a web whose files change.
type files struct{ web }

func (f files) fetch(t *testing.T, known Copy) (Copy, error) {
	t.Helper()
	return Fetch(t.Context(), &http.Client{Transport: f.web}, testZone, known)
}

// A file with a lower revision counts once there has been nothing else for some hours, so that
// nobody can end a zone for good by a forged revision.
func TestFetchLower(t *testing.T) {
	const forged, own = "n=forged\nr=18446744073709551615\n", "n=own\nr=7\n"
	hourly := func(t *testing.T, f files, known Copy, n int) (Copy, []string) {
		var names []string
		for range n {
			time.Sleep(time.Hour)
			next, err := f.fetch(t, known)
			if (err != nil) != (next.File == known.File && next.Lower != (Lower{})) {
				t.Errorf("got %v, %v", next, err)
			}
			known = next
			names = append(names, known.File.Name())
		}
		return known, names
	}
	for name, c := range map[string]struct {
		run  func(t *testing.T, f files, known Copy) []string
		want string
	}{
		"the zone's own file comes back": {func(t *testing.T, f files, known Copy) []string {
			f.web[byIP] = own
			_, names := hourly(t, f, known, 4)
			return names
		}, "[forged forged own own]"},
		"many looks in a short time do not count": {func(t *testing.T, f files, known Copy) []string {
			f.web[byIP] = own
			for range 100 {
				known, _ = f.fetch(t, known)
				time.Sleep(time.Minute)
			}
			return []string{known.File.Name()}
		}, "[forged]"},
		"two looks do not count, however long": {func(t *testing.T, f files, known Copy) []string {
			f.web[byIP] = own
			known, _ = f.fetch(t, known)
			time.Sleep(1000 * time.Hour)
			known, _ = f.fetch(t, known)
			return []string{known.File.Name()}
		}, "[forged]"},
		"the known one in between": {func(t *testing.T, f files, known Copy) []string {
			f.web[byIP] = own
			known, a := hourly(t, f, known, 2)
			f.web[byIP] = forged
			known, b := hourly(t, f, known, 1)
			f.web[byIP] = own
			_, c := hourly(t, f, known, 3)
			return append(append(a, b...), c...)
		}, "[forged forged forged forged forged own]"},
		"the known one at another place": {func(t *testing.T, f files, known Copy) []string {
			f.web[byDNS] = own
			_, names := hourly(t, f, known, 5)
			return names
		}, "[forged forged forged forged forged]"},
		"no file without a revision": {func(t *testing.T, f files, known Copy) []string {
			f.web[byIP] = "n=own\n"
			names := []string{}
			for range 5 {
				time.Sleep(time.Hour)
				known, _ = f.fetch(t, known)
				names = append(names, known.File.Name())
			}
			return names
		}, "[forged forged forged forged forged]"},
		"the highest of several": {func(t *testing.T, f files, known Copy) []string {
			f.web[byDNS], f.web[byIP] = "n=old\nr=5\n", own
			_, names := hourly(t, f, known, 3)
			return names
		}, "[forged forged own]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := files{web{byIP: forged}}
				known, err := f.fetch(t, Copy{})
				if err != nil {
					t.Fatal(err)
				}
				equal(t, fmt.Sprint(c.run(t, f, known)), c.want)
			})
		})
	}
}

func TestLowerText(t *testing.T) {
	for _, l := range []Lower{{}, {time.Unix(1796000000, 0), 1}, {time.Unix(1796000000, 0), 32767}} {
		equal(t, parseLower(l.text()), l)
	}
	for _, text := range []string{"", "1", "1 0", "1 -1", "1 99999", "x 1", "1 1 1"} {
		equal(t, parseLower(text), Lower{})
	}
	now := time.Unix(1796000000, 0)
	equal(t, Lower{now.Add(time.Hour), 2}.seen(now), Lower{now, 1}) // the clock was set back
}

func TestNextRevision(t *testing.T) {
	now := time.Unix(1796000000, 0)
	equal(t, NextRevision(7, now), 8)
	equal(t, NextRevision(1<<64-1, now), 1796000000)
	equal(t, NextRevision(1<<64-1, time.Time{}), 1)
}

func TestReasons(t *testing.T) {
	notFound, unreachable := &net.DNSError{IsNotFound: true}, &net.OpError{Err: errNoRoute}
	for want, errs := range map[string][]error{
		"http://a--c0000201.net/z: DNS has no such name":                                               {notFound},
		"http://192.0.2.1/z: no answer":                                                                {notFound, context.DeadlineExceeded, context.DeadlineExceeded},
		"http://a--c0000201.net/z: DNS did not answer; http://192.0.2.1/z: no answer":                  {&net.DNSError{}, context.DeadlineExceeded, ErrNoNAT64},
		"http://192.0.2.1/z: this machine has no IPv4, and by IPv6: " + ErrNoNAT64.Error():             {notFound, unreachable, ErrNoNAT64},
		"http://192.0.2.1/z: this machine has no IPv4, and by IPv6: the server answered 404 Not Found": {notFound, unreachable, &statusError{404}},
	} {
		e := &FetchError{}
		for i, err := range errs {
			e.Attempts = append(e.Attempts, &Attempt{Candidates(testZone)[i], err})
		}
		equal(t, e.Error(), want)
	}
}

func TestNAT64(t *testing.T) {
	for answer, want := range map[string]string{
		"64:ff9b::192.0.0.170":                     "64:ff9b::/96",
		"2606:4700:0:64::192.0.0.171":              "2606:4700:0:64::/96",
		"2606:4700:122:344:c0:0:aa00:0":            "2606:4700:122:344::/64",
		"2606:4700:122:3c0:0:aa::":                 "2606:4700:122:300::/56",
		"2606:4700:122:c000:0:aa00::":              "2606:4700:122::/48",
		"2606:4700:1c0:0:aa::":                     "2606:4700:100::/40",
		"2606:4700:c000:aa::":                      "2606:4700::/32",
		"64:ff9b:1:fffe::192.0.0.170":              "64:ff9b:1:fffe::/96",
		"2606:4700::1 2606:4700:0:64::192.0.0.170": "2606:4700:0:64::/96",
		"fd00::192.0.0.170":                        "", // somebody's LAN
		"fe80::192.0.0.170":                        "",
		"::ffff:192.0.0.170":                       "",
		"2606:4700::192.0.0.172":                   "",
		"":                                         "",
	} {
		var list []netip.Addr
		for text := range strings.FieldsSeq(answer) {
			list = append(list, netip.MustParseAddr(text))
		}
		p, err := nat64(t.Context(), func(_ context.Context, network, name string) ([]netip.Addr, error) {
			equal(t, network+" "+name, "ip6 ipv4only.arpa.")
			return list, nil
		})
		switch {
		case want == "":
			if !errors.Is(err, ErrNoNAT64) {
				t.Errorf("%q: got %v, %v", answer, p, err)
			}
		case err != nil || p.String() != want:
			t.Errorf("%q: got %v, %v, want %v", answer, p, err, want)
		}
	}
	if _, err := nat64(t.Context(), func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("x") }); !errors.Is(err, ErrNoNAT64) {
		t.Error(err)
	}
	// RFC 6052, 2.4.
	for bits, want := range map[int]string{
		32: "2001:db8:c000:221::", 40: "2001:db8:1c0:2:21::", 48: "2001:db8:122:c000:2:2100::",
		56: "2001:db8:122:3c0:0:221::", 64: "2001:db8:122:344:c0:2:2100::", 96: "2001:db8:122:344::192.0.2.33",
	} {
		p := netip.PrefixFrom(netip.MustParseAddr("2001:db8:122:344::"), bits).Masked()
		equal(t, within(p, netip.MustParseAddr("192.0.2.33")), netip.MustParseAddr(want))
	}
	// Nothing private is asked for behind a NAT64.
	_, err := dial64(t.Context(), func(context.Context, string, string) ([]netip.Addr, error) {
		t.Error("DNS is asked")
		return nil, nil
	}, netip.MustParseAddr("10.0.0.1"), "80")
	if !errors.Is(err, ErrNotPublic) {
		t.Error(err)
	}
}

// FuzzNAT64 looks for an answer of DNS that leads into somebody's LAN.
func FuzzNAT64(f *testing.F) {
	f.Add([]byte("\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00\xc0\x00\x00\xaa"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ip, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		p, err := nat64(t.Context(), func(context.Context, string, string) ([]netip.Addr, error) { return []netip.Addr{ip}, nil })
		if err != nil {
			return
		}
		to := within(p, netip.MustParseAddr("1.1.1.1"))
		if !p.Contains(to) || to.IsPrivate() || to.IsLoopback() || to.IsLinkLocalUnicast() || to.IsMulticast() || to.Is4In6() {
			t.Errorf("%v leads to %v", ip, to)
		}
	})
}

// errNoRoute is how a machine without IPv4 fails.
var errNoRoute = os.NewSyscallError("connect", syscall.ENETUNREACH)

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answerOf is a site's answer to a request.
func answerOf(s *Site, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}
