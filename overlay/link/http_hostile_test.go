package link

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Of somebody who has proved who it is, sessions replace each other, and those that were replaced are
// over: what comes for them later is a stranger's again.
func TestHTTPSessionsOfAnOwner(t *testing.T) {
	for name, added := range map[string]bool{"peer": true, "client": false} {
		inVirtualTime(t, func(t *testing.T, v *virtual) {
			most := maxOwnedByOther
			if added {
				most = maxOwned
			}
			use := func(k int) {
				c := v.raw("203.0.113.5", fmt.Sprintf("POST /?id=%032x&n=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 42\r\n\r\n%s", k+1, frame(40)))
				defer c.Close()
				if code := status(t, c); code != http.StatusOK {
					t.Fatalf("session %d: status %d", k, code)
				}
				v.server.Keep((<-v.arrived).from, name, added)
			}
			for k := range 10 * most {
				use(k)
				synctest.Wait()
			}
			c := v.server.Counters()
			if c["http_sessions"] != uint64(most) || c["connections"] != uint64(most) || c["ended_replaced_proved"] != uint64(9*most) || c["http_sessions_unproved"] != 0 {
				t.Errorf("%s: counters %v", name, c)
			}
			v.raw("203.0.113.5", fmt.Sprintf("POST /?id=%032x&d=1&w=9 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 1))
			synctest.Wait()
			if n := count(v.server, "http_sessions_unproved"); n != 1 {
				t.Errorf("%s: a session that was replaced goes on", name)
			}
			v.server.Release(name)
			if n := count(v.server, "http_sessions"); n != 1 {
				t.Errorf("%s: %d sessions after the release", name, n)
			}
		})
	}
}

// Somebody who has proved who it is opens connections without end: a few last, the rest end as those of
// strangers do, and strangers of one address are few.
func TestHTTPConnectionsOfAnOwner(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		from := v.meet(virtualServer)
		c := v.raw("203.0.113.5", fmt.Sprintf("POST /?id=%s&n=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 42\r\n\r\n%s", someSession, frame(40)))
		status(t, c)
		v.server.Keep((<-v.arrived).from, "peer", true)
		before := count(v.server, "http_connections")
		for k := range 3000 {
			c := v.raw("203.0.113.5", "")
			go func() {
				io.WriteString(c, "POST /?id="+someSession+fmt.Sprintf("&n=%d", k+2)+" HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
			}()
			go io.Copy(io.Discard, c)
			synctest.Wait()
		}
		counts := v.server.Counters()
		if n := counts["http_connections"] - before; n > maxVouched+maxSiteStrangers || n < maxVouched {
			t.Errorf("%d connections", n)
		}
		if counts["http_refused_connections"] == 0 || counts["http_connections_not_owned"] == 0 {
			t.Errorf("counters %v", counts)
		}
		v.server.NewWriter().Write(packets(from, 1, 50))
		if x := <-v.back; len(x.packet) != 50 {
			t.Error("another packet came")
		}
		time.Sleep(idleConnFor + time.Second)
		synctest.Wait()
		v.server.web.mu.Lock()
		defer v.server.web.mu.Unlock()
		for _, s := range v.server.web.sessions {
			if n := s.vouched.Load(); n < 0 || n > 8 {
				t.Errorf("%d connections of a session", n)
			}
		}
	})
}

// Connections from one address that say half of a request are few, and others get in.
func TestHTTPConnectionsFromOneAddress(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		for range 1000 {
			c := v.raw("203.0.113.5", "")
			go io.WriteString(c, "POST / HTTP/1.1\r\n")
			go io.Copy(io.Discard, c)
		}
		synctest.Wait()
		// One that is replaced at the moment when it is passed on is counted as refused too.
		if c := v.server.Counters(); c["http_connections"] != maxSiteStrangers || c["http_refused_connections"]+c["ended_replaced_source"] < 1000-maxSiteStrangers {
			t.Errorf("counters %v", c)
		}
		v.meet(virtualServer)
		time.Sleep(strangeFor)
		if n := count(v.server, "http_no_request"); n != maxSiteStrangers {
			t.Errorf("%d ended without a request", n)
		}
	})
}

