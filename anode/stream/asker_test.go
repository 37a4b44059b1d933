package stream

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// clerk decides about ports without a listener after a while.
type clerk struct {
	shut  bool
	late  bool // it does not notice that nobody waits
	delay time.Duration
	fail  error
	taken chan *Conn
}

func (k *clerk) Admits(Remote) bool { return !k.shut }

func (k *clerk) Ask(ctx context.Context, _ Remote, _ uint16) (Taken, error) {
	if k.late {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(k.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return func(c *Conn) { k.taken <- c }, k.fail
}

func TestAsker(t *testing.T) {
	for name, x := range map[string]struct {
		clerk clerk
		want  error
		wait  time.Duration // until Dial returns
	}{
		"takes it":       {clerk{delay: 3 * time.Second}, nil, 3 * time.Second},
		"refuses it":     {clerk{delay: time.Second, fail: errors.New("nothing is there")}, ErrRefused, time.Second},
		"lets nobody in": {clerk{shut: true}, ErrRefused, 0},
		"does not know":  {clerk{delay: time.Hour}, ErrRefused, askFor},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCable(10 * ms)
				defer c.close()
				x.clerk.taken = make(chan *Conn, 1)
				c.ends[1].Otherwise(&x.clerk)
				start := time.Now()
				a, err := c.ends[0].Dial(t.Context(), remotes[1], 22)
				if !errors.Is(err, x.want) {
					t.Fatalf("got %v", err)
				}
				if took := time.Since(start); took < x.wait || took > x.wait+50*ms {
					t.Errorf("after %v", took)
				}
				if err != nil {
					return
				}
				b := <-x.clerk.taken
				go func() {
					_, _ = io.WriteString(a, "hello")
					_ = a.Close()
				}()
				if got, err := io.ReadAll(b); string(got) != "hello" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
				_ = b.Close()
			})
		})
	}
}

// Whoever admitted a stream hears that it did not open.
func TestAskerOfStreamThatDoesNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		k := &clerk{late: true, delay: 5 * time.Second, taken: make(chan *Conn, 1)}
		c.ends[1].Otherwise(k)
		ctx, cancel := context.WithTimeout(t.Context(), firstRTO-100*ms)
		defer cancel()
		if _, err := c.ends[0].Dial(ctx, remotes[1], 22); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if b := <-k.taken; b != nil {
			t.Errorf("got %v", b.RemoteAddr())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if c.ends[1].known(remotes[0]) != nil {
			t.Error("the peer is still known")
		}
	})
}

// patient asks a service that never answers, and counts who does so at once.
type patient struct{ now, most, all atomic.Int64 }

func (*patient) Admits(Remote) bool { return true }

