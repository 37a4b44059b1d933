package link

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
)

const (
	idleHere = 200
	// idleBytes is how much memory one idle client by HTTP may cost: 60 MB for a thousand, less
	// what a process has anyway.
	idleBytes = 16 << 10
)

// A client that has nothing to say, and whose answer stays open, costs little memory.
func TestHTTPIdleClientsCostLittle(t *testing.T) {
	server, _, ep := posting(t)
	address := ep.URL.Value()[len("http://") : len(ep.URL.Value())-1]
	from := make(chan Endpoint, 1)
	go func() {
		ts := make([]Train, 8)
		for {
			n, err := server.Read(ts)
			if err != nil {
				close(from)
				return
			}
			for _, x := range ts[:n] {
				from <- x.Endpoint
			}
		}
	}()
	conns := make([]*webClient, idleHere)
	before := inUse()
	for k := range conns {
		c := dialWeb(t, address)
		conns[k] = c
		c.post(k+1, "n=1", frame(40))
		c.answer()
		server.Keep(<-from, k, true)
		c.post(k+1, "d=1&s=1", nil)
		c.begins()
		confirm := dialWeb(t, address)
		confirm.post(k+1, "d=2&seen=1", nil)
		confirm.answer()
		confirm.Close()
	}
	eventually(t, "an answer stays open for each", func() bool { return count(server, "http_streams") == idleHere })
	each := (inUse() - before) / idleHere
	t.Logf("%d bytes each", each)
	if each > idleBytes {
		t.Errorf("a client costs %d bytes, want at most %d", each, idleBytes)
	}
	runtime.KeepAlive(conns)
}

// inUse is the memory in use by objects and stacks.
func inUse() int {
	var m runtime.MemStats
	for range 3 { // pools are emptied by the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// webClient speaks HTTP as a test has it, with little memory.
type webClient struct {
	t testing.TB
	net.Conn
}

func dialWeb(t testing.TB, address string) *webClient {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &webClient{t, c}
}

// post makes a request of session number k.
func (c *webClient) post(k int, query string, body []byte) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c, "POST /?id=%032x&%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", k, query, len(body), body); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads a whole one.
func (c *webClient) answer() {
	c.t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || r.StatusCode != http.StatusOK {
		c.t.Fatal(r, err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		c.t.Fatal(err)
	}
}

// begins reads the head of one, and its first frame.
func (c *webClient) begins() {
	c.t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || r.StatusCode != http.StatusOK {
		c.t.Fatal(r, err)
	}
	var empty [frameHeader]byte
	if _, err := io.ReadFull(r.Body, empty[:]); err != nil || empty != padding {
		c.t.Fatal(empty, err)
	}
}
