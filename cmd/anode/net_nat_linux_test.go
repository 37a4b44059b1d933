package main_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// Environment variables of scripts/natlab.
const (
	natReport = "NATLAB_REPORT" // a file to which a line is added for each row; all rows run
	natKeep   = "NATLAB_KEEP"   // a directory for the logs of the daemons, and what crossed the internet
	natQuick  = "NATLAB_QUICK"  // packets are not counted for whole minutes
	natPlaces = "NATLAB_PLACES" // how many rows are measured at a time; 2 unless said
)

// TestNetNAT: two hosts behind real NATs reach each other: directly wherever a direct path
// exists, else through a relay.
func TestNetNAT(t *testing.T) {
	all := os.Getenv(natReport) != ""
	if all {
		addLine(t, reportHead)
	}
	// While a row is measured, the machine must not be busy; afterwards rows only wait.
	n, err := strconv.Atoi(cmp.Or(os.Getenv(natPlaces), "2"))
	if err != nil || n < 1 {
		t.Fatalf("%s is %q", natPlaces, os.Getenv(natPlaces))
	}
	if list := unknownRows(); len(list) > 0 {
		t.Errorf("there are no rows %q", list)
	}
	places := make(chan struct{}, n)
	for _, row := range topologies {
		if !all && !row.always {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := measurement{row: row, strict: all}
			defer m.report(t)
			l := m.quickly(t, places)
			if all && os.Getenv(natQuick) == "" {
				m.patiently(l)
			} else if row.change.do == nil {
				m.count(l)
			}
			m.why = l.why()
			m.explained(l)
			m.surveyed(l)
			m.judge()
		})
	}
}

// measurement is what a row showed.
type measurement struct {
	row     topology
	strict  bool // it is judged by all limits, as its own script runs it
	got     way
	first   time.Duration // until the first ping was answered; 0: none was
	direct  time.Duration // until the path was direct, at both ends; 0: it never was
	big     time.Duration // until a long ping was answered after that; 0: none was
	lost    float64       // of long pings, in percent
	pause   time.Duration // after the change, in which nothing arrived; 0: there was no change
	again   time.Duration // until the path was what it must be, for good; 0: always
	packets []int         // that a and b sent, without the pings: in the first minute; by a relay also in a second, and in a third without pings
	why     string        // what a says
	faults  []string

	began time.Time
	base  int       // packets before that, or before the last that were counted
	pings []*pinger // since
}

func (m *measurement) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// Limits of a measurement.
const (
	firstLimit  = 5 * time.Second       // for the first reply
	directLimit = time.Second           // for a direct path, from the first request on
	patience    = 8 * time.Second       // until it is given up
	maxPackets  = 300                   // in the first minute
	maxLater    = 20                    // in each after that, by a relay
	maxPause    = 3 * time.Second       // after a change
	busy        = 60 * time.Millisecond // that a busy machine adds to the first reply
)

