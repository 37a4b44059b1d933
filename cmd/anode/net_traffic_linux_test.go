package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pinger sends echo requests from one host to another at even intervals, and notes
// which were answered.
type pinger struct {
	conn    *net.IPConn
	writing sync.WaitGroup
	reading sync.WaitGroup
	over    chan struct{} // closed when no more are to be sent
	closed  chan struct{} // closed when no replies are waited for any more

	mu       sync.Mutex
	sent     []time.Time
	answered []bool
	replied  time.Time // when the first reply came
}

// pinging starts a pinger. size is that of the IPv6 packet; the kernel neither
// fragments it nor refuses it for what it was told of the path.
func (h *host) pinging(to *host, every time.Duration, size int) *pinger {
	h.t.Helper()
	conn, err := in(h, func() (*net.IPConn, error) {
		return net.DialIP("ip6:ipv6-icmp", &net.IPAddr{IP: h.ula[:]}, &net.IPAddr{IP: to.ula[:]})
	})
	if err != nil {
		h.t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		h.t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	p := &pinger{conn: conn, over: make(chan struct{}), closed: make(chan struct{})}
	p.reading.Go(p.read)
	p.writing.Go(func() { p.write(every, max(size, 48)) })
	h.t.Cleanup(p.stop)
	return p
}

// pingIdent marks the requests of pingers, whose sockets belong to one peer each.
const pingIdent = 0xa70d

func (p *pinger) write(every time.Duration, size int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		// type, code, checksum (the kernel's), identifier, sequence number
		request := binary.BigEndian.AppendUint16([]byte{128, 0, 0, 0}, pingIdent)
		p.mu.Lock()
		request = binary.BigEndian.AppendUint16(request, uint16(len(p.sent)))
		p.sent = append(p.sent, time.Now())
		p.answered = append(p.answered, false)
		p.mu.Unlock()
		p.conn.Write(append(request, make([]byte, size-48)...)) // an error: a request lost
		select {
		case <-p.over:
			return
		case <-tick.C:
		}
	}
}

func (p *pinger) read() {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			select {
			case <-p.closed:
				return
			case <-time.After(time.Millisecond): // an ICMPv6 error that came for a request
				continue
			}
		}
		if n < 8 || buf[0] != 129 || binary.BigEndian.Uint16(buf[4:]) != pingIdent {
			continue
		}
		p.mu.Lock()
		if seq := int(binary.BigEndian.Uint16(buf[6:])); seq < len(p.answered) {
			p.answered[seq] = true
			if p.replied.IsZero() {
				p.replied = time.Now()
			}
		}
		p.mu.Unlock()
	}
}

// stop sends no more, and waits a second at most for the last replies.
func (p *pinger) stop() {
	select {
	case <-p.over:
		return
	default:
	}
	close(p.over)
	p.writing.Wait()
	for end := time.Now().Add(time.Second); time.Now().Before(end) && !p.allAnswered(); {
		time.Sleep(10 * time.Millisecond)
	}
	close(p.closed)
	p.conn.Close()
	p.reading.Wait()
}

// atLeast waits until so many requests were sent, which takes longer on a busy machine.
func (p *pinger) atLeast(t *testing.T, n int) {
	t.Helper()
	within(t, 20*time.Second, fmt.Sprint(n, " pings"), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.sent) >= n
	})
}

func (p *pinger) allAnswered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.Contains(p.answered, false)
}

// score is how many requests of a time were sent, and answered.
func (p *pinger) score(from, to time.Time) (sent, answered int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, at := range p.sent {
		if at.Before(from) || at.After(to) {
			continue
		}
		sent++
		if p.answered[i] {
			answered++
		}
	}
	return sent, answered
}

// first is the time from the first request to the first reply to any, false if there is none.
func (p *pinger) first() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.replied.IsZero() {
		return 0, false
	}
	return p.replied.Sub(p.sent[0]), true
}

// silence is the longest time within which no request was answered, of those sent
// between two times.
func (p *pinger) silence(from, to time.Time) (longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := from
	for i, at := range p.sent {
		if at.Before(from) || at.After(to) || !p.answered[i] {
			continue
		}
		longest, last = max(longest, at.Sub(last)), at
	}
	return max(longest, to.Sub(last))
}

// stream is a TCP connection with a steady flow of data one way.
type stream struct {
	name  string
	pace  int // bytes a second
	began time.Time
	conns []net.Conn
	ended sync.WaitGroup
	over  chan struct{}

	mu    sync.Mutex
	slots []int // bytes that arrived in each slot
	last  time.Time
	gaps  []gap
	err   error
}

// gap is a time in which nothing arrived.
type gap struct{ from, to time.Time }

// slot is what a stream counts its bytes in.
const slot = 250 * time.Millisecond

// shortGap is the longest gap that a stream does not note.
const shortGap = 50 * time.Millisecond

