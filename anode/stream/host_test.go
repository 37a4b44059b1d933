package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"golang.org/x/net/nettest"
)

// cable joins two Hosts. What is sent arrives after delay.
type cable struct {
	ends  [2]*Host
	delay time.Duration
	wg    sync.WaitGroup

	mu   sync.Mutex
	cut  bool // there is no path, and Send says so
	rand *rand.Rand
	loss float64
}

var remotes = [2]Remote{{anode.Address{1, 1}, 1}, {anode.Address{1, 2}, 3}}

// plug is the Carrier of one end.
type plug struct {
	c    *cable
	from int
}

func (p plug) Most(Remote) int                  { return 1350 }
func (p plug) Capabilities(Remote) Capabilities { return Capabilities{DAck: true, HalfClose: true} }

func (p plug) Send(to Remote, trains []Train) error {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut || to != remotes[1-p.from] {
		return errors.New("no path")
	}
	var msgs [][]byte
	for _, t := range trains {
		for b := bytes.Clone(t.Buf); len(b) > 0; {
			n := min(t.Size, len(b))
			if c.rand.Float64() >= c.loss {
				msgs = append(msgs, b[:n])
			}
			b = b[n:]
		}
	}
	c.wg.Add(1)
	time.AfterFunc(c.delay, func() {
		defer c.wg.Done()
		c.ends[1-p.from].Deliver(remotes[p.from], msgs...)
	})
	return nil
}

func newCable(delay time.Duration) *cable {
	c := &cable{delay: delay, rand: rand.New(rand.NewPCG(1, 2))}
	for i := range c.ends {
		c.ends[i] = NewHost(remotes[i].Address, plug{c, i}, Config{Random: rand.Uint32})
	}
	return c
}

func (c *cable) close() {
	for _, h := range c.ends {
		_ = h.Close()
	}
	c.wg.Wait()
}

// pair makes an open stream and its two ends.
func (c *cable) pair(t testing.TB) (a, b *Conn) {
	t.Helper()
	l, err := c.ends[1].Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	a, err = c.ends[0].Dial(t.Context(), remotes[1], 80)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptStream(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// The standard tests of a net.Conn.
func TestNetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		c := newCable(0)
		a, b := c.pair(t)
		return a, b, c.close, nil
	})
}

func TestHostTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		c.loss = 0.02
		a, b := c.pair(t)
		want := make([]byte, 3<<20)
		for i := range want {
			want[i] = pattern(7, i)
		}
		var wg sync.WaitGroup
		wg.Go(func() { // echoes until the end of file
			if _, err := io.Copy(b, b); err != nil {
				t.Error(err)
			}
			if err := b.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := io.Copy(a, bytes.NewReader(want)); err != nil {
				t.Error(err)
			}
			if err := a.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		got, err := io.ReadAll(a)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		wg.Wait()
		_ = a.Close()
		_ = b.Close()
		c.close()
	})
}

func TestHostErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		dial := func(want error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			conn, err := c.ends[0].Dial(ctx, remotes[1], 9)
			var op *net.OpError
			if conn != nil || !errors.Is(err, want) || !errors.As(err, &op) || op.Op != "dial" {
				t.Errorf("got %v, want %v", err, want)
			}
			for _, other := range []error{ErrRefused, ErrReset, ErrTimedOut, ErrUnreachable} {
				if errors.Is(err, other) != (other == want) {
					t.Errorf("%v is %v: %v", err, other, other != want)
				}
			}
		}
		dial(ErrRefused)
		c.loss = 1
		dial(ErrTimedOut)
		c.cut = true
		dial(ErrUnreachable)
		c.cut, c.loss = false, 0

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.ends[0].Dial(ctx, remotes[1], 9); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		a, b := c.pair(t)
		a.Abort()
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
			t.Errorf("got %v", err)
		}
		if _, err := b.Write(make([]byte, 1)); !errors.Is(err, ErrReset) {
			t.Errorf("got %v", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// A dial that is cancelled leaves nothing at either end.
func TestDialCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(time.Second)
		defer c.close()
		l, err := c.ends[1].Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*ms)
		defer cancel()
		if _, err := c.ends[0].Dial(ctx, remotes[1], 80); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, h := range c.ends {
			if h.known(remotes[1-i]) != nil {
				t.Errorf("side %d still knows the peer", i)
			}
		}
		if l.taken.peers != 0 {
			t.Errorf("%d places taken", l.taken.peers)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		a, b := c.pair(t)
		start := time.Now()
		_ = a.SetReadDeadline(start.Add(time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(make([]byte, 10<<20)) // nobody reads
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || time.Since(start) != 2*time.Second {
			t.Errorf("got %d, %v after %v", n, err, time.Since(start))
		}
		_ = a.SetDeadline(time.Time{})
		if got, err := io.ReadFull(b, make([]byte, n)); err != nil {
			t.Errorf("got %d, %v", got, err)
		}
		if _, err := a.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	})
}

// A listener takes so many streams that nobody accepts, and more when they are accepted.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		defer c.close()
		l, err := c.ends[1].Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ends[1].Listen(80); !errors.Is(err, ErrInUse) {
			t.Errorf("got %v", err)
		}
		var wg sync.WaitGroup
		const dials = 200 // more than may wait
		for range dials {
			wg.Go(func() {
				if _, err := c.ends[0].Dial(t.Context(), remotes[1], 80); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(500 * ms)
		synctest.Wait()
		m := c.ends[1].known(remotes[0]).m
		if len(l.ready) > m.config.Waiting || m.counters.Waiting == 0 {
			t.Errorf("%d ready, %d had to wait", len(l.ready), m.counters.Waiting)
		}
		for range dials {
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		_ = l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// Close ends what waits, and tells the peer.
func TestHostClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		a, b := c.pair(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
		})
		time.Sleep(time.Minute) // until no goroutine sends
		synctest.Wait()
		_ = c.ends[0].Close()
		wg.Wait()
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
			t.Errorf("got %v", err)
		}
		if _, err := c.ends[0].Dial(t.Context(), remotes[1], 80); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		c.close()
	})
}

// Idle streams take no goroutine, and go on afterwards.
func TestIdleHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable(10 * ms)
		a, b := c.pair(t)
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, h := range c.ends {
			if h.known(remotes[1-i]).running {
				t.Errorf("side %d has a goroutine", i)
			}
		}
		go func() { _, _ = a.Write([]byte("hello")) }()
		got := make([]byte, 5)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
		c.close()
	})
}