// What is no request, or none in time, is counted.
func TestHTTPNoRequest(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		for k, text := range []string{"POST / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 10000), "POST / HTTP/1.1\r\nX: ", "HELO me\r\n\r\n", "POST / HTTP/9.9\r\n\r\n"} {
			c := v.raw("203.0.113.5", "")
			go io.WriteString(c, text)
			io.Copy(io.Discard, c)
			synctest.Wait()
			if n := count(v.server, "http_no_request"); n != uint64(k+1) {
				t.Errorf("%.20q: %d are counted, want %d", text, n, k+1)
			}
		}
	})
}

// A body whose bytes never come, or never end, ends; so does one in chunks of one byte, and one of
// nothing but empty frames.
func TestHTTPBodiesWithoutEnd(t *testing.T) {
	for name, x := range map[string]struct {
		head, again, counter string
	}{
		"never comes":     {"Content-Length: 1000", "", "http_slow_body"},
		"padding":         {"Transfer-Encoding: chunked", "1000\r\n" + strings.Repeat("\x00", 4096) + "\r\n", "http_refused_body"},
		"packets":         {"Transfer-Encoding: chunked", "3f0\r\n" + strings.Repeat(string(frame(40)), 24) + "\r\n", "http_refused_body"},
		"a byte a chunk":  {"Transfer-Encoding: chunked", "1\r\n\x00\r\n", "http_refused_body"},
		"chunk with text": {"Transfer-Encoding: chunked", "1;x=" + strings.Repeat("y", 3000) + "\r\n\x00\r\n", ""},
	} {
		inVirtualTime(t, func(t *testing.T, v *virtual) {
			from := v.meet(virtualServer)
			c := v.raw("203.0.113.5", "POST /?id="+someSession+"&n=1 HTTP/1.1\r\nHost: h\r\n"+x.head+"\r\n\r\n")
			go io.Copy(io.Discard, c)
			began, sent := time.Now(), 0
			for x.again != "" && sent < 16<<20 {
				n, err := io.WriteString(c, x.again)
				if sent += n; err != nil {
					break
				}
			}
			for v.server.web.gate.size() > 1 && time.Since(began) < time.Minute {
				time.Sleep(time.Second)
			}
			if took := time.Since(began); took > proveFor+janitorEvery+time.Second || sent > 2<<20 { // net/http reads on a little
				t.Errorf("%s: %d bytes, %v", name, sent, took)
			}
			if x.counter != "" && count(v.server, x.counter) != 1 {
				t.Errorf("%s: counters %v", name, v.server.Counters())
			}
			v.server.NewWriter().Write(packets(from, 1, 50))
			if y := <-v.back; len(y.packet) != 50 {
				t.Errorf("%s: another packet came", name)
			}
		})
	}
}

// Requests that come behind each other on one connection are answered in turn, however many.
func TestHTTPPipelinedRequests(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		from := v.meet(virtualServer)
		c := v.raw("203.0.113.5", "")
		const requests = 2000
		go io.WriteString(c, strings.Repeat("POST /?id="+someSession+"&n=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", requests))
		synctest.Wait() // nobody reads the answers: only what fits into buffers was taken
		if n := count(v.server, "http_requests"); n > 200 {
			t.Errorf("%d requests are served, and no answer is read", n)
		}
		in := bufio.NewReader(c)
		for k := range requests {
			answer, err := http.ReadResponse(in, nil)
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Fatalf("answer %d: %v, %v", k, answer, err)
			}
			io.Copy(io.Discard, answer.Body)
		}
		if n := count(v.server, "http_refused_in_flight"); n != 0 {
			t.Errorf("%d were in flight at once", n)
		}
		v.server.NewWriter().Write(packets(from, 1, 50))
		<-v.back
	})
}

