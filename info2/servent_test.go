package info2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// memNet is a network of pipes: what is dialled must be listened on.
type memNet struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*memListener
}

type memListener struct {
	net   *memNet
	at    netip.AddrPort
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

type memConn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c memConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func newMemNet() *memNet { return &memNet{listeners: make(map[netip.AddrPort]*memListener)} }

func (n *memNet) listen(a netip.Addr) func(context.Context, uint16) (net.Listener, error) {
	return func(_ context.Context, port uint16) (net.Listener, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		at := netip.AddrPortFrom(a, port)
		if n.listeners[at] != nil {
			return nil, &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
		}
		l := &memListener{net: n, at: at, conns: make(chan net.Conn), done: make(chan struct{})}
		n.listeners[at] = l
		return l, nil
	}
}

func (n *memNet) dial(from netip.Addr) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		n.mu.Lock()
		l := n.listeners[to]
		n.mu.Unlock()
		if l == nil {
			return nil, syscall.ECONNREFUSED
		}
		near, far := net.Pipe()
		mine, theirs := memConn{near, netip.AddrPortFrom(from, 40000), to}, memConn{far, to, netip.AddrPortFrom(from, 40000)}
		select {
		case l.conns <- theirs:
			return mine, nil
		case <-l.done:
			return nil, syscall.ECONNREFUSED
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		delete(l.net.listeners, l.at)
		l.net.mu.Unlock()
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// elapse lets virtual time pass, and all that happens in it.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// running is a servent with its end.
type running struct {
	*Servent
	sub  *Subscription
	stop context.CancelFunc
	done chan error
}

// start runs a servent on the network; randomness is its address.
func (n *memNet) start(t *testing.T, a string, change func(*Config)) *running {
	t.Helper()
	cfg := Config{
		Name: "test", Dial: n.dial(ip(a)), Listen: n.listen(ip(a)),
		Rand: bytes.NewReader(append([]byte(fmt.Sprintf("%-32s", a)), 0)),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Servent: s, sub: s.Subscribe(100), stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	synctest.Wait() // it listens
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func (r *running) texts() (list []string) {
	for {
		select {
		case m, ok := <-r.sub.Messages():
			if !ok {
				return list
			}
			list = append(list, m.Text)
		default:
			return list
		}
	}
}

func (r *running) status(t *testing.T) Status {
	t.Helper()
	st, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestServents: five find each other from one address, and hear each other; the
// neighbours have names; who leaves says so.
func TestServents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		var all []*running
		for i := range 5 {
			all = append(all, mem.start(t, fmt.Sprintf("10.0.0.%d", i+1), func(c *Config) {
				if i > 0 {
					c.Known = []netip.Addr{ip("10.0.0.1")}
				}
				c.NameOf = func(a netip.Addr) string { return "host " + a.String() + "\x1b" }
				c.History = &MemoryHistory{}
			}))
			elapse(5 * time.Second)
		}
		elapse(time.Minute)
		var want []string
		for i, r := range all {
			text := fmt.Sprint("text ", i)
			if _, err := r.Say(t.Context(), text); err != nil {
				t.Fatal(err)
			}
			want = append(want, text)
			elapse(5 * time.Second)
		}
		for i, r := range all {
			history, _ := r.config.History.Recent(100)
			if len(history) != 5 {
				t.Errorf("%d messages in the history", len(history))
			}
			for _, m := range history {
				if m.Own != (m.Text == want[i]) || !m.Own && m.Name != "host "+m.From.String()+"␛" {
					t.Errorf("%+v", m)
				}
			}
			if got := r.texts(); !slices.Equal(got, want) {
				t.Errorf("%d heard %q", i, got)
			}
			st := r.status(t)
			if st.Port != 26000 || len(st.Links) == 0 || st.Links[0].Name == "" || st.Remembered != 5 {
				t.Errorf("status %+v", st)
			}
			if st.Inbound != InboundWorks {
				t.Errorf("%d: inbound %v", i, st.Inbound)
			}
		}
		all[0].end(t)
		elapse(time.Second)
		direct := uint64(0)
		for _, r := range all[1:] {
			direct += r.status(t).Counters[LogoffDirect]
		}
		if direct == 0 {
			t.Error("nobody heard it leave")
		}
		for _, r := range all[1:] {
			r.end(t)
		}
		if _, err := all[0].Say(t.Context(), "x"); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
		if _, ok := <-all[1].sub.Messages(); ok {
			t.Error("a subscription outlives its servent")
		}
	})
}

// TestSay has the errors, and the pace: ten at once, then two a second.
func TestSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		a := mem.start(t, "10.0.0.1", nil)
		for text, want := range map[string]error{
			"hello":                            ErrNobody,
			" \n\x00":                          nil,
			"":                                 ErrEmpty,
			"\r\n ":                            ErrEmpty,
			strings.Repeat("x ", maxText):      ErrTooLong,
			"password: hunter2":                ErrSecret,
			"-----BEGIN EC PRIVATE KEY-----\n": ErrSecret,
		} {
			if want == nil {
				want = ErrNobody
			}
			if _, err := a.Say(t.Context(), text); !errors.Is(err, want) {
				t.Errorf("%.20q: %v", text, err)
			}
		}
		elapse(10 * time.Second)
		b := mem.start(t, "10.0.0.2", func(c *Config) { c.Friends = []netip.Addr{ip("10.0.0.1")} })
		elapse(10 * time.Second)
		if _, err := a.SayAnyway(t.Context(), "password: hunter2"); err != nil {
			t.Error(err)
		}
		elapse(10 * time.Second)
		begin := time.Now()
		for i := range 20 {
			if _, err := a.Say(t.Context(), fmt.Sprint("line ", i)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took < 4900*time.Millisecond || took > 6*time.Second {
			t.Errorf("20 texts took %v", took)
		}
		elapse(20 * time.Second)
		if got := b.texts(); len(got) != 21 {
			t.Errorf("%d heard", len(got))
		}
		a.end(t)
		b.end(t)
	})
}

// TestPortTaken says so and stops.
func TestPortTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		a := mem.start(t, "10.0.0.1", nil)
		synctest.Wait()
		b := mem.start(t, "10.0.0.1", nil)
		err := <-b.done
		if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), "26000") {
			t.Errorf("got %v", err)
		}
		a.end(t)
		if err := a.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
	})
}

