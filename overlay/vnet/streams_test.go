package vnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/overlay/link"
)

// dial opens a connection, or returns its error.
func dial(t *testing.T, h *Host, to netip.AddrPort, within time.Duration) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return h.Dial(ctx, "tcp", to.String())
}

// server takes connections on a port, and counts and echoes what comes.
func server(t *testing.T, h *Host, port uint16) (from func() []net.Addr) {
	t.Helper()
	l, err := h.ListenTCP(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var seen []net.Addr
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			seen = append(seen, c.RemoteAddr())
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return func() []net.Addr {
		synctest.Wait()
		return slices.Clone(seen)
	}
}

// echoed has n random bytes come back by a connection.
func echoed(t *testing.T, c net.Conn, n int) {
	t.Helper()
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(data)
	go c.Write(data)
	got := make([]byte, n)
	if k, err := io.ReadFull(c, got); err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Fatalf("%d of %d bytes came back, the same: %v: %v", k, n, bytes.Equal(got[:k], data[:k]), err)
	}
}

// two hosts with public addresses, and the endpoint of a server on the second.
func two(t *testing.T, w *World, l Link) (a, b *Host, to netip.AddrPort) {
	t.Helper()
	n := w.Internet(l)
	a, sb := n.Site("a", Open).Host, n.Site("b", Open)
	return a, sb.Host, netip.AddrPortFrom(sb.public4(1), 80)
}

// A connection takes a round trip to open, and everything arrives in order, whatever the link
// does to segments.
func TestStreamArrives(t *testing.T) {
	for _, l := range []Link{
		{Delay: 10 * time.Millisecond},
		{Delay: 10 * time.Millisecond, Loss: 0.05, Jitter: 5 * time.Millisecond, Duplicate: 0.02, Reorder: 0.05},
		{Delay: 50 * time.Millisecond, Loss: 0.05},
		{Delay: 5 * time.Millisecond, Rate: 20e6},
	} {
		t.Run(fmt.Sprintf("%+v", l), func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				a, b, to := two(t, w, l)
				server(t, b, to.Port())
				began := time.Now()
				c, err := dial(t, a, to, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if d := time.Since(began); l.Loss == 0 && (d < 4*l.Delay || d > 5*l.Delay) {
					t.Errorf("it took %v to open", d)
				}
				echoed(t, c, 500_000)
			})
		})
	}
}

// Loss makes a connection slow, and nothing else does: its speed is that of the link, or a window
// for each round trip.
func TestStreamSpeed(t *testing.T) {
	speed := func(l Link) (mbit float64) {
		in(t, func(t *testing.T, w *World) {
			a, b, to := two(t, w, l)
			listener, err := b.ListenTCP(to.Port())
			if err != nil {
				t.Fatal(err)
			}
			c, err := dial(t, a, to, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for err == nil {
					_, err = c.Write(make([]byte, 10000))
				}
			}()
			s, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			const n = 2_000_000
			began := time.Now()
			if _, err := io.CopyN(io.Discard, s, n); err != nil {
				t.Fatal(err)
			}
			mbit = n * 8 / time.Since(began).Seconds() / 1e6
			s.Close()
			c.Close()
			listener.Close()
		})
		return mbit
	}
	rtt := 40 * time.Millisecond
	clean, lossy, narrow := speed(Link{Delay: rtt / 4}), speed(Link{Delay: rtt / 4, Loss: 0.01}), speed(Link{Delay: rtt / 4, Rate: 10e6})
	t.Logf("%.1f Mbit/s, %.1f with loss, %.1f of 10", clean, lossy, narrow)
	if most := streamBuffer * 8 / rtt.Seconds() / 1e6; clean > most || clean < most/3 {
		t.Errorf("%.1f Mbit/s without loss; at most a window for each round trip, %.1f", clean, most)
	}
	if lossy > clean/3 || lossy < 0.5 {
		t.Errorf("%.1f Mbit/s with loss, %.1f without", lossy, clean)
	}
	if narrow > 10 || narrow < 5 {
		t.Errorf("%.1f Mbit/s on a link of 10", narrow)
	}
}

