package link

import (
	"bufio"
	"io"
	"testing"
	"testing/iotest"
)

// counted counts the reads.
type counted struct {
	io.Reader
	reads int
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads++
	return c.Reader.Read(p)
}

// framesOf is the body of a request with n packets of 1400 bytes.
func framesOf(n int) []byte {
	var body []byte
	for range n {
		body = appendFrames(body, &packets(Endpoint{}, 1, 1400)[0])
	}
	return body
}

const head = 200 // bytes of a request before its body

// pourAll pours a body of packets, whose first bytes package net/http has read with the head, and
// returns how often the connection was read from.
func pourAll(t *testing.T, body []byte, in func(io.Reader) io.Reader, length int64, guest bool) (reads int) {
	t.Helper()
	m := NewMux(MuxConfig{})
	defer m.Close()
	arrived := arrivals(m)
	r, w := io.Pipe()
	go func() {
		w.Write(append(make([]byte, head), body...))
		w.Close()
	}()
	conn := &counted{Reader: r}
	buffered := bufio.NewReader(conn)
	if _, err := buffered.Discard(head); err != nil {
		t.Fatal(err)
	}
	if n, err := pour(m, Endpoint{Kind: HTTP}, in(buffered), length, guest, nil); n != len(body) || err != nil {
		t.Fatal(n, err)
	}
	for range frames(body) {
		if x := <-arrived; len(x.packet) != 1400 {
			t.Fatalf("a packet of %d bytes", len(x.packet))
		}
	}
	return conn.reads
}

// What comes by HTTP is read in large pieces, though package net/http has a small buffer, with a few
// bytes in it at times.
func TestHTTPReadsLargePieces(t *testing.T) {
	body := framesOf(300)
	plain := func(r io.Reader) io.Reader { return r }
	if n := pourAll(t, body, plain, int64(len(body)), false); n > 8 {
		t.Errorf("%d reads for a body of %d bytes", n, len(body))
	}
	if n := pourAll(t, body, plain, -1, false); n > 8 {
		t.Errorf("%d reads for a body of %d bytes that has no length", n, len(body))
	}
	if n := pourAll(t, body, plain, int64(len(body)), true); n < len(body)/smallBuffer {
		t.Errorf("%d reads for a guest, who has a small buffer", n)
	}
	pourAll(t, body, iotest.HalfReader, int64(len(body)), false)
}