// TestSlowReader: one neighbour takes nothing, one subscriber reads nothing; the
// others are served as ever.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		a := mem.start(t, "10.0.0.1", nil)
		deaf := a.Subscribe(3)
		synctest.Wait()
		b := mem.start(t, "10.0.0.2", func(c *Config) { c.Known = []netip.Addr{ip("10.0.0.1")} })
		synctest.Wait()
		stuck, err := mem.dial(ip("10.0.0.3"))(t.Context(), netip.MustParseAddrPort("10.0.0.1:26000"))
		if err != nil {
			t.Fatal(err)
		}
		stuck.Write([]byte(helloLine))
		buf := make([]byte, 100)
		if n, _ := stuck.Read(buf); string(buf[:n]) != okLine {
			t.Fatalf("read %q", buf[:n])
		}
		elapse(5 * time.Second)
		for i := range 20 {
			begin := time.Now()
			if _, err := a.Say(t.Context(), fmt.Sprint("text ", i)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 600*time.Millisecond {
				t.Errorf("Say took %v", took)
			}
		}
		elapse(15 * time.Second)
		if got := b.texts(); len(got) != 20 {
			t.Errorf("%d of 20 heard", len(got))
		}
		if len(deaf.Messages()) != 3 || deaf.Dropped() != 17 {
			t.Errorf("slow subscriber: %d waiting, %d dropped", len(deaf.Messages()), deaf.Dropped())
		}
		elapse(stallWait)
		if st := a.status(t); st.Counters[Stalled] != 1 || len(st.Links) != 1 || st.Counters[SlowReaders] != 17 {
			t.Errorf("after a minute: %+v", st)
		}
		deaf.Close()
		deaf.Close()
		a.end(t)
		b.end(t)
		stuck.Close()
	})
}

