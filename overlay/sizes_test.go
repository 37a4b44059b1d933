package overlay

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// trainLog is a host that notes what its node writes.
type trainLog struct {
	*vnet.Host
	mu   sync.Mutex
	list []link.Train // without their bytes
}

func (h *trainLog) Listen(port uint16) (link.Conn, error) {
	c, err := h.Host.Listen(port)
	return logConn{c, h}, err
}

type logConn struct {
	link.Conn
	h *trainLog
}

func (c logConn) NewWriter() link.Writer { return logWriter{c.Conn.NewWriter(), c.h} }

type logWriter struct {
	link.Writer
	h *trainLog
}

func (w logWriter) Write(ts []link.Train) (int, error) {
	w.h.mu.Lock()
	for _, t := range ts {
		t.Buf = bytes.Clone(t.Buf)
		w.h.list = append(w.h.list, t)
	}
	w.h.mu.Unlock()
	return w.Writer.Write(ts)
}

func (h *trainLog) take() []link.Train {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	return list
}

// Probes of the size leave by themselves, also while data leaves in trains; strangers
// get none.
func TestProbesLeaveAlone(t *testing.T) {
	for _, stranger := range []bool{false, true} {
		t.Run(fmt.Sprint("stranger ", stranger), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				log := &trainLog{Host: w.Host("a")}
				a := newTestNode(t, log.Host, func(c *Config) { c.Network = log })
				b := newTestNode(t, w.Host("b"), nil)
				if adds(a, b); stranger {
					a.cfg.Peers = nil
				}
				s := lan(w, "lan", 0, a.host, b.host)
				s.SetLink(vnet.Link{Delay: time.Millisecond, MTU: 1400})
				a.start()
				b.start()
				defer a.stop()
				defer b.stop()
				settle(time.Second)
				for k := range 200 {
					b.say(a, fmt.Sprint("hello ", k))
					a.dev.out <- outgoing{b.address0().ULA(), [][]byte{ip6("data1"), ip6("data2"), ip6("data3")}}
					settle(20 * time.Millisecond)
				}
				data, large, trains := len(ip6("data1"))+wire.SealedMin, 0, 0
				for _, x := range log.take() {
					if x.Size > 400 {
						large++
					}
					if x.Packets() == 1 || x.Endpoint.Addr != ap("10.0.0.2:8737") {
						continue
					}
					trains++
					probes := x.Size == 256 && len(x.Buf) == 8*256
					if !probes && x.Size != data {
						t.Errorf("a train of %d packets of %d bytes", x.Packets(), x.Size)
					}
					if probes && stranger {
						t.Error("a stranger gets a train of probes")
					}
				}
				if (large > 0) == stranger {
					t.Errorf("%d probes of sizes", large)
				}
				if trains == 0 {
					t.Error("data does not leave in trains")
				}
			})
		})
	}
}

// The size follows the path down and up, by the traffic alone and with link events, and
// after three seconds no packet that it promises is lost.
func TestSizeFollowsThePath(t *testing.T) {
	for _, events := range []bool{false, true} {
		for _, sizes := range [][]int{{1300, 1500}, {1400, 1280, 1500}, {1460, 1300, 1400, 1500}} {
			t.Run(fmt.Sprint(sizes, " events ", events), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					a, b, s := pair(t, w)
					defer a.stop()
					defer b.stop()
					settle(time.Second)
					a.say(b, "session")
					settle(2 * time.Second)
					n := 0
					for _, mtu := range sizes {
						s.SetLink(vnet.Link{Delay: time.Millisecond, MTU: mtu})
						var sent []string
						for k := range 60 {
							if events && k%10 == 0 {
								a.host.Attach(w.Segment("x", vnet.Link{}), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(n), 1}), 24))
							}
							n++
							p := a.peer(b).Path.MTU
							text := fmt.Sprintf("%04d%s", n, bytes.Repeat([]byte{'.'}, max(p, minMTU)-40-4))
							a.say(b, text)
							b.say(a, fmt.Sprint("ack ", n))
							settle(100 * time.Millisecond)
							if k > 30 {
								sent = append(sent, text)
							}
						}
						settle(50 * time.Millisecond)
						got := map[string]bool{}
						for _, d := range b.dev.delivered() {
							got[d.msg] = true
						}
						lost := 0
						for _, text := range sent {
							if !got[string(ip6(text))] {
								lost++
							}
						}
						if lost > 0 {
							t.Errorf("%d: %d of %d messages lost three seconds later", mtu, lost, len(sent))
						}
						best := min(1440, mtu-28-mtuOverhead)
						if p := a.peer(b).Path.MTU; p > best || p < best-8 {
							t.Errorf("%d: the size is %d, want %d", mtu, p, best)
						}
					}
				})
			})
		}
	}
}

// Large packets that nothing answers but an acknowledgement now and then find the new
// size of a path that shrank, also behind a relay.
func TestSizeBehindARelay(t *testing.T) {
	for _, mtu := range []int{1400, 1300} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newRelayed(t, w, true)
				defer x.stop()
				x.meet(t)
				large := func(d time.Duration) (sent, got int) {
					before := len(x.b.dev.delivered())
					for k := range int(d / (20 * time.Millisecond)) {
						p := max(x.a.peer(x.b).Path.MTU, minMTU)
						x.a.say(x.b, string(bytes.Repeat([]byte{'.'}, p-40)))
						if k%25 == 0 {
							x.b.say(x.a, "ack")
						}
						settle(20 * time.Millisecond)
						sent++
					}
					return sent, len(x.b.dev.delivered()) - before
				}
				large(2 * time.Second)
				x.east.SetLink(vnet.Link{Delay: time.Millisecond, MTU: mtu}) // of which a's side sees nothing
				large(3 * time.Second)
				if sent, got := large(5 * time.Second); got < sent {
					t.Errorf("%d of %d arrived over a path of %d", got, sent, mtu)
				}
				x.east.SetLink(vnet.Link{Delay: time.Millisecond})
				large(4 * time.Second)
				if p := x.a.peer(x.b).Path.MTU; p < 1430 {
					t.Errorf("the path carries 1440 again, and %d is used", p)
				}
			})
		})
	}
}
