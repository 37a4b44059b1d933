package info2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
				c.History = &memoryHistory{}
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

// TestOutboundOnly: behind a firewall everything works except what comes in,
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

// failing is a history that keeps nothing.
type failing struct{ err error }

func (f *failing) Append(Message) error { return f.err }

func (f *failing) Recent(int) ([]Message, error) { return nil, f.err }

// TestFailingHistory: that it fails is said once, not once a message.
func TestFailingHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		var out bytes.Buffer
		history := &failing{errors.New("the disk is full")}
		a := mem.start(t, "10.0.0.1", func(c *Config) {
			c.History, c.Logger = history, slog.New(slog.NewTextHandler(&out, nil))
		})
		b := mem.start(t, "10.0.0.2", func(c *Config) { c.Known = []netip.Addr{ip("10.0.0.1")} })
		elapse(10 * time.Second)
		for i := range 20 {
			if i == 10 {
				history.err = nil // everything before has been taken: synctest.Wait
			} else if i == 15 {
				history.err = errors.New("full again")
			}
			if _, err := b.Say(t.Context(), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			elapse(2 * time.Second)
		}
		a.end(t)
		b.end(t)
		if n := strings.Count(out.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings:\n%s", n, out.String())
		}
	})
}

// TestReadPause: somebody who sends one byte at a time is read a hundred times a
// second, and then no more; everybody else is served as ever.
func TestReadPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemNet()
		a := mem.start(t, "10.0.0.1", nil)
		b := mem.start(t, "10.0.0.2", func(c *Config) { c.Known = []netip.Addr{ip("10.0.0.1")} })
		elapse(5 * time.Second)
		c, err := mem.dial(ip("10.0.0.3"))(t.Context(), netip.MustParseAddrPort("10.0.0.1:26000"))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(helloLine))
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		reads, begin := 0, time.Now()
		for {
			if _, err := c.Write([]byte{"\nA"[reads%2]}); err != nil { // a pipe: each write waits for its read
				break
			}
			if reads++; reads%10 == 0 {
				limit := int(time.Since(begin)/readPause) + 2
				if reads > limit {
					t.Fatalf("%d reads in %v", reads, time.Since(begin))
				}
			}
		}
		if reads > 500 {
			t.Errorf("cut off after %d reads", reads)
		}
		if _, err := b.Say(t.Context(), "hello"); err != nil {
			t.Fatal(err)
		}
		elapse(time.Second)
		if got := a.texts(); !slices.Equal(got, []string{"hello"}) {
			t.Errorf("heard %q", got)
		}
		if st := a.status(t); st.Counters[ReadsOver] != 1 || st.Counters[FloodersCut] != 1 {
			t.Errorf("%v", st.Counters)
		}
		a.end(t)
		b.end(t)
		c.Close()
	})
}
