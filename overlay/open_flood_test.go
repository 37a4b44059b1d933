package overlay

import (
	"context"
	"io"
	"maps"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/stream"
	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// answersNothing answers no S_OPEN: what it is asked waits until the node ends.
type answersNothing struct{}

func (answersNothing) Admits(stream.Remote) bool { return true }

func (answersNothing) Ask(ctx context.Context, _ stream.Remote, _ uint16) (stream.Taken, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// busyGateway has services that never answer, and counts who waits for them.
type busyGateway struct{ now, most, all atomic.Int64 }

func (g *busyGateway) Outbound([]byte) {}

func (g *busyGateway) Inbound(ctx context.Context, _ anode.ULA, _ uint16) (Taken, error) {
	n := g.now.Add(1)
	defer g.now.Add(-1)
	g.all.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// inflow counts what comes from one stream.
type inflow struct{ bytes atomic.Int64 }

func (m *inflow) read(c net.Conn) {
	b := make([]byte, 1<<16)
	for {
		n, err := c.Read(b)
		m.bytes.Add(int64(n))
		if err != nil {
			_ = c.Close()
			return
		}
	}
}

// during returns how many bytes come in a time.
func (m *inflow) during(d time.Duration) int64 {
	before := m.bytes.Load()
	settle(d)
	return m.bytes.Load() - before
}

// besieged is a node, and two others that each have a stream to it. Each has a line of its own.
type besieged struct {
	t            *testing.T
	victim, a, b *testNode
	fromA, fromB inflow
	streamA      net.Conn
	streamB      net.Conn
	writers      sync.WaitGroup
	gateway      busyGateway
	messages     atomic.Int64 // sent by strikes
}

func besiege(t *testing.T, w *vnet.World, gateway bool) *besieged {
	s := &besieged{t: t, a: newBareNode(t, w.Host("a")), b: newBareNode(t, w.Host("b"))}
	if gateway {
		s.victim = newTestNode(t, w.Host("victim"), func(c *Config) { c.Gateway = &s.gateway })
	} else {
		s.victim = newBareNode(t, w.Host("victim"))
	}
	adds(s.victim, s.a, s.b)
	for k, n := range []*testNode{s.a, s.b} {
		lan(w, n.host.Name(), byte(k), s.victim.host, n.host).SetLink(vnet.Link{Delay: 5 * time.Millisecond, Rate: 20e6})
	}
	startAll(s.victim, s.a, s.b)
	s.victim.serves(":81", s.fromA.read)
	s.victim.serves(":82", s.fromB.read)
	settle(2 * time.Second)
	s.streamA, s.streamB = s.a.dial("victim:81"), s.b.dial("victim:82")
	s.writers.Go(func() { // as fast as the line goes
		for err := error(nil); err == nil; {
			_, err = s.streamA.Write(make([]byte, 1<<16))
		}
	})
	s.writers.Go(func() { // 4 Mbit/s, since the flood takes its share of the line
		for err := error(nil); err == nil; time.Sleep(10 * time.Millisecond) {
			_, err = s.streamB.Write(make([]byte, 5000))
		}
	})
	settle(2 * time.Second)
	return s
}

// end ends the two streams.
func (s *besieged) end() {
	_ = s.streamA.Close()
	_ = s.streamB.Close()
	s.writers.Wait()
}

// strike has b send messages to the victim, in order, behind its own streams' back.
func (s *besieged) strike(msgs ...[]byte) {
	var trains []stream.Train
	for _, msg := range msgs {
		k := len(trains) - 1
		if k < 0 || len(msg) != trains[k].Size || len(trains[k].Buf) == 40*len(msg) {
			trains = append(trains, stream.Train{Size: len(msg)})
			k++
		}
		trains[k].Buf = append(trains[k].Buf, msg...)
	}
	to := stream.Remote{Address: s.victim.address0(), Machine: s.victim.peerID()}
	if err := s.b.programs.Send(to, trains); err != nil {
		s.t.Error(err)
	}
	s.messages.Add(int64(len(msgs)))
}

func sOpen(own, port uint16, isn uint32, flags uint8) []byte {
	return wire.OpenMsg{Link: wire.Link{ID: own, Port: port}, Window: 64, ISN: isn, Flags: flags}.Append([]byte{byte(wire.SOpen)})
}

func sClose(own, port uint16, isn, seq uint32, why wire.CloseReason) []byte {
	return wire.CloseMsg{Link: wire.Link{ID: own, Port: port}, Reason: why, ISN: isn, Seq: seq}.Append([]byte{byte(wire.SClose)})
}

// An added peer that opens streams as fast as it can disturbs neither the streams of others nor its
// own, and takes bounded memory.
func TestOpenFlood(t *testing.T) {
	const rate = 16 // messages in each millisecond
	for _, x := range []struct {
		name    string
		gateway bool
		msgs    func(k int) [][]byte // of the k-th
		counter string
	}{
		{"a port that is served", false, func(k int) [][]byte {
			return [][]byte{sOpen(uint16(k), 80, uint32(k), 0)}
		}, "drop_stream_waiting"},
		{"with a port of origin", false, func(k int) [][]byte {
			return [][]byte{sOpen(uint16(k), 80, uint32(k), wire.FlagSourcePort)}
		}, "drop_stream_waiting"},
		{"a port where nobody accepts", false, func(k int) [][]byte {
			return [][]byte{sOpen(uint16(k), 83, uint32(k), 0)}
		}, "drop_stream_waiting"},
		{"closed ports", false, func(k int) [][]byte {
			return [][]byte{sOpen(uint16(k), 1000+uint16(k%1000), uint32(k), 0)}
		}, "drop_stream_refused"},
		{"one link again and again", false, func(int) [][]byte {
			return [][]byte{sOpen(7, 80, 7, 0)}
		}, ""},
		{"one link with other numbers", false, func(k int) [][]byte {
			return [][]byte{sOpen(7, 80, uint32(k), 0)}
		}, ""},
		{"open and close", false, func(k int) [][]byte {
			isn := uint32(k)
			return [][]byte{sOpen(uint16(k), 80, isn, 0), sClose(uint16(k), 80, isn, isn+1, wire.CloseNormal)}
		}, "drop_stream_waiting"},
		{"open and reset", false, func(k int) [][]byte {
			isn := uint32(k)
			return [][]byte{sOpen(uint16(k), 80, isn, 0), sClose(uint16(k), 80, isn, isn+1, wire.CloseProtocol)}
		}, "drop_stream_waiting"},
		{"services that do not answer", true, func(k int) [][]byte {
			return [][]byte{sOpen(uint16(k), 22, uint32(k), 0)}
		}, "drop_stream_waiting"},
		{"services that do not answer, open and close", true, func(k int) [][]byte {
			isn := uint32(k)
			return [][]byte{sOpen(uint16(k), 22, isn, 0), sClose(uint16(k), 22, isn, isn+1, wire.CloseProtocol)}
		}, "drop_stream_withdrawn"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				s := besiege(t, w, x.gateway)
				defer stopAll(s.victim, s.a, s.b)
				s.b.programs.host.Otherwise(answersNothing{})
				s.victim.serves(":80", func(c net.Conn) { _, _ = io.Copy(io.Discard, c); _ = c.Close() })
				if _, err := s.victim.Listen("tcp", ":83"); err != nil {
					t.Fatal(err)
				}
				wantA, wantB := s.fromA.during(3*time.Second), s.fromB.during(time.Second)
				settle(time.Millisecond) // the count is wrong while goroutines end
				heap, routines := heapNow(), strings.Count(bubbled(), "\n\n")

				ctx, stop := context.WithCancel(t.Context())
				var flooder sync.WaitGroup
				flooder.Go(func() {
					for k := 0; ctx.Err() == nil; time.Sleep(time.Millisecond) {
						var msgs [][]byte
						for len(msgs) < rate {
							msgs = append(msgs, x.msgs(k)...)
							k++
						}
						s.strike(msgs...)
					}
				})
				gotA, gotB := s.fromA.during(3*time.Second), s.fromB.during(time.Second)
				settle(time.Second) // until all places are taken
				dialed := time.Now()
				if !x.gateway {
					c := s.a.dial("victim:80")
					t.Logf("a stream of the other peer opens after %v", time.Since(dialed))
					_ = c.Close()
				}
				more, grown := strings.Count(bubbled(), "\n\n")-routines, (heapNow()-heap)>>20
				t.Logf("of the other %.2f, of its own %.2f; heap %+d MiB, goroutines %+d", float64(gotA)/float64(wantA), float64(gotB)/float64(wantB), grown, more)
				t.Logf("%d messages; asked %d, at once %d; %v", s.messages.Load(), s.gateway.all.Load(), s.gateway.most.Load(), counted(s.victim, "drop_stream"))
				if grown > 80 || more > openAtOnce+50 { // those of the flooder included
					t.Errorf("%d MiB and %d goroutines more than before", grown, more)
				}
				if gotA < wantA*9/10 || gotB < wantB*9/10 {
					t.Errorf("the other peer's stream had %d bytes, then %d; its own %d, then %d", wantA, gotA, wantB, gotB)
				}
				if x.counter != "" && s.victim.counter(x.counter) == 0 {
					t.Errorf("%s does not count", x.counter)
				}
				if n := s.gateway.most.Load(); n > openAtOnce {
					t.Errorf("%d services are asked at once", n)
				}
				stop()
				flooder.Wait()
				s.end()
				settle(2 * time.Minute)
				if left := bubbled(); strings.Count(left, "\n\n") > routines {
					t.Errorf("%d goroutines before, and these after:\n%s", routines, left)
				}
			})
		})
	}
}