// streaming sends data at a pace. The dialling host is from, whichever way data goes.
func streaming(t *testing.T, from, to *host, download bool, pace int) *stream {
	t.Helper()
	l := to.listen(0)
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	near, err := from.dial(to, l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	far, ok := <-accepted
	if !ok {
		t.Fatal("the connection was not accepted")
	}
	s := &stream{name: from.name + " uploads to " + to.name, pace: pace, began: time.Now(), last: time.Now(), conns: []net.Conn{near, far}, over: make(chan struct{})}
	source, sink := near, far
	if download {
		s.name, source, sink = from.name+" downloads from "+to.name, far, near
	}
	s.ended.Go(func() { s.send(source) })
	s.ended.Go(func() { s.receive(sink) })
	t.Cleanup(s.stop)
	return s
}

func (s *stream) send(c net.Conn) {
	const every = 10 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	data := streamed()
	for sent, at := 0, 0; ; {
		select {
		case <-s.over:
			return
		case <-tick.C:
		}
		due := int(time.Since(s.began).Seconds()*float64(s.pace)) - sent
		// After a pause no more than is due in a second is made up for.
		if due > s.pace {
			sent, due = sent+due-s.pace, s.pace
		}
		for due > 0 {
			n, err := c.Write(data[at : at+min(due, len(data)-at)])
			sent, due, at = sent+n, due-n, (at+n)%len(data)
			if err != nil {
				s.fail(err)
				return
			}
		}
	}
}

// streamed is what a stream sends, again and again.
func streamed() []byte { return random(1, 1<<20) }

func (s *stream) receive(c net.Conn) {
	buf, data, at := make([]byte, 1<<17), streamed(), 0
	for {
		n, err := c.Read(buf[:min(len(buf), len(data)-at)])
		if !bytes.Equal(buf[:n], data[at:at+n]) {
			s.fail(errors.New("other bytes came than were sent"))
		}
		at = (at + n) % len(data)
		s.mu.Lock()
		k := int(time.Since(s.began) / slot)
		for len(s.slots) <= k {
			s.slots = append(s.slots, 0)
		}
		s.slots[k] += n
		now := time.Now()
		if now.Sub(s.last) > shortGap {
			s.gaps = append(s.gaps, gap{s.last, now})
		}
		s.last = now
		s.mu.Unlock()
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// fail notes the first error, unless the stream was stopped.
func (s *stream) fail(err error) {
	select {
	case <-s.over:
		return
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// stop ends the stream.
func (s *stream) stop() {
	select {
	case <-s.over:
		return
	default:
	}
	close(s.over)
	for _, c := range s.conns {
		c.Close()
	}
	s.ended.Wait()
}

// slump is the longest time since a moment in which less than half of the pace arrived.
func (s *stream) slump(since time.Time) (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := int(time.Since(s.began) / slot)
	run := 0
	for k := int(since.Sub(s.began) / slot); k < now; k++ {
		n := 0
		if k < len(s.slots) {
			n = s.slots[k]
		}
		if run++; n*2 >= int(slot.Seconds()*float64(s.pace)) {
			run = 0
		}
		longest = max(longest, time.Duration(run)*slot)
	}
	return longest
}

// pause is the longest time since a moment in which nothing arrived, and the stream's error.
func (s *stream) pause(since time.Time) (longest time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range append(s.gaps, gap{s.last, time.Now()}) {
		if g.from.Before(since) {
			g.from = since
		}
		longest = max(longest, g.to.Sub(g.from))
	}
	return longest, s.err
}

// rates lists kB a second by slot, for people.
func (s *stream) rates(since time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for k := max(0, int(since.Sub(s.began)/slot)); k < len(s.slots); k++ {
		fmt.Fprintf(&b, "%d ", s.slots[k]*int(time.Second/slot)/1000)
	}
	return strings.TrimSpace(b.String())
}

// healthy checks that a stream has had no slump longer than a limit, and no error.
func (s *stream) healthy(t *testing.T, since time.Time, limit time.Duration) {
	t.Helper()
	slump := s.slump(since)
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	t.Logf("%s: under half of %d kB/s for %v at most", s.name, s.pace/1000, slump)
	if err != nil || slump > limit {
		t.Errorf("%s: under half of the pace for %v, want at most %v; error %v; kB/s in each %v: %s", s.name, slump, limit, err, slot, s.rates(since))
	}
}

// cpu is the processor time that a daemon has used, in steps of 10 ms.
func (h *host) cpu() time.Duration {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.node.cmd.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const utime, stime, hz = 11, 12, 100
	u, err1 := strconv.Atoi(f[utime])
	s, err2 := strconv.Atoi(f[stime])
	if err1 != nil || err2 != nil {
		h.t.Fatalf("%s", b)
	}
	return time.Duration(u+s) * time.Second / hz
}

// cpuShare measures for a time which share of one core the daemon uses beside a volley, again
// if it is more than most, since other machines may share our cores: the least of three counts.
func (h *host) cpuShare(d time.Duration, v *volley, most float64) (share float64) {
	h.t.Helper()
	for try := range 3 {
		if x := h.cpuShareOnce(d, v); try == 0 || x < share {
			share = x
		}
		if share <= most {
			break
		}
	}
	return share
}

// cpuShareOnce measures once. What the volley falls short of its rate is added, so that a machine that is too slow to
// send does not look quick.
func (h *host) cpuShareOnce(d time.Duration, v *volley) float64 {
	h.t.Helper()
	before, sent, start := h.cpu(), v.sent(), time.Now()
	time.Sleep(d)
	used, took := (h.cpu() - before).Seconds(), time.Since(start).Seconds()
	rate := float64(v.sent()-sent) / took
	h.t.Logf("%s: %.0f packets a second were sent, and cost %.1f %% of a core", h.name, rate, 100*used/took)
	if rate < float64(v.rate)/4 {
		h.t.Errorf("only %.0f of %d packets a second could be sent: that proves nothing", rate, v.rate)
	}
	return used / took * max(1, float64(v.rate)/rate)
}

// median is that of some durations.
func median(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}