// TestOutboundOnly: behind a firewall everything works but for what comes in,
// and Status shows it.
func TestOutboundOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		a := mem.start(t, "10.0.0.1", nil)
		b := mem.start(t, "10.0.0.2", func(c *Config) {
			listen := c.Listen
			c.Listen = func(ctx context.Context, port uint16) (net.Listener, error) {
				l, err := listen(ctx, port)
				mem.mu.Lock() // the firewall
				delete(mem.listeners, netip.AddrPortFrom(ip("10.0.0.2"), port))
				mem.mu.Unlock()
				return l, err
			}
			c.Known = []netip.Addr{ip("10.0.0.1")}
		})
		elapse(10 * time.Second)
		if st := b.status(t); st.Inbound != InboundUnknown {
			t.Errorf("at first: %v", st.Inbound)
		}
		if _, err := a.Say(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Say(t.Context(), "two"); err != nil {
			t.Fatal(err)
		}
		elapse(inboundWait)
		if st := b.status(t); st.Inbound != InboundNone {
			t.Errorf("after five minutes: %v", st.Inbound)
		}
		if len(a.texts()) != 2 || len(b.texts()) != 2 {
			t.Error("they do not hear each other")
		}
		a.end(t)
		b.end(t)
	})
}

// TestAllow: strangers are refused, and not dialled either.
func TestAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		known := ip("fd00::2")
		a := mem.start(t, "fd00::1", func(c *Config) { c.Allow = func(a netip.Addr) bool { return a == known } })
		b := mem.start(t, "fd00::2", nil)
		x := mem.start(t, "fd00::3", nil)
		for _, r := range []*running{b, x} {
			if err := r.Connect(t.Context(), ip("fd00::1")); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Connect(t.Context(), ip("fd00::3")); !errors.Is(err, ErrForbidden) {
			t.Errorf("connect to a stranger: %v", err)
		}
		elapse(10 * time.Second)
		st := a.status(t)
		if len(st.Links) != 1 || st.Links[0].Addr != known || st.Counters[RefusedForeign] == 0 {
			t.Errorf("status %+v", st)
		}
		// An offline friend is dialled again as soon as there is a reason.
		if err := a.SetFriends(t.Context(), []netip.Addr{known}); err != nil {
			t.Fatal(err)
		}
		b.end(t)
		elapse(time.Minute)
		b = mem.start(t, "fd00::2", nil)
		synctest.Wait()
		if err := a.NetworkChanged(t.Context()); err != nil {
			t.Fatal(err)
		}
		elapse(2 * time.Second)
		if st := b.status(t); len(st.Links) != 1 {
			t.Errorf("links %+v, the other end: %+v", st.Links, a.status(t))
		}
		hosts, err := a.Hosts(t.Context())
		if err != nil || len(hosts) != 1 || hosts[0].Standing != "friend" {
			t.Errorf("hosts %+v, %v", hosts, err)
		}
		for _, r := range []*running{a, b, x} {
			r.end(t)
		}
	})
}

