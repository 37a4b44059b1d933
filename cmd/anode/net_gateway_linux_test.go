package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay"
)

// library is a node without an adapter, in the test's process, whose sockets are a host's.
type library struct {
	*host
	lib *overlay.Node
	id  *anode.Identity
}

// newLibrary makes a host for a node that does not run yet.
func newLibrary(t *testing.T, name string) *library {
	t.Helper()
	h := newMachine(t, name)
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	h.address = id.Address()
	h.id, h.ula = h.address.ID(), h.address.ULA()
	return &library{host: h, id: id}
}

// serves answers requests on a listener until the test ends: / is a page, /bytes/N is that
// many, and what is posted to /sum is answered by its length and hash.
func serves(t *testing.T, l net.Listener, seen func(remote string)) {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		seen(r.RemoteAddr)
		io.WriteString(w, "a page")
	})
	mux.HandleFunc("/bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.PathValue("n"), 10, 64)
		io.CopyBuffer(struct{ io.Writer }{w}, pattern(n), make([]byte, 1<<18))
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, sumOf(r.Body)) })
	s := &http.Server{Handler: mux}
	var running sync.WaitGroup
	running.Go(func() { s.Serve(l) })
	t.Cleanup(func() {
		s.Close()
		running.Wait()
	})
}

// pattern is n bytes that are cheap to make.
func pattern(n int64) io.Reader {
	block := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{7}).Read(block)
	var all []io.Reader
	for at := int64(0); at < n; at += int64(len(block)) {
		all = append(all, bytes.NewReader(block[:min(int64(len(block)), n-at)]))
	}
	return io.MultiReader(all...)
}

func sumOf(r io.Reader) string {
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, r, make([]byte, 1<<18))
	return fmt.Sprintf("%d %x %v", n, sum.Sum(nil), err)
}

// TestNetGateway has programs of a machine with an adapter use the listener of a node that
// has none, and the other way round. A third node has an adapter too.
func TestNetGateway(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		need(t, "curl")
	}
	a, b := newHost(t, "a"), newHost(t, "b")
	l, stranger := newLibrary(t, "l"), newLibrary(t, "stranger")
	join(1, a, b, l.host, stranger.host)
	a.add(b)
	a.add(l.host)
	b.add(a)
	a.up()
	b.up()
	l.lib = bareNode(t, l.host, l.id, a, "10.0.1.1")
	stranger.lib = bareNode(t, stranger.host, stranger.id, a, "10.0.1.1")
	a.meets(b)
	a.meets(l.host)
	page, err := l.lib.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var seen sync.Map
	serves(t, page, func(string) {})
	bare := a.resident()
	size := int64(bulk(100 << 20))

	step(t, "curl of a page", func(t *testing.T) {
		if out := a.run("curl", "-sS", "--max-time", "20", "http://"+l.at(80)+"/"); out != "a page" {
			t.Errorf("%q", out)
		}
	}, a)
	step(t, "many bytes from the node", func(t *testing.T) {
		c := a.browser(t)
		cost := a.costs(size)
		r, err := c.Get(fmt.Sprintf("http://%s/bytes/%d", l.at(80), size))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		got := sumOf(r.Body)
		t.Log(cost())
		if want := sumOf(pattern(size)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}, a)
	step(t, "many bytes to the node", func(t *testing.T) {
		c := a.browser(t)
		cost := a.costs(size)
		r, err := c.Post("http://"+l.at(80)+"/sum", "application/octet-stream", io.LimitReader(pattern(size), size))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		got, err := io.ReadAll(r.Body)
		t.Log(cost())
		if string(got) != sumOf(pattern(size)) || err != nil {
			t.Errorf("%s, %v", got, err)
		}
	}, a)
	step(t, "a port without a listener", func(t *testing.T) {
		if errno, took := a.refusal(l.host, 81, dialWait); errno != syscall.ECONNREFUSED {
			t.Errorf("%v after %v", errno, took)
		}
	}, a)
	step(t, "the other way round", func(t *testing.T) {
		serves(t, a.listen(80), func(remote string) { seen.Store(remote, true) })
		web := &http.Transport{DialContext: l.lib.Dial}
		defer web.CloseIdleConnections()
		r, err := (&http.Client{Transport: web, Timeout: 20 * time.Second}).Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if out, err := io.ReadAll(r.Body); string(out) != "a page" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
		n := 0
		seen.Range(func(remote, _ any) bool {
			n++
			if at, err := netip.ParseAddrPort(remote.(string)); err != nil || at.Addr() != l.ula.Addr() {
				t.Errorf("the server sees %v instead of %v", remote, l.ula)
			}
			return true
		})
		if n != 1 {
			t.Errorf("the server saw %d requests", n)
		}
		if _, err := l.lib.Dial(t.Context(), "tcp", "a:82"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port without a service: %v", err)
		}
	}, a)
	step(t, "a stranger", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), dialWait)
		defer cancel()
		if _, err := stranger.lib.Dial(ctx, "tcp", "a:80"); err == nil {
			t.Error("a stranger's stream reaches a service")
		}
	}, a)
	step(t, "between adapters", func(t *testing.T) {
		before := a.status().Counters
		for _, way := range [][2]*host{{b, a}, {a, b}} {
			cost := a.costs(size)
			transfer(t, way[0], way[1], int(size))
			t.Log(way[0].name, "to", way[1].name, cost())
		}
		for name, n := range a.status().Counters {
			if strings.HasPrefix(name, "gateway_") && n != before[name] {
				t.Errorf("%s went from %d to %d", name, before[name], n)
			}
		}
	}, a, b)
	within(t, dialWait, "all connections to end", func() bool { return a.status().Counters["gateway_connections"] == 0 })
	t.Logf("%d kB resident before, %d kB afterwards", bare, a.resident())
	sound(t, a, b)
}

// browser is a client whose connections are the host's.
func (h *host) browser(t *testing.T) *http.Client {
	web := &http.Transport{DisableKeepAlives: true, WriteBufferSize: 1 << 18, ReadBufferSize: 1 << 18, DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
		return in(h, func() (net.Conn, error) { return net.DialTimeout(network, address, dialWait) })
	}}
	t.Cleanup(web.CloseIdleConnections)
	return &http.Client{Transport: web, Timeout: time.Minute}
}

// costs returns what tells, after so many bytes, how fast they were, and what the daemon spent.
func (h *host) costs(n int64) func() string {
	start, cpu := time.Now(), h.cpu()
	return func() string {
		took, spent := time.Since(start).Seconds(), (h.cpu() - cpu).Seconds()
		return fmt.Sprintf("%.2f Gbit/s, hashed; %.2f s of the daemon's CPU for a GB", float64(n)*8/took/1e9, spent/float64(n)*1e9)
	}
}