// counted returns the counters of a kind.
func counted(n *testNode, kind string) map[string]uint64 {
	all := n.status().Counters
	maps.DeleteFunc(all, func(name string, _ uint64) bool { return !strings.HasPrefix(name, kind) })
	return all
}

// heapNow returns the bytes that are in use.
func heapNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A peer that does not read what it asked for, or reads now and then, holds up its own stream alone,
// and takes bounded memory.
func TestStreamsThatNobodyReads(t *testing.T) {
	for name, reads := range map[string]bool{"never": false, "now and then": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				s := besiege(t, w, false)
				defer stopAll(s.victim, s.a, s.b)
				var wrote atomic.Int64
				s.victim.serves(":80", func(c net.Conn) {
					for err := error(nil); err == nil; { // as much as it is let
						var n int
						n, err = c.Write(make([]byte, 1<<12))
						wrote.Add(int64(n))
					}
				})
				wantA, wantB := s.fromA.during(3*time.Second), s.fromB.during(3*time.Second)
				heap := heapNow()
				var all []net.Conn
				for range 20 {
					all = append(all, s.b.dial("victim:80"))
				}
				ctx, stop := context.WithCancel(t.Context())
				var reader sync.WaitGroup
				reader.Go(func() {
					for ; reads && ctx.Err() == nil; time.Sleep(300 * time.Millisecond) {
						for _, c := range all { // until its window has opened, and no more
							_, _ = io.ReadFull(c, make([]byte, 100<<10))
						}
					}
				})
				gotA, gotB := s.fromA.during(3*time.Second), s.fromB.during(3*time.Second)
				grown := (heapNow() - heap) >> 20
				t.Logf("of the other %.2f, of its own %.2f; heap %+d MiB; programs wrote %d KiB; %v", float64(gotA)/float64(wantA), float64(gotB)/float64(wantB),
					grown, wrote.Load()>>10, counted(s.victim, "drop_stream"))
				if gotA < wantA*9/10 || gotB < wantB*9/10 {
					t.Errorf("the other peer's stream had %d bytes, then %d; its own %d, then %d", wantA, gotA, wantB, gotB)
				}
				if n := wrote.Load(); n < 20*128<<10 || !reads && n > 20*1<<20 || grown > 64 {
					t.Errorf("programs wrote %d bytes; %d MiB more than before", n, grown)
				}
				stop()
				reader.Wait()
				for _, c := range all {
					_ = c.Close()
				}
				s.end()
			})
		})
	}
}

// bubbled returns the stacks of the goroutines in the bubble, each with an empty line behind it. The
// runtime's own, which also come and go, are in none.
func bubbled() (stacks string) {
	b := make([]byte, 8<<20)
	for stack := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if head, _, _ := strings.Cut(stack, "\n"); strings.Contains(head, "synctest bubble") {
			stacks += strings.TrimSpace(stack) + "\n\n"
		}
	}
	return stacks
}
