package link

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// muxes returns one that listens and one that does not, and the endpoint of the first.
func muxes(t testing.TB) (server, client *Mux, ep Endpoint) {
	t.Helper()
	system := new(System)
	server, client = NewMux(MuxConfig{Streams: system}), NewMux(MuxConfig{Streams: system})
	t.Cleanup(func() { client.Close(); server.Close() })
	if err := server.ListenTCP(0); err != nil {
		t.Fatal(err)
	}
	port := server.listeners[0].Addr().(*net.TCPAddr).Port
	return server, client, Endpoint{Kind: TCP, Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))}
}

// read returns the next packets of a Conn.
func read(t testing.TB, c Conn) (got [][]byte, from Endpoint) {
	t.Helper()
	ts := make([]Train, 8)
	n, err := c.Read(ts)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts[:n] {
		for p := x.Buf; len(p) > 0; p = p[min(x.Size, len(p)):] {
			got = append(got, bytes.Clone(p[:min(x.Size, len(p))]))
		}
		from = x.Endpoint
	}
	return got, from
}

// What is written before the connection is there arrives, and so does the answer to where it
// came from.
func TestMuxThereAndBack(t *testing.T) {
	server, client, ep := muxes(t)
	there := bytes.Repeat([]byte("there"), 21)
	if sent, err := client.NewWriter().Write([]Train{{Buf: there, Size: 35, Endpoint: ep}}); sent != 1 || err != nil {
		t.Fatal(sent, err)
	}
	got, from := read(t, server)
	if len(got) != 3 || !bytes.Equal(bytes.Join(got, nil), there) || from.Kind != TCP || from.Conn == 0 {
		t.Fatalf("%d packets from %v, connection %d", len(got), from, from.Conn)
	}
	server.Keep(from, "client", true)
	back := bytes.Repeat([]byte("back"), 2000)
	if sent, err := server.NewWriter().Write([]Train{{Buf: back, Size: len(back), Endpoint: from}}); sent != 1 || err != nil {
		t.Fatal(sent, err)
	}
	if got, from = read(t, client); len(got) != 1 || !bytes.Equal(got[0], back) || !from.Same(&ep) {
		t.Errorf("%d packets from %v", len(got), from)
	}
	if n := client.Counters()["dialled"]; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// An endpoint of a connection that ended takes nothing, and whoever is told so can forget it.
func TestMuxTellsWhatEnded(t *testing.T) {
	ended := make(chan Endpoint, 1)
	system := new(System)
	server := NewMux(MuxConfig{Streams: system, Ended: func(ep Endpoint) { ended <- ep }})
	defer server.Close()
	if err := server.ListenTCP(0); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", server.listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 40)
	conn.Write(appendFrames(nil, &Train{Buf: packet, Size: 40}))
	_, from := read(t, server)
	server.Keep(from, "client", true)
	conn.Close()
	read := make(chan struct{})
	go func() { defer close(read); server.Read(make([]Train, 1)) }()
	if ep := <-ended; !ep.Same(&from) {
		t.Errorf("%v ended, want %v", ep, from)
	}
	if sent, err := server.NewWriter().Write([]Train{{Buf: packet, Size: 40, Endpoint: from}}); sent != 0 || err == nil {
		t.Errorf("%d sent, %v", sent, err)
	}
	server.Close()
	<-read
}

// Who does not read loses what does not fit, and nothing waits for it.
func TestMuxQueueHasABound(t *testing.T) {
	server, client, ep := muxes(t)
	w := client.NewWriter()
	packet := make([]byte, 60000)
	w.Write([]Train{{Buf: packet[:40], Size: 40, Endpoint: ep}})
	_, from := read(t, server)
	server.Keep(from, "client", true)
	// The server hands over nothing more, since nobody reads.
	for range 1000 {
		w.Write([]Train{{Buf: packet, Size: 1000, Endpoint: ep}})
	}
	c := client.Counters()
	if c["tx_queue_full"]+c["tx_too_late"] == 0 || c["tx_packets"] == 0 {
		t.Errorf("counters %v", c)
	}
}

// Many packets, both ways at once, arrive in order and whole, except those that are counted.
func TestMuxCarriesALot(t *testing.T) {
	server, client, ep := muxes(t)
	w := client.NewWriter()
	packet := make([]byte, 1400)
	w.Write([]Train{{Buf: packet[:40], Size: 40, Endpoint: ep}})
	_, from := read(t, server)
	server.Keep(from, "client", true)
	var both sync.WaitGroup
	for _, d := range []struct {
		from, to *Mux
		ep       Endpoint
	}{{client, server, ep}, {server, client, from}} {
		both.Go(func() {
			w := d.from.NewWriter()
			train := bytes.Repeat(packet, 40)
			sent := 0
			for sent < 20000 {
				if n, _ := w.Write([]Train{{Buf: train, Size: len(packet), Endpoint: d.ep}}); n == 1 {
					sent += 40
				} else {
					time.Sleep(time.Millisecond)
				}
			}
		})
		both.Go(func() {
			ts := make([]Train, 32)
			for got := 0; got < 20000; {
				n, err := d.to.Read(ts)
				if err != nil {
					t.Error(err)
					return
				}
				for _, x := range ts[:n] {
					got += x.Packets()
				}
			}
		})
	}
	both.Wait()
}

// A connection that was dropped is replaced by the next packet, and Ended hears of neither.
func TestMuxDrops(t *testing.T) {
	server, _, to := muxes(t)
	client := NewMux(MuxConfig{Streams: new(System), Ended: func(ep Endpoint) { t.Errorf("%v ended", ep) }})
	defer client.Close()
	w := client.NewWriter()
	var before Endpoint
	for range 2 {
		if sent, err := w.Write([]Train{{Buf: make([]byte, 40), Size: 40, Endpoint: to}}); sent != 1 || err != nil {
			t.Fatal(sent, err)
		}
		_, from := read(t, server)
		if from.Same(&before) {
			t.Error("the connection is the same")
		}
		before = from
		// Without an answer, it would count as one that does not work, and be opened again later.
		server.NewWriter().Write([]Train{{Buf: make([]byte, 40), Size: 40, Endpoint: from}})
		read(t, client)
		client.Drop(to)
	}
	if n := client.Counters()["dialled"]; n != 2 {
		t.Errorf("%d connections", n)
	}
}
