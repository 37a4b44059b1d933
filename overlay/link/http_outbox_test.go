package link

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// fullOutbox returns an outbox that takes no more, and who takes from it.
func fullOutbox(m *Mux) (*outbox, chan struct{}) {
	o := &outbox{m: m}
	mine := o.claim()
	t := packets(Endpoint{}, 40, 1400)
	for o.put(&t[0], false) {
	}
	return o, mine
}

// Who is patient waits while what is taken is being written, and for no longer than that takes.
func TestOutboxWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMux(MuxConfig{})
		defer m.Close()
		train := packets(Endpoint{}, 40, 1400)
		o, mine := fullOutbox(m)
		if o.put(&train[0], false) {
			t.Error("there was room")
		}
		began := time.Now()
		if o.put(&train[0], true) || time.Since(began) != patience {
			t.Errorf("nobody writes, and it waited for %v", time.Since(began))
		}
		b := o.take(mine)
		go func() {
			for range 2 {
				time.Sleep(patience - time.Millisecond)
				o.wrote(framed(&train[0]) / 4)
			}
		}()
		began = time.Now()
		if !o.put(&train[0], true) || time.Since(began) != 2*(patience-time.Millisecond) {
			t.Errorf("taken after %v of %d bytes", time.Since(began), len(b))
		}
		if n := count(m, "tx_queue_full"); n != 3*40 {
			t.Errorf("%d packets dropped", n)
		}
		synctest.Wait()
	})
}

// Nobody waits for what is late already, for a session in which nothing went through yet, or for one
// that has ended.
func TestOutboxWaitsInVainForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMux(MuxConfig{})
		defer m.Close()
		train := packets(Endpoint{}, 40, 1400)
		for name, change := range map[string]func(o *outbox, mine chan struct{}){
			"late": func(o *outbox, mine chan struct{}) {
				o.take(mine)
				time.Sleep(maxDelay + 1)
				o.written = time.Now()
			},
			"early": func(o *outbox, mine chan struct{}) { o.early = true },
			"ended": func(o *outbox, mine chan struct{}) { o.end() },
		} {
			o, mine := fullOutbox(m)
			change(o, mine)
			began := time.Now()
			if o.put(&train[0], true) || time.Since(began) != 0 {
				t.Errorf("%s: it waited for %v", name, time.Since(began))
			}
		}
	})
}

// As what was taken is written, the rest of it is younger.
func TestOutboxKnowsHowOldTheRestIs(t *testing.T) {
	m := NewMux(MuxConfig{})
	defer m.Close()
	o := &outbox{m: m}
	begun := time.Unix(1000, 0)
	o.writing, o.begun, o.taken = 1000, begun, begun.Add(100*time.Millisecond)
	for k, want := range []time.Duration{25, 50, 75, 100} {
		o.wrote(250)
		if got := o.begun.Sub(begun).Round(time.Millisecond); got != want*time.Millisecond {
			t.Errorf("after %d quarters: %v", k+1, got)
		}
	}
}

// pieces notes how long each piece is that is written.
type pieces struct {
	bytes.Buffer
	sizes []int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.sizes = append(p.sizes, len(b))
	return p.Buffer.Write(b)
}

// send implements opened.
func (p *pieces) send(b []byte) error { _, err := p.Write(b); return err }

// socket implements opened.
func (p *pieces) socket() *rawWrite { return nil }

// writeEnd is a connection of which only writes matter.
type writeEnd struct {
	net.Conn
	io.Writer
}

func (p writeEnd) Write(b []byte) (int, error) { return p.Writer.Write(b) }

// What is taken leaves in pieces of what the network sends in a moment, and makes room as it does.
func TestHTTPSendsInPieces(t *testing.T) {
	const rate = 2_000_000
	piece := int(rate * aheadFor.Seconds())
	for name, write := range map[string]func(o *outbox, b []byte, to *pieces){
		"an answer": func(o *outbox, b []byte, to *pieces) {
			s := &session{outbox: outbox{m: o.m, speed: o.speed, writing: o.writing, begun: o.begun, taken: o.taken}}
			if !s.push(to, bytes.Clone(b), nil) {
				t.Error("an answer failed")
			}
			o.writing = s.writing
		},
		"a request": func(o *outbox, b []byte, to *pieces) {
			body := newPosted(o, b)
			r, _ := body.reader()
			if _, err := io.Copy(struct{ io.Writer }{to}, r); err != nil {
				t.Error(err)
			}
			<-body.left
		},
		"a request without a copy": func(o *outbox, b []byte, to *pieces) {
			body := newPosted(o, b)
			r, _ := body.reader()
			head := make([]byte, 3000) // the transport has room for these behind the head
			n, _ := io.ReadFull(r, head)
			to.Buffer.Write(head[:n])
			if _, err := (postConn{writeEnd{Writer: to}}).ReadFrom(io.LimitReader(r, int64(len(b)-n))); err != nil {
				t.Error(err)
			}
			<-body.left
			body.end()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := NewMux(MuxConfig{})
			defer m.Close()
			o, mine := fullOutbox(m)
			o.speed.rate = rate
			b := o.take(mine)
			want, to := bytes.Clone(b), new(pieces)
			write(o, b, to)
			if !bytes.Equal(to.Bytes(), want) {
				t.Errorf("%s: %d bytes came, of %d, or others", name, to.Len(), len(want))
			}
			for _, n := range to.sizes {
				if n > piece {
					t.Errorf("%s: a piece of %d bytes", name, n)
				}
			}
			if o.writing != 0 {
				t.Errorf("%s: %d bytes still count as not written", name, o.writing)
			}
		})
	}
}

// A body whose connection ended is read from the start again, and makes room once.
func TestHTTPBodyIsReadAgain(t *testing.T) {
	m := NewMux(MuxConfig{})
	defer m.Close()
	o, mine := fullOutbox(m)
	b := o.take(mine)
	had := o.writing
	body := newPosted(o, b)
	first, _ := body.reader()
	if _, err := io.ReadFull(first, make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	first.Close()
	again, _ := body.reader()
	if _, err := io.ReadFull(again, make([]byte, 4000)); err != nil || had-o.writing != 5000 {
		t.Errorf("%d bytes made room: %v", had-o.writing, err)
	}
	rest, err := io.ReadAll(again)
	if err != nil || len(rest) != len(b)-4000 || o.writing != 0 {
		t.Errorf("%d bytes came, %d still to write: %v", len(rest), o.writing, err)
	}
	again.Close()
	if !body.free() {
		t.Error("somebody is still reading")
	}
	if _, err := body.reader(); err == nil {
		t.Error("it is read after its end")
	}
}
