package proxy

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// ended is a connection whose other side has ended.
type ended struct {
	net.Conn
	first  func() // called by the first Close
	aborts int
}

func (c *ended) Read([]byte) (int, error) { return 0, io.EOF }
func (c *ended) CloseWrite() error        { return nil }
func (c *ended) Abort()                   { c.aborts++ }
func (c *ended) Close() error {
	if f := c.first; f != nil {
		c.first = nil
		f()
	}
	return nil
}

// TestSpliceEnds: the context of an HTTP request ends as its connection is closed. That must
// not reset the other one, of which data may still be on its way.
func TestSpliceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, b := &ended{first: func() { cancel(); synctest.Wait() }}, &ended{}
		if err := Splice(ctx, a, b); err != nil || a.aborts+b.aborts != 0 {
			t.Errorf("%v, %d and %d resets", err, a.aborts, b.aborts)
		}
	})
}