// Who writes waits for who reads.
func TestStreamWaitsForReader(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		a, b, to := two(t, w, Link{Delay: time.Millisecond})
		l, err := b.ListenTCP(to.Port())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := dial(t, a, to, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(20 * time.Second))
		n, err := c.Write(make([]byte, 10<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n < streamBuffer || n > streamBuffer+2*unsentBuffer {
			t.Fatalf("%d bytes written, %v", n, err)
		}
		c.SetWriteDeadline(time.Time{})
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		go c.Write(make([]byte, 1<<20))
		if _, err := io.CopyN(io.Discard, s, int64(n+1<<20)); err != nil {
			t.Error("after the reader woke up:", err)
		}
	})
}

func TestStreamDeadlines(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		a, b, to := two(t, w, Link{Delay: time.Millisecond})
		server(t, b, to.Port())
		c, err := dial(t, a, to, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		began := time.Now()
		c.SetReadDeadline(began.Add(3 * time.Second))
		_, err = c.Read(make([]byte, 1))
		if d := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || d != 3*time.Second {
			t.Errorf("%v after %v", err, d)
		}
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Unix(1, 0)) })
		if _, err = c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline in the past ends a Read with %v", err)
		}
		c.SetReadDeadline(time.Time{})
		echoed(t, c, 1000)
		time.AfterFunc(time.Second, func() { c.Close() })
		if _, err = c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close ends a Read with %v", err)
		}
	})
}

// What was written before Close arrives, and then the end. Nothing is left of it.
func TestStreamCloses(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		a, b, to := two(t, w, Link{Delay: time.Millisecond, Loss: 0.1})
		l, err := b.ListenTCP(to.Port())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := dial(t, a, to, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 50_000)
		c.Write(data)
		c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if len(got) != len(data) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		s.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if a.Streams() != 0 || b.Streams() != 0 {
			t.Errorf("%d and %d connections are left", a.Streams(), b.Streams())
		}
	})
}

// Nobody listens, nobody is there, or no segment may leave.
func TestStreamRefused(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		a, _, to := two(t, w, Link{Delay: time.Millisecond})
		if _, err := dial(t, a, to, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error("a closed port:", err)
		}
		nobody := netip.AddrPortFrom(netip.MustParseAddr("51.0.77.1"), 80)
		if _, err := dial(t, a, nobody, time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("nobody there:", err)
		}
		if _, err := dial(t, a, netip.MustParseAddrPort("[2a0e::1]:80"), time.Second); !errors.Is(err, syscall.ENETUNREACH) {
			t.Error("no route:", err)
		}
		a.SetRefuses(true)
		if _, err := dial(t, a, to, time.Second); !errors.Is(err, syscall.EPERM) {
			t.Error("the host's own firewall:", err)
		}
		if n := a.Streams(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// A connection dies when its other side is gone without a word, at once if there is something to
// say, or when it is tested.
func TestStreamDies(t *testing.T) {
	for name, kill := range map[string]func(a, b *Site){
		"asleep":     func(_, b *Site) { b.Host.SetAsleep(true) },
		"booted":     func(_, b *Site) { b.Host.ResetStreams() },
		"NAT":        func(a, _ *Site) { a.Reboot() },
		"renumbered": func(a, _ *Site) { a.Renumber() },
		"moved":      func(_, b *Site) { b.Renumber() },
		"cut off":    func(_, b *Site) { b.SetLink(Link{Loss: 1}) },
	} {
		for _, busy := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, busy %v", name, busy), func(t *testing.T) {
				in(t, func(t *testing.T, w *World) {
					n := w.Internet(Link{Delay: 10 * time.Millisecond})
					a, b := n.Site("a", Home), n.Site("b", Open)
					server(t, b.Host, 80)
					c, err := dial(t, a.Host, netip.AddrPortFrom(b.public4(1), 80), time.Second)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					echoed(t, c, 10000)
					kill(a, b)
					began := time.Now()
					if busy {
						c.Write([]byte("are you there?"))
					}
					k, err := c.Read(make([]byte, 100))
					d := time.Since(began)
					if k != 0 || !errors.Is(err, syscall.ETIMEDOUT) && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("%d bytes, %v", k, err)
					}
					if most := testAfter + (tests+1)*testAgain; busy && d > DeadAfter+mostRTO || d > most {
						t.Errorf("it died after %v", d)
					}
				})
			})
		}
	}
}

