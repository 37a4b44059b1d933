package link

import (
	"bytes"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
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
	if n := count(server, "connections_unproved"); n != 0 {
		t.Errorf("%d guests after proof", n)
	}
	if err := client.Trouble(ep); err != nil {
		t.Error(err)
	}
}

// The answers to many packets, both ways, arrive but for those that are counted.
func TestHTTPCarriesALot(t *testing.T) {
	server, client, ep := posting(t)
	from := thereAndBack(t, server, client, ep)
	carry(t, server, client, ep, from, 20000)
}

// carry moves n packets each way.
func carry(t testing.TB, server, client *Mux, ep, from Endpoint, n int) {
	t.Helper()
	var both sync.WaitGroup
	for _, d := range []struct {
		from, to *Mux
		ep       Endpoint
	}{{client, server, ep}, {server, client, from}} {
		both.Go(func() {
			w := d.from.NewWriter()
			for sent := 0; sent < n; {
				if k, _ := w.Write(packets(d.ep, 40, 1400)); k == 1 {
					sent += 40
				} else {
					time.Sleep(time.Millisecond)
				}
			}
		})
		both.Go(func() {
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