func (k *patient) Ask(ctx context.Context, _ Remote, _ uint16) (Taken, error) {
	k.all.Add(1)
	k.most.Store(max(k.most.Load(), k.now.Add(1)))
	defer k.now.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// A peer that no longer waits for its stream has the question given up, and is told at once.
func TestAskerOfStreamTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		k := new(patient)
		c.ends[1].Otherwise(k)
		ctx, cancel := context.WithTimeout(t.Context(), firstRTO-100*ms) // at firstRTO the S_OPEN could be repeated after its end
		defer cancel()
		if _, err := c.ends[0].Dial(ctx, remotes[1], 22); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(50 * ms)
		synctest.Wait()
		if k.all.Load() != 1 || k.now.Load() != 0 {
			t.Errorf("%d questions, %d of them go on", k.all.Load(), k.now.Load())
		}
		time.Sleep(11 * time.Second) // lingerFor, as it was acknowledged
		synctest.Wait()
		if c.ends[0].Has(remotes[1]) {
			t.Error("the opener still repeats the end")
		}
		if n := c.ends[1].Counters(); n.Withdrawn != 1 || n.Unknown != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// Whoever opens and takes back by turns has no more questions running than others, and gets no
// place before one has ended.
func TestAskerOpenedAndTakenBack(t *testing.T) {
	w := newWorld(t, 1, line{})
	m := w.sides[1].m
	m.ports = later{}
	l := wire.Link{ID: 7, Port: 22}
	var asked, withdrawn int
	count := func() {
		m.Asks(func(uint16, uint16) { asked++ })
		m.Withdrawn(func(uint16, uint16) { withdrawn++ })
	}
	for i := range uint32(100) {
		m.Receive(w.now, wire.OpenMsg{Link: l, ISN: i}.Append([]byte{byte(wire.SOpen)}))
		m.Receive(w.now, wire.CloseMsg{Link: l, Reason: wire.CloseProtocol, ISN: i, Seq: i + 1}.Append([]byte{byte(wire.SClose)}))
		count()
	}
	if asked != 1 || withdrawn != 1 {
		t.Errorf("one link: %d questions, %d given up", asked, withdrawn)
	}
	for i := range 1000 {
		l.ID = uint16(1000 + i)
		m.Receive(w.now, wire.OpenMsg{Link: l, ISN: 5}.Append([]byte{byte(wire.SOpen)}))
		m.Receive(w.now, wire.CloseMsg{Link: l, ISN: 5, Seq: 6}.Append([]byte{byte(wire.SClose)}))
		count()
	}
	if asked != m.config.HalfOpen || withdrawn != asked {
		t.Errorf("many links: %d questions, %d given up", asked, withdrawn)
	}
	if s := m.Decide(w.now, 22, 7, true); s != nil {
		t.Error("a stream that was taken back is open")
	}
	l.ID = 7
	m.Receive(w.now, wire.OpenMsg{Link: l, ISN: 5}.Append([]byte{byte(wire.SOpen)}))
	// What ends one direction, or follows data, waits for the answer.
	for _, c := range []wire.CloseMsg{{Link: l, Flags: wire.FlagHalfClose, ISN: 5, Seq: 6}, {Link: l, ISN: 5, Seq: 7}, {Link: l, Reason: wire.CloseProtocol, ISN: 4, Seq: 5}} {
		m.Receive(w.now, c.Append([]byte{byte(wire.SClose)}))
	}
	before := len(m.waits)
	m.Receive(w.now, wire.DataMsg{Link: l, Seq: 6, Payload: []byte("x")}.Append([]byte{byte(wire.SData)}))
	if count(); asked != m.config.HalfOpen+1 || withdrawn != m.config.HalfOpen || len(m.waits) != before {
		t.Errorf("after one has ended: %d questions, %d given up", asked, withdrawn)
	}
	if m.Decide(w.now, 22, 7, true) == nil {
		t.Error("it is not open")
	}
}

// later is a Ports where others decide about all ports.
type later struct{}

func (later) Reserve(uint16) Admission { return Later }
func (later) Release(uint16)           {}
func (later) Listens(uint16) bool      { return false }

// A listener for some peers does not exist for others.
func TestListenFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		admitted := false
		if _, err := c.ends[1].ListenFor(80, func(r Remote) bool { return admitted && r == remotes[0] }); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ends[0].Dial(t.Context(), remotes[1], 80); !errors.Is(err, ErrRefused) {
			t.Errorf("got %v", err)
		}
		admitted = true
		if _, err := c.ends[0].Dial(t.Context(), remotes[1], 80); err != nil {
			t.Error(err)
		}
	})
}

// Dropping a peer ends its streams, and sends it nothing.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		a, b := c.pair(t)
		c.ends[1].Drop(remotes[0].Address)
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		var timeout interface{ Timeout() bool }
		if _, err := a.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("the other side heard of it: %v", err)
		}
	})
}

// What guests open takes no place away from others, and is bounded for each of them.
func TestGuests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		h := c.ends[1]
		h.config.Guest = func(r Remote) bool { return r != remotes[0] }
		l, err := h.Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		for k := range 100 { // guests that open streams and never answer
			guest := Remote{anode.Address{9, byte(k)}, 1}
			for id := range uint16(40) {
				h.Deliver(guest, wire.OpenMsg{Link: wire.Link{ID: 1000 + id, Port: 80}, ISN: 7}.Append([]byte{byte(wire.SOpen)}))
			}
			if p := h.known(guest); p != nil && p.m.Len() > 16 {
				t.Errorf("a guest has %d streams", p.m.Len())
			}
		}
		if l.taken.guests != backlogGuests || l.taken.peers != 0 {
			t.Errorf("places: %+v", l.taken)
		}
		if _, err := c.ends[0].Dial(t.Context(), remotes[1], 80); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if l.taken.guests != 0 {
			t.Errorf("places afterwards: %+v", l.taken)
		}
	})
}