// An answer that nobody reads ends in time, and no more waits meanwhile than may.
func TestHTTPAnswersThatNobodyReads(t *testing.T) {
	for _, stream := range []bool{false, true} {
		inVirtualTime(t, func(t *testing.T, v *virtual) {
			c := v.raw("203.0.113.5", fmt.Sprintf("POST /?id=%s&n=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 42\r\n\r\n%s", someSession, frame(40)))
			status(t, c)
			from := (<-v.arrived).from
			v.server.Keep(from, "peer", true)
			query := "&d=1&w=20"
			if stream {
				query = "&d=1&s=1"
			}
			slow := v.raw("203.0.113.5", "POST /?id="+someSession+query+" HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
			if stream {
				answer, err := http.ReadResponse(bufio.NewReader(slow), nil)
				if err != nil || !answer.Close {
					t.Fatal(answer, err)
				}
				go io.ReadFull(answer.Body, make([]byte, 2))
				see := v.raw("203.0.113.5", "POST /?id="+someSession+"&d=2&seen=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
				status(t, see)
				synctest.Wait()
			}
			out := v.server.NewWriter()
			for range 3000 {
				out.Write(packets(from, 40, 1000))
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			counts := v.server.Counters()
			if counts["http_slow_reader"] != 1 || counts["tx_queue_full"]+counts["tx_too_late"] == 0 {
				t.Errorf("stream %v: counters %v", stream, counts)
			}
			v.server.web.mu.Lock()
			defer v.server.web.mu.Unlock()
			for _, s := range v.server.web.sessions {
				if n := s.size(); n > maxQueued {
					t.Errorf("%d bytes wait", n)
				}
			}
		})
	}
}

// Empty frames without end are read of a guest as little as packets, and prove nothing to who dialled.
func TestPaddingWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		sent := func(c net.Conn) (n int) {
			for b, until := make([]byte, 4096), time.Now().Add(time.Minute); time.Now().Before(until); {
				k, err := c.Write(b)
				if n += k; err != nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			return n
		}
		if n := sent(w.connect("192.0.2.1:1")); n > guestMost+smallBuffer {
			t.Errorf("%d bytes of a guest were read", n)
		}
		synctest.Wait()
		w.counts(t, "ended_unproved", 1)
		ours, theirs := net.Pipe()
		w.dial = func() (net.Conn, error) { return ours, nil }
		ep := Endpoint{Kind: TCP, Addr: netip.MustParseAddrPort("192.0.2.9:25")}
		go io.Copy(io.Discard, theirs)
		w.m.NewWriter().Write([]Train{{Buf: make([]byte, 40), Size: 40, Endpoint: ep}})
		began := time.Now()
		sent(theirs)
		if took := time.Since(began); took > frameFor+time.Second {
			t.Errorf("it lasts %v", took)
		}
		synctest.Wait()
		w.counts(t, "ended_silent", 1)
	})
}

// FuzzHTTPAnswer reads what servers and proxies answer: a redirect leads to the same host by https or
// nowhere, and an answer that is taken for one of ours is none of a web site's pages.
func FuzzHTTPAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=x\r\n\r\n<html>"), true)
	f.Add([]byte("HTTP/1.1 301 Moved\r\nLocation: https://server/x?y#z\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.1 407 Proxy\r\nProxy-Authenticate: Digest realm=\"a\", nonce=\"b\"\r\n\r\n"), true)
	m := NewMux(MuxConfig{Streams: new(System)})
	f.Cleanup(func() { m.Close() })
	f.Fuzz(func(t *testing.T, b []byte, proxied bool) {
		u, err := parseURL("http://server/path?a=b")
		if err != nil {
			t.Fatal(err)
		}
		w, err := m.newWay(u)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "http://server/path?a=b", nil)
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), r)
		if err != nil {
			return
		}
		defer answer.Body.Close()
		if to := w.redirect(answer); to != nil && (to.Scheme != "https" || !strings.EqualFold(to.Hostname(), "server") || to.RawQuery != "a=b") {
			t.Errorf("it leads to %v", to)
		}
		switch err := judge(answer, proxied); {
		case err != nil && (troubleOf(err).Error() == "" || strings.Contains(troubleOf(err).Error(), "\n")):
			t.Errorf("error %q", err)
		case err == nil && answer.StatusCode/100 != 2:
			t.Errorf("status %d is taken", answer.StatusCode)
		}
		var p proxies
		p.challenge(func(string) (string, string) { return "user", "secret" }, &url.URL{Scheme: "http", Host: "proxy:3128"}, answer, "")
	})
}

// FuzzParseURL parses URLs of endpoints, which zone files and peers name.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"http://192.0.2.1/", "https://user:word@[2001:db8::1]:8443/a%20b?c=d&e#f", "http://h", "ftp://x", "http:///", "http://[::1", "http://h:99999/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseURL(s)
		if err != nil {
			return
		}
		if u.User != nil || u.Fragment != "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			t.Errorf("%q is taken as %v", s, u)
		}
		again, err := parseURL(u.String())
		if err == nil && again.String() != u.String() {
			t.Errorf("%q is %v, then %v", s, u, again)
		}
	})
}