// TestBridge: two networks are separate, until they are bridged; then a text
// crosses once, under its own identifier.
func TestBridge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newMemNet(), newMemNet()
		link := func(c *Config) { c.Known = []netip.Addr{ip("10.0.0.1")} }
		a1, b1 := one.start(t, "10.0.0.1", nil), one.start(t, "10.0.0.2", link)
		a2, b2 := two.start(t, "10.0.0.1", nil), two.start(t, "10.0.0.2", link)
		all := []*running{a1, b1, a2, b2}
		elapse(10 * time.Second)
		if _, err := b1.Say(t.Context(), "apart"); err != nil {
			t.Fatal(err)
		}
		elapse(10 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		// Two bridges make a loop, and must not circle.
		wg.Go(func() { Bridge(ctx, a1.Servent, a2.Servent) })
		wg.Go(func() { Bridge(ctx, b1.Servent, b2.Servent) })
		synctest.Wait()
		if _, err := b1.Say(t.Context(), "over"); err != nil {
			t.Fatal(err)
		}
		if _, err := a2.Say(t.Context(), "back"); err != nil {
			t.Fatal(err)
		}
		elapse(20 * time.Second)
		cancel()
		wg.Wait()
		want := [][]string{{"apart", "back", "over"}, {"apart", "back", "over"}, {"back", "over"}, {"back", "over"}}
		for i, r := range all {
			got := r.texts()
			slices.Sort(got)
			if !slices.Equal(got, want[i]) {
				t.Errorf("%d heard %q", i, got)
			}
			r.end(t)
		}
	})
}

// TestSecrets: what looks like one, and what does not.
func TestSecrets(t *testing.T) {
	for text, want := range map[string]bool{
		"-----BEGIN OPENSSH PRIVATE KEY-----":                            true,
		"AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ":               true,
		"my password is hunter2":                                         true,
		"Passwort: geheim":                                               true,
		"pwd=abc":                                                        true,
		"alice:x:1000:1000::/home/alice:/bin/sh":                         true,
		"alice:$6$saltsalt$abcdefgh:19000:0:99999:7:::":                  true,
		"Set-Cookie: a=b":                                                true,
		"JSESSIONID=8A7F; PHPSESSID=1":                                   true,
		"ghp_abcdefghijklmnopqrstuvwxyz0123456789":                       true,
		"use AKIAIOSFODNN7EXAMPLE":                                       true,
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123":           true,
		"Authorization: Basic QWxhZGRpbjo=":                              true,
		"card 4111 1111 1111 1111 ok?":                                   true,
		"5500-0000-0000-0004":                                            true,
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f0":   true,
		"https://me:secret@example.org/":                                 true,
		"hello everybody":                                                false,
		"I forgot my password":                                           false,
		"what is a private key?":                                         false,
		"call 4111 1111 1111 1112":                                       false,
		"it is 2026-11-21 22:47:59 here, room 1234":                      false,
		"see https://example.org/a/9f86d081884c7d659a2feaa0c55ad015a3bf": false,
		"Donaudampfschifffahrtsgesellschaftskapitaen":                    false,
		"my address is abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh": false,
		"fd00:1234:5678:9abc:def0:1234:5678:9abc":                                        false,
		"the pin of the grenade":                                                         false,
	} {
		if got := LooksSecret(text); (got != "") != want {
			t.Errorf("%q looks like %q", text, got)
		}
	}
}

// TestIdentifiers survive text.
func TestIdentifiers(t *testing.T) {
	for _, m := range []MID{midOf(0), midOf(42), {'a', 'b', 0xff, 0xfe, ' ', '!'}, {'h', 'e', 'l', 'l', 'o', '!'}} {
		text, _ := m.MarshalText()
		var back MID
		if err := back.UnmarshalText(text); err != nil || back != m {
			t.Errorf("%v: %q, %v", m, text, err)
		}
	}
	var m MID
	if m.UnmarshalText([]byte("1234567")) == nil || m.UnmarshalText([]byte("zzzzzzzzzzzz")) == nil {
		t.Error("took nonsense")
	}
	if Duplicates.String() != "duplicates" || HistoryLost.String() != "history_lost" || counterCount.String() != "unknown" {
		t.Error("counters and names do not match")
	}
	for i, name := range counterNames {
		if name == "" {
			t.Errorf("counter %d has no name", i)
		}
	}
}
