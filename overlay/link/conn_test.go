package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	v4 = netip.MustParseAddr("127.0.0.1")
	v6 = netip.MustParseAddr("::1")
)

// onEachRung runs f for each pair of rungs of sender and receiver.
func onEachRung(t *testing.T, f func(t *testing.T, from, to Conn)) {
	for _, a := range allRungs {
		for _, b := range allRungs {
			t.Run(a+" to "+b, func(t *testing.T) { f(t, listen(t, a), listen(t, b)) })
		}
	}
}

func listen(t testing.TB, rung string) Conn {
	t.Helper()
	s := &System{Rung: rung}
	c, err := s.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	if rung != RungAuto && c.Rung() != rung {
		t.Fatalf("on rung %s, want %s", c.Rung(), rung)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// inbox reads packets one by one, whatever trains they come in, and gives up
// after a while: then a packet was lost.
type inbox struct {
	t     testing.TB
	conn  Conn
	ts    [64]Train
	left  []Train
	stop  *time.Timer
	count int
}

func newInbox(t testing.TB, c Conn) *inbox {
	in := &inbox{t: t, conn: c}
	in.stop = time.AfterFunc(10*time.Second, func() { c.Close() })
	t.Cleanup(func() { in.stop.Stop() })
	return in
}

func (in *inbox) next() (packet []byte, e Endpoint) {
	in.t.Helper()
	if len(in.left) == 0 {
		n, err := in.conn.Read(in.ts[:])
		if err != nil {
			in.t.Fatalf("no packet after %d: %v, %v", in.count, err, in.conn.Counters())
		}
		in.left = in.ts[:n]
	}
	t := &in.left[0]
	end := t.next(0)
	packet, e = t.Buf[:end], t.Endpoint
	if t.Buf = t.Buf[end:]; len(t.Buf) == 0 {
		in.left = in.left[1:]
	}
	in.count++
	return packet, e
}

func (in *inbox) want(packet []byte) Endpoint {
	in.t.Helper()
	got, e := in.next()
	if !bytes.Equal(got, packet) {
		in.t.Fatalf("packet %d: %d bytes %.20x, want %d bytes %.20x", in.count, len(got), got, len(packet), packet)
	}
	return e
}

func write(t testing.TB, w Writer, ts ...Train) {
	t.Helper()
	if n, err := w.Write(ts); err != nil || n != len(ts) {
		t.Fatalf("sent %d of %d trains: %v", n, len(ts), err)
	}
}

func filled(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func to(a netip.Addr, c Conn) Endpoint {
	return Endpoint{Addr: netip.AddrPortFrom(a, c.LocalPort())}
}

func TestSizes(t *testing.T) {
	onEachRung(t, func(t *testing.T, from, dst Conn) {
		w, in := from.NewWriter(), newInbox(t, dst)
		sizes := []int{1600, 2000, 4096, 8192, 16000, 40000, 65000, 65400}
		for n := 0; n <= 1500; n++ {
			sizes = append(sizes, n)
		}
		for i, n := range sizes {
			b := filled(n, uint64(n))
			a := v4
			if i%2 == 1 {
				a = v6
			}
			write(t, w, Train{Buf: b, Size: n, Endpoint: to(a, dst)})
			e := in.want(b)
			if want := to(a, from).Addr; e.Addr != want {
				t.Fatalf("from %v, want %v", e.Addr, want)
			}
		}
	})
}

func TestTrains(t *testing.T) {
	onEachRung(t, func(t *testing.T, from, dst Conn) {
		w, in := from.NewWriter(), newInbox(t, dst)
		for i, c := range []struct{ total, size int }{
			{1200, 1200}, {2400, 1200}, {2401, 1200}, {3599, 1200}, {1, 1}, {64, 1}, {65, 1}, {1000, 1},
			{MaxSegments * 1000, 1000}, {MaxTrain, 1450}, {MaxTrain, 1016}, {100000, 1400}, {100000, 40000},
			{500, 1000}, {500, 0}, {0, 0}, {0, 1000}, {9000 * 7, 9000},
		} {
			for _, a := range []netip.Addr{v4, v6} {
				b := filled(c.total, uint64(i))
				write(t, w, Train{Buf: b, Size: c.size, Endpoint: to(a, dst)})
				size := c.size
				if size == 0 || size > c.total {
					size = c.total
				}
				for off := 0; ; off += size {
					end := min(off+size, c.total)
					in.want(b[off:end])
					if end == c.total {
						break
					}
				}
			}
		}
		if c := from.Counters(); c["tx_packets"] != dst.Counters()["rx_packets"] || c["tx_bytes"] != dst.Counters()["rx_bytes"] {
			t.Errorf("counters differ: %v, %v", c, dst.Counters())
		}
	})
}

// TestOrder sends batches of mixed trains, for both families at once.
func TestOrder(t *testing.T) {
	onEachRung(t, func(t *testing.T, from, dst Conn) {
		w, in := from.NewWriter(), newInbox(t, dst)
		r := rand.New(rand.NewPCG(1, 2))
		var number byte
		for range 50 {
			var ts []Train
			var want [][]byte
			for range 1 + r.IntN(100) {
				size := 1 + r.IntN(300)
				b := filled(1+r.IntN(size*(1+r.IntN(8))), r.Uint64())
				a := []netip.Addr{v4, v6}[r.IntN(2)]
				ts = append(ts, Train{Buf: b, Size: size, Endpoint: to(a, dst)})
				for off, end := 0, 0; off < len(b); off = end {
					end = ts[len(ts)-1].next(off)
					b[off] = number
					number++
					want = append(want, b[off:end])
				}
			}
			write(t, w, ts...)
			for _, b := range want {
				in.want(b)
			}
		}
	})
}

// TestManyEndpoints writes to 1000 endpoints at once, each a socket's or nobody's.
func TestManyEndpoints(t *testing.T) {
	onEachRung(t, func(t *testing.T, from, dst Conn) {
		in := newInbox(t, dst)
		var ts []Train
		for i := range 1000 {
			a := netip.AddrFrom4([4]byte{127, 0, byte(i >> 8), byte(i)})
			if a == netip.AddrFrom4([4]byte{127, 0, 0, 0}) {
				a = v4
			}
			ts = append(ts, Train{Buf: fmt.Appendf(nil, "%04d%s", i, bytes.Repeat([]byte{'x'}, i)), Size: 400, Endpoint: to(a, dst)})
		}
		write(t, from.NewWriter(), ts...)
		for _, x := range ts {
			for off, end := 0, 0; off < len(x.Buf); off = end {
				end = x.next(off)
				in.want(x.Buf[off:end])
			}
		}
	})
}

// TestReply answers to the endpoint as it was read.
func TestReply(t *testing.T) {
	onEachRung(t, func(t *testing.T, from, dst Conn) {
		inDst, inFrom := newInbox(t, dst), newInbox(t, from)
		w, answer := from.NewWriter(), dst.NewWriter()
		for _, a := range []netip.Addr{v4, v6, netip.MustParseAddr("127.1.2.3")} {
			b := []byte("question")
			write(t, w, Train{Buf: b, Size: len(b), Endpoint: to(a, dst)})
			e := inDst.want(b)
			checkLocal(t, e, a)
			write(t, answer, Train{Buf: b, Size: len(b), Endpoint: e})
			if got := inFrom.want(b); got.Addr != to(a, dst).Addr {
				t.Errorf("answer from %v, want %v", got.Addr, to(a, dst).Addr)
			}
		}
	})
}

// TestRefused: trains that cannot be sent are skipped, the others go.
func TestRefused(t *testing.T) {
	onEachRung(t, func(t *testing.T, from, dst Conn) {
		w, in := from.NewWriter(), newInbox(t, dst)
		good := Train{Buf: []byte("good"), Size: 4, Endpoint: to(v4, dst)}
		large := Train{Buf: make([]byte, 70000), Size: 70000, Endpoint: to(v4, dst)}
		nowhere := Train{Buf: []byte("x"), Size: 1}
		sent, err := w.Write([]Train{good, large, good, nowhere, good, large})
		if sent != 3 || !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("sent %d, %v; want 3, EMSGSIZE", sent, err)
		}
		for range 3 {
			in.want(good.Buf)
		}
		if c := from.Counters(); c["tx_too_big"] != 2 || c["tx_bad_endpoint"] != 1 || c["tx_packets"] != 3 {
			t.Errorf("counters %v", c)
		}
		if _, err := w.Write([]Train{nowhere}); !errors.Is(err, ErrEndpoint) {
			t.Errorf("error %v", err)
		}
	})
}

// TestWriters: several write at the same time, and each one's packets stay in order.
func TestWriters(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			from, dst := listen(t, rung), listen(t, rung)
			in := newInbox(t, dst)
			const writers, batches, packets = 4, 20, 10
			var all sync.WaitGroup
			for k := range writers {
				all.Go(func() {
					w := from.NewWriter()
					for i := range batches {
						buf := make([]byte, packets*8)
						for p := range packets {
							binary.BigEndian.PutUint32(buf[p*8:], uint32(k))
							binary.BigEndian.PutUint32(buf[p*8+4:], uint32(i*packets+p))
						}
						if _, err := w.Write([]Train{{Buf: buf, Size: 8, Endpoint: to(v6, dst)}}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			var next [writers]uint32
			for range writers * batches * packets {
				p, _ := in.next()
				k, i := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
				if i != next[k] {
					t.Fatalf("writer %d: packet %d, want %d", k, i, next[k])
				}
				next[k]++
			}
			all.Wait()
		})
	}
}

func TestClose(t *testing.T) {
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			c := listen(t, rung)
			w := c.NewWriter()
			done := make(chan error)
			go func() {
				_, err := c.Read(make([]Train, 4))
				done <- err
			}()
			write(t, w, Train{Endpoint: to(v4, c)})
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			go func() {
				_, err := c.Read(make([]Train, 4))
				done <- err
			}()
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("read: %v", err)
			}
			if n, err := w.Write([]Train{{Endpoint: to(v4, c)}}); n != 0 || !errors.Is(err, ErrClosed) {
				t.Errorf("write: %d, %v", n, err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			c.Counters()
		})
	}
}

// TestAllocations: none per batch, in either direction.
func TestAllocations(t *testing.T) {
	for _, rung := range allRungs {
		for _, a := range []netip.Addr{v4, v6} {
			t.Run(rung+" "+a.String(), func(t *testing.T) {
				from, dst := listen(t, rung), listen(t, rung)
				w := from.NewWriter()
				e := to(a, dst)
				ts := []Train{
					{Buf: make([]byte, 5*1400-9), Size: 1400, Endpoint: e},
					{Buf: make([]byte, 100), Size: 100, Endpoint: e},
				}
				const packets = 6
				in := make([]Train, 32)
				stop := time.AfterFunc(20*time.Second, func() { dst.Close() })
				defer stop.Stop()
				n := testing.AllocsPerRun(200, func() {
					if _, err := w.Write(ts); err != nil {
						t.Fatal(err)
					}
					for got := 0; got < packets; {
						n, err := dst.Read(in)
						if err != nil {
							t.Fatal(err)
						}
						for i := range in[:n] {
							got += in[i].Packets()
						}
					}
					// An answer takes the way with Local and If.
					ts[1].Endpoint = Endpoint{Addr: e.Addr, Local: a, If: in[0].Endpoint.If}
				})
				if n != 0 {
					t.Errorf("%v allocations per batch", n)
				}
			})
		}
	}
}

func TestRungUnknown(t *testing.T) {
	s := &System{Rung: "rope"}
	if _, err := s.Listen(0); err == nil {
		t.Error("no error")
	}
}

func TestPortTaken(t *testing.T) {
	for _, rung := range allRungs {
		s := &System{Rung: rung}
		c, err := s.Listen(0)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = s.Listen(c.LocalPort())
		if !errors.Is(err, errInUse) {
			t.Errorf("%s: error %v", rung, err)
		}
	}
}

func BenchmarkWriteRead(b *testing.B) {
	for _, rung := range allRungs {
		for _, size := range []int{1450, 200} {
			b.Run(fmt.Sprintf("%s/%d", rung, size), func(b *testing.B) {
				from, dst := listen(b, rung), listen(b, rung)
				w := from.NewWriter()
				packets := MaxTrain / 1450
				ts := []Train{{Buf: make([]byte, packets*size), Size: size, Endpoint: to(v6, dst)}}
				in := make([]Train, 64)
				b.SetBytes(int64(packets * size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.Write(ts); err != nil {
						b.Fatal(err)
					}
					for got := 0; got < packets; {
						n, err := dst.Read(in)
						if err != nil {
							b.Fatal(err)
						}
						for i := range in[:n] {
							got += in[i].Packets()
						}
					}
				}
			})
		}
	}
}

func BenchmarkListen(b *testing.B) {
	for b.Loop() {
		c, err := new(System).Listen(0)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// TestWatch: without Notify nothing is seen; with it only what is another state.
func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- new(System).Watch(ctx, State{}, func(State) { t.Error("called") }) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	fail := errors.New("no netlink")
	s := &System{Notify: func(_ context.Context, changed func()) error {
		changed()
		changed()
		return fail
	}}
	now, err := s.State()
	if err != nil {
		t.Fatal(err)
	}
	other := State{Route4: Route{If: 99999}}
	for _, c := range []struct {
		known State
		want  []State
	}{{now, nil}, {other, []State{now}}} {
		var got []State
		if err := s.Watch(t.Context(), c.known, func(st State) { got = append(got, st) }); err != fail {
			t.Error(err)
		}
		if !slices.EqualFunc(got, c.want, State.Same) {
			t.Errorf("after %+v: %+v, want %+v", c.known, got, c.want)
		}
	}
}
