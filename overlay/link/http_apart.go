package link

import (
	"net"
	"strconv"
	"sync"
	"time"
)

// opened is an answer that stays open.
type opened interface {
	// send sends bytes at once.
	send(b []byte) error
	// socket returns the connection; nil: what the system has of it is not known.
	socket() *rawWrite
}

// apart goes on with an answer that stays open on goroutines of its own, once all is known about
// the request, and reports whether it does. For each request, package net/http keeps three times
// the memory that we need, and a relay has thousands of clients that mostly wait. The
// connection ends with the answer.
func (s *session) apart(c *call, mine chan struct{}) bool {
	if c.conn == nil || !s.m.begin() {
		return false
	}
	conn, _, err := c.rc.Hijack()
	if err != nil {
		s.m.running.Done()
		return false
	}
	c.apart = true
	stranger := c.conn
	out := &openAnswer{conn: conn, raw: newRawWrite(conn), chunked: c.r.ProtoAtLeast(1, 1)}
	go func() {
		defer s.m.running.Done()
		defer s.finish(stranger)
		out.serve(s, mine)
	}()
	return true
}

// openAnswer is an answer that stays open, on a connection that is ours.
type openAnswer struct {
	conn    net.Conn
	raw     *rawWrite // nil: it is none of the system's
	chunked bool
}

// socket implements opened.
func (o *openAnswer) socket() *rawWrite { return o.raw }

// serve sends packets as they come, ends the answer, and closes the connection.
func (o *openAnswer) serve(s *session, mine chan struct{}) {
	gone := make(chan struct{})
	var reader sync.WaitGroup
	defer reader.Wait()
	defer o.conn.Close()
	reader.Go(func() {
		if n, _ := o.conn.Read(make([]byte, 1)); n == 0 {
			close(gone)
		} // else somebody sends another request behind this one, and waits in vain
	})
	s.stream(o, mine, gone)
	if o.chunked {
		o.deadline()
		_, _ = o.conn.Write([]byte("0\r\n\r\n"))
	}
}

func (o *openAnswer) deadline() { _ = o.conn.SetWriteDeadline(time.Now().Add(frameFor)) }

// send implements opened.
func (o *openAnswer) send(b []byte) error {
	o.deadline()
	if !o.chunked {
		_, err := o.conn.Write(b)
		return err
	}
	to := o.conn
	if c, ok := to.(*webConn); ok {
		to = c.Conn // several buffers are one system call there
	}
	head := append(strconv.AppendUint(make([]byte, 0, 10), uint64(len(b)), 16), '\r', '\n')
	all := net.Buffers{head, b, []byte("\r\n")}
	_, err := all.WriteTo(to)
	return err
}