// quickly measures what takes seconds, in one of the places.
func (m *measurement) quickly(t *testing.T, places chan struct{}) *laboratory {
	places <- struct{}{}
	defer func() { <-places }()
	l := build(t, m.row)
	if dir := os.Getenv(natKeep); dir != "" {
		dir = filepath.Join(dir, m.row.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		l.internet.record(t, filepath.Join(dir, "internet.pcap"))
		t.Cleanup(func() { l.keep(dir) })
	}
	l.start()
	m.began, m.base = time.Now(), l.sent()
	m.connect(l)
	m.long(l)
	if m.row.change.do != nil {
		m.change(l)
	}
	return l
}

// patiently counts the packets of a minute, or of three.
func (m *measurement) patiently(l *laboratory) {
	if m.row.change.do != nil || m.got == none {
		return
	}
	for minute := range 3 {
		until := m.began.Add(time.Duration(minute+1) * time.Minute)
		if minute < 2 {
			p := m.ping(l, time.Second, 100)
			time.Sleep(time.Until(until))
			p.stop()
		}
		time.Sleep(time.Until(until))
		m.count(l)
		if m.got != relay {
			break
		}
	}
}

// ping is pinging from a to b, in the measurement's account.
func (m *measurement) ping(l *laboratory, every time.Duration, size int) *pinger {
	p := l.a.pinging(l.b, every, size)
	m.pings = append(m.pings, p)
	return p
}

// connect sends pings until the path is direct, or that has been waited for long enough.
func (m *measurement) connect(l *laboratory) {
	p := m.ping(l, 50*time.Millisecond, 100)
	limit := patience
	if m.row.want != direct {
		limit /= 2
	}
	for m.direct == 0 && time.Since(m.began) < limit {
		time.Sleep(10 * time.Millisecond)
		if l.way(l.a, l.b) == direct && l.way(l.b, l.a) == direct {
			m.direct = time.Since(m.began)
		}
		if _, ok := p.first(); !ok && time.Since(m.began) > firstLimit {
			break
		}
	}
	p.stop()
	m.first, _ = p.first()
}

// long checks that packets of full size pass.
func (m *measurement) long(l *laboratory) {
	if m.first == 0 {
		m.got = none
		return
	}
	p := m.ping(l, 20*time.Millisecond, 1400)
	answered := func() bool { _, ok := p.first(); return ok }
	for start := time.Now(); !answered() && time.Since(start) < 3*time.Second; {
		time.Sleep(5 * time.Millisecond)
	}
	m.big, _ = p.first()
	from := time.Now()
	time.Sleep(2 * time.Second)
	to := time.Now()
	time.Sleep(m.row.trip()) // of the replies to the last
	p.stop()
	sent, came := p.score(from, to)
	m.lost = 100 * float64(sent-came) / float64(max(1, sent))
	m.got = l.way(l.a, l.b)
}

// change has something happen, and measures how long nothing arrives after it, and when the
// path is again what it must be.
func (m *measurement) change(l *laboratory) {
	switch {
	case m.first == 0:
		return
	case m.row.change.idle:
		m.changeIdle(l)
	default:
		m.changeLoaded(l)
	}
	if m.pause > maxPause {
		m.fault("a pause of %v", m.pause.Round(time.Millisecond))
	}
	if m.again > maxPause {
		m.fault("not %s for %v", m.row.want, m.again.Round(time.Millisecond))
	}
}

// changeIdle is a change before a ping.
func (m *measurement) changeIdle(l *laboratory) {
	m.row.change.do(l)
	p := m.ping(l, 50*time.Millisecond, 100)
	m.observe(l)
	p.stop()
	ok := false
	if m.pause, ok = p.first(); !ok {
		m.fault("no ping is answered after %v", 2*maxPause)
	}
}

// changeLoaded is a change under two streams of data.
func (m *measurement) changeLoaded(l *laboratory) {
	const pace = 300_000 // bytes a second
	streams := []*stream{streaming(l.t, l.a, l.b, false, pace), streaming(l.t, l.a, l.b, true, pace)}
	time.Sleep(1500 * time.Millisecond)
	m.row.change.do(l)
	since := time.Now()
	m.observe(l)
	for _, s := range streams {
		pause, err := s.pause(since)
		m.pause = max(m.pause, pause)
		if err != nil {
			m.fault("%s: %v", s.name, err)
		}
		s.stop()
	}
}

// observe watches the path for twice as long as it may be another than it must be.
func (m *measurement) observe(l *laboratory) {
	start := time.Now()
	for now := start; now.Sub(start) < 2*maxPause; now = time.Now() {
		if l.way(l.a, l.b) != m.row.want || l.way(l.b, l.a) != m.row.want {
			m.again = time.Since(start)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// count notes how many packets a and b have sent since the last time, beside those of pings.
func (m *measurement) count(l *laboratory) {
	total := l.sent()
	for _, p := range m.pings {
		sent, answered := p.score(time.Time{}, time.Now())
		if answered > 0 { // else none has left
			total -= sent + answered
		}
	}
	m.packets = append(m.packets, total-m.base)
	m.base = total
}

// judge compares what was measured with what must be.
func (m *measurement) judge() {
	limit := m.row.limit
	if limit == 0 {
		limit = directLimit
	}
	if !m.strict {
		limit *= 3
	}
	switch {
	case m.got != m.row.want:
		m.fault("got %s", m.got)
	case m.got == direct && m.direct > limit:
		m.fault("direct after %v", m.direct.Round(time.Millisecond))
	}
	if m.got != none && m.lost > m.row.loss()*1.3+5 {
		m.fault("%.0f %% lost", m.lost)
	}
	if first := 2*m.row.trip() + busy; m.strict && m.row.loss() == 0 && m.first > first {
		m.fault("first reply after %v, more than %v", m.first.Round(time.Millisecond), first)
	}
	for i, n := range m.packets {
		if limit := []int{maxPackets, maxLater, maxLater}[i]; n > limit {
			m.fault("more than %d packets in minute %d", limit, i+1)
		}
	}
}

// reportHead is the head of the lines that report writes.
var reportHead = fmt.Sprintf(reportLine, "topology", "wanted", "got", "first", "direct", "long", "lost", "packets", "pause", "again", "", "what a says")

const reportLine = "%-24s %-7s %-7s %7s %7s %7s %5s %12s %7s %7s  %-6s %s\n"

// report adds the row to the report, if one is wanted, and fails the test if it must.
func (m *measurement) report(t *testing.T) {
	verdict := "ok"
	if len(m.faults) > 0 || m.got == "" {
		verdict = "FAIL"
	}
	packets := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(m.packets)), "+"), "[]")
	line := fmt.Sprintf(reportLine, m.row.name, m.row.want, m.got, inMillis(m.first), inMillis(m.direct), inMillis(m.big),
		fmt.Sprintf("%.0f%%", m.lost), packets, inMillis(m.pause), inMillis(m.again), verdict, strings.Join(append(m.faults, m.why), "; "))
	t.Log("\n" + reportHead + line)
	if verdict != "ok" {
		t.Fail()
	}
	if os.Getenv(natReport) != "" {
		addLine(t, line)
	}
}

// addLine adds a line to the report.
func addLine(t *testing.T, line string) {
	t.Helper()
	f, err := os.OpenFile(os.Getenv(natReport), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
}

// inMillis is a duration in milliseconds, or a dash.
func inMillis(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprint(d.Milliseconds())
}

// start starts the daemons, and waits until a and b have their relays. Both know where those
// are, and nothing of each other but the address.
func (l *laboratory) start() {
	for _, r := range l.relays {
		l.startRelay(r)
	}
	l.a.add(l.b)
	l.b.add(l.a)
	for _, h := range []*host{l.a, l.b} {
		for i, r := range l.relays {
			site := firstRelay + i
			h.run(h.bin, "peers", "add", r.address.String(), r.name, "--state", h.state(),
				"--endpoint", fmt.Sprintf("udp:9.0.%d.2:8737", site), "--endpoint", fmt.Sprintf("udp:[2a00:0:%d::2]:8737", site))
		}
		l.startNode(h)
	}
	for _, h := range []*host{l.a, l.b} {
		for _, r := range l.relays {
			l.register(h, r)
		}
	}
	time.Sleep(time.Second) // what a node has to find out at its start
}

func (l *laboratory) startRelay(r *host) {
	r.launch(append(debugging, "--peer", l.a.address.String(), "--peer", l.b.address.String())...)
}

func (l *laboratory) startNode(h *host) { h.launch(debugging...) }

// debugging has a node say what it does, and do nothing that a test did not ask for.
var debugging = slices.Clip(append(quiet, "--set", "log.level=debug"))

// register waits some seconds until a host is connected to its relay. A node that does not do
// that by itself is told to.
func (l *laboratory) register(h, r *host) {
	told := false
	for start := time.Now(); time.Since(start) < 5*time.Second; time.Sleep(20 * time.Millisecond) {
		if p, ok := l.peer(h, r); ok && p.State == overlay.StateUp {
			return
		}
		if !told && time.Since(start) > 2*time.Second {
			told = true
			h.tryAnode("ping", r.name, "-c1", "-W1")
		}
	}
}

// peer is what h says of another host; false while it does not answer.
func (l *laboratory) peer(h, other *host) (overlay.PeerStatus, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, ok := l.clients[h]
	if !ok {
		c = control.NewClient(h.socket())
		l.clients[h] = c
		l.t.Cleanup(c.Close)
	}
	s, err := c.Status(ctx)
	for _, p := range s.Peers {
		if err == nil && p.Address == other.address {
			return p, true
		}
	}
	return overlay.PeerStatus{}, false
}

// way is how h sends to another host.
func (l *laboratory) way(h, other *host) way {
	p, ok := l.peer(h, other)
	switch {
	case !ok || p.State != overlay.StateUp || p.Path.Kind == overlay.PathNone:
		return none
	case p.Path.Kind == overlay.PathRelay:
		return relay
	}
	return direct
}

// sent is how many UDP packets a and b have sent.
func (l *laboratory) sent() (n int) {
	for _, o := range l.odometers {
		count, err := o.read()
		if err != nil {
			l.t.Fatal(err)
		}
		n += count
	}
	return n
}

// why is the first line of what a says about b.
func (l *laboratory) why() string {
	out, _ := l.a.tryAnode("why", l.b.name)
	first, _, _ := strings.Cut(out, "\n")
	return first
}

// keep copies the logs of the daemons.
func (l *laboratory) keep(dir string) {
	for _, h := range append([]*host{l.a, l.b}, l.relays...) {
		if h.node == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, h.name+".log"), []byte(h.node.output()), 0o644); err != nil {
			l.t.Error(err)
		}
	}
}