// An idle connection through a NAT lives as long as both sides do.
func TestStreamIdle(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		n := w.Internet(Link{Delay: 10 * time.Millisecond})
		a, b := n.Site("a", Double), n.Site("b", Open)
		from := server(t, b.Host, 80)
		c, err := dial(t, a.Host, netip.AddrPortFrom(b.public4(1), 80), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(time.Hour)
		echoed(t, c, 1000)
		if got := from(); len(got) != 1 || netip.MustParseAddrPort(got[0].String()).Addr() != a.public4(1) {
			t.Errorf("it came from %v", got)
		}
	})
}

// Connections go out through a NAT, and come in only where they are forwarded.
func TestStreamNAT(t *testing.T) {
	for _, k := range []Kind{Home, FullCone, Masquerade, SymmetricRandom} {
		in(t, func(t *testing.T, w *World) {
			n := w.Internet(Link{Delay: 10 * time.Millisecond})
			a, b := n.Site("a", k), n.Site("b", Open)
			server(t, a.Host, 8737)
			outside := netip.AddrPortFrom(a.public4(1), 8737)
			if _, err := dial(t, b.Host, outside, time.Second); err == nil {
				t.Errorf("%v: a connection came in", k)
			}
			inside, _ := a.Host.State()
			if !a.NAT.ForwardTCP(netip.AddrPortFrom(inside.Route4.Source, 8737), 8737) {
				t.Fatal("the port is taken")
			}
			c, err := dial(t, b.Host, outside, time.Second)
			if err != nil {
				t.Fatalf("%v: forwarded: %v", k, err)
			}
			defer c.Close()
			echoed(t, c, 1000)
		})
	}
}

// A firewall lets through what the site's owner wants, each protocol by itself.
func TestStreamFirewall(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  func(*Site)
		udp    bool
		ports  []uint16 // that connections reach
		inward bool     // connections come in
	}{
		{"nothing", func(*Site) {}, true, []uint16{80, 443, 8737}, true},
		{"no UDP", func(s *Site) { s.DropUDP(true) }, false, []uint16{80, 443, 8737}, true},
		{"web alone", func(s *Site) { s.DropUDP(true); s.AllowTCP(80, 443) }, false, []uint16{80, 443}, false},
		{"and back", func(s *Site) { s.DropUDP(true); s.AllowTCP(80); s.DropUDP(false); s.AllowTCP() }, true, []uint16{80, 443, 8737}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				n := w.Internet(Link{Delay: 10 * time.Millisecond})
				a, b := n.Site("a", Open), n.Site("b", Open)
				c.limit(a)
				server(t, a.Host, 8737)
				x, y := listen(t, a.Host, 9), listen(t, b.Host, 9)
				x.send("hello", link.Endpoint{Addr: netip.AddrPortFrom(b.public4(1), 9)})
				time.Sleep(time.Second)
				synctest.Wait()
				if udp := len(y.got) > 0; udp != c.udp {
					t.Errorf("UDP goes through: %v", udp)
				}
				for _, port := range []uint16{80, 443, 8737} {
					server(t, b.Host, port)
					conn, err := dial(t, a.Host, netip.AddrPortFrom(b.public4(1), port), time.Second)
					if (err == nil) != slices.Contains(c.ports, port) {
						t.Errorf("port %d: %v", port, err)
					}
					if err == nil {
						echoed(t, conn, 5000)
						conn.Close()
					}
				}
				conn, err := dial(t, b.Host, netip.AddrPortFrom(a.public4(1), 8737), time.Second)
				if (err == nil) != c.inward {
					t.Errorf("inward: %v", err)
				}
				if err == nil {
					conn.Close()
				}
			})
		})
	}
}
