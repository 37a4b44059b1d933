package main_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"anodenet/overlay"
)

// TestNetBlock: two hosts reach each other where the network lets little through: by UDP where
// it works, else by TCP, else by HTTP. What the applications do goes on whatever the network
// lets through next.
func TestNetBlock(t *testing.T) {
	all := os.Getenv(natReport) != ""
	if all {
		addLine(t, blockHead)
	}
	n, err := strconv.Atoi(cmp.Or(os.Getenv(natPlaces), "2"))
	if err != nil || n < 1 {
		t.Fatalf("%s is %q", natPlaces, os.Getenv(natPlaces))
	}
	places := make(chan struct{}, n)
	if !all {
		places = make(chan struct{}, len(blockages)) // few run then, and mostly wait
	}
	for _, row := range blockages {
		if !all && !row.always {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			places <- struct{}{}
			defer func() { <-places }()
			m := crossing{row: row, strict: all, patient: all && os.Getenv(natQuick) == ""}
			defer m.report(t)
			l := m.build(t)
			if dir := os.Getenv(natKeep); dir != "" {
				l.keepLater(filepath.Join(dir, row.name))
			}
			m.connect(l)
			m.explained(l)
			m.load(l)
			m.judge()
		})
	}
}

// crossing is what a row showed.
type crossing struct {
	row     blockage
	strict  bool // it is judged by all limits, as its own script runs it
	patient bool // changes happen late
	got     way
	kind    string
	first   time.Duration // from the start of a to the first reply of b; 0: there was none
	second  time.Duration // the same at its second start
	pause   time.Duration // the longest in which nothing of an application arrived
	took    []time.Duration
	why     string
	faults  []string
}

func (m *crossing) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// build makes the laboratory, with the relay and b running, and a not yet.
func (m *crossing) build(t *testing.T) *laboratory {
	l := newLaboratory(t)
	l.a, l.b = newMachine(t, "a"), newMachine(t, "b")
	if m.row.cable {
		l.a.ip(fmt.Sprintf("link add eth1 type veth peer name eth1 netns %d", l.b.tid))
		onlyIPv4(l.a, l.b)
		for _, h := range []*host{l.a, l.b} {
			h.ip("link set eth1 up")
			h.identify()
		}
	} else {
		r := newMachine(t, "r")
		l.relays = []*host{r}
		l.put(l.a, m.row.a, 1, nil)
		l.put(l.b, m.row.b, 2, nil)
		l.put(r, centre, firstRelay, nil)
		l.rules()
		m.startRelay(l, r)
		for _, h := range []*host{l.a, l.b} {
			h.identify()
			h.run(h.bin, "zone", "join", zoneIP, "--state", h.state())
			h.identify()
		}
	}
	l.a.add(l.b)
	l.b.add(l.a)
	m.launch(l, l.b)
	l.b.ready()
	if !m.row.cable {
		within(t, blockedWait, "b to be registered with the relay", func() bool { return l.registered(l.b) })
	}
	return l
}

// startRelay starts the relay, whose zone file is served from then on.
func (m *crossing) startRelay(l *laboratory, r *host) {
	var behindNginx []string
	served := zoneIP + ":80"
	if m.row.nginx {
		served = "127.0.0.1:8780"
		behindNginx = []string{"--set", "zone.serve=" + served}
	}
	r.upIn(nil, append([]string{"--relay", "--zone", zoneIP}, behindNginx...)...)
	r.ready()
	within(l.t, dialWait, "the zone file to be served", func() bool { return r.zoneFile().Served == served })
	if m.row.nginx {
		r.serveNginx(served)
	}
}

// launch starts the daemon of a or b.
func (m *crossing) launch(l *laboratory, h *host) {
	if m.row.cable {
		h.upIn(nil, m.row.flags...)
		return
	}
	env, flags := l.innermost(h).settings(h)
	h.upIn(env, append(append(flags, "--zone", zoneIP), m.row.flags...)...)
}

// upIn runs "anode up" with an environment.
func (h *host) upIn(env []string, flags ...string) {
	h.t.Helper()
	args := append([]string{"env"}, env...)
	args = append(args, h.bin, "up", "--state", h.state(), "--socket", h.socket())
	h.node = h.start(append(append(args, debugging...), flags...)...)
}

// keepLater keeps what crosses the internet from now on, and what daemons and boxes said.
func (l *laboratory) keepLater(dir string) {
	l.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.internet.record(l.t, filepath.Join(dir, "internet.pcap"))
	l.t.Cleanup(func() { l.keep(dir) })
}

// registered reports whether a host is registered with a relay of its zone.
func (l *laboratory) registered(h *host) bool {
	for _, z := range h.status().Zones {
		for _, r := range z.Relays {
			if r.Own && r.State == overlay.RelayRegistered {
				return true
			}
		}
	}
	return false
}

// kindOf is the transport of an endpoint, as it is written.
func kindOf(endpoint string) string {
	kind, _, _ := strings.Cut(endpoint, ":")
	return strings.TrimSuffix(kind, "s") // of https
}

// connect starts a, twice, and measures the times until b answers.
func (m *crossing) connect(l *laboratory) {
	limit := blockedWait
	if m.row.want == none {
		limit = hopelessWait
	}
	for i, took := range []*time.Duration{&m.first, &m.second} {
		if i > 0 {
			if m.first == 0 {
				break
			}
			l.settle(m.row.want, m.row.kind)
			l.a.down(syscall.SIGTERM)
			if c := l.clients[l.a]; c != nil {
				c.Close()
				delete(l.clients, l.a)
			}
		}
		start := time.Now()
		m.launch(l, l.a)
		for *took == 0 && time.Since(start) < limit {
			if l.a.pings(l.b) {
				*took = time.Since(start)
			}
		}
	}
	m.got, m.kind = none, ""
	if m.first == 0 {
		return
	}
	l.settle(m.row.want, m.row.kind)
	m.got, m.kind = l.way(l.a, l.b), l.transport(l.a, l.b)
}

// settle waits until the path from a to b is one of a kind for a while, pinging. It gives up
// in the end.
func (l *laboratory) settle(want way, kind string) {
	p := l.a.pinging(l.b, 100*time.Millisecond, 100)
	defer p.stop()
	l.changes(want, kind, backToUDP)
}

// changes waits until the paths of a and b are what is wanted, and stay so for a while. It returns
// the time until then, which is the limit at most.
func (l *laboratory) changes(want way, kind string, limit time.Duration) (took time.Duration) {
	start := time.Now()
	for now := start; now.Sub(start) < limit+steadyFor; now = time.Now() {
		if l.way(l.a, l.b) != want || l.transport(l.a, l.b) != kind || l.way(l.b, l.a) != want {
			took = now.Sub(start) + 20*time.Millisecond
		}
		if now.Sub(start) > took+steadyFor {
			return took
		}
		time.Sleep(20 * time.Millisecond)
	}
	return limit + steadyFor
}

// load has data flow both ways, and changes the network under it.
func (m *crossing) load(l *laboratory) {
	const pace = 300_000 // bytes a second
	var streams []*stream
	begun := time.Now()
	if m.first > 0 {
		streams = []*stream{streaming(l.t, l.a, l.b, false, pace), streaming(l.t, l.a, l.b, true, pace)}
		time.Sleep(1500 * time.Millisecond)
	}
	for _, c := range m.row.changes {
		after := c.quick
		if m.patient {
			after = c.slow
		}
		time.Sleep(after)
		c.do(l)
		if len(streams) == 0 { // only packets that programs want to send make the node try again
			p := l.a.pinging(l.b, 100*time.Millisecond, 100)
			defer p.stop()
		}
		limit := c.within
		if !m.strict {
			limit *= 2
		}
		took := l.changes(c.want, c.kind, 2*limit)
		m.took = append(m.took, took)
		if took > limit {
			m.fault("%s: not %s %s within %v, but %s %s", c.name, c.want, c.kind, limit, l.way(l.a, l.b), l.transport(l.a, l.b))
		}
	}
	for _, s := range streams {
		pause, err := s.pause(begun.Add(500 * time.Millisecond))
		m.pause = max(m.pause, pause)
		if err != nil {
			m.fault("%s: %v", s.name, err)
		}
		s.stop()
	}
}

// explained checks what status and why of a say about the path.
func (m *crossing) explained(l *laboratory) {
	out, _ := l.a.tryAnode("why", l.b.name)
	first, _, _ := strings.Cut(out, "\n")
	m.why = first
	code, text := l.reason()
	if want := cmp.Or(strings.Join(m.row.reasons, " "), "nothing"); !slices.Contains(m.row.reasons, string(code)) && !slices.Contains(m.row.reasons, "") && !(len(m.row.reasons) == 0 && code == "") {
		m.fault("why says %q, want %s: %s", code, want, inLine(text))
	}
	if m.first == 0 || m.kind == "" || m.kind == byUDP {
		return
	}
	for _, verb := range [][]string{{"status"}, {"why", l.b.name}} {
		out, _ := l.a.tryAnode(verb...)
		if !strings.Contains(strings.ToLower(out), m.kind) {
			m.fault("%s does not name %s: %s", verb[0], m.kind, inLine(out))
		}
	}
}

// judge compares what was measured with what must be.
func (m *crossing) judge() {
	slack := time.Duration(1)
	if !m.strict {
		slack = 3
	}
	if m.got != m.row.want || m.kind != m.row.kind {
		m.fault("got %s %s", m.got, m.kind)
	}
	if m.first > slack*firstTime {
		m.fault("first reply after %v", m.first.Round(time.Millisecond))
	}
	if m.second > slack*secondTime || m.first > 0 && m.second == 0 {
		m.fault("reply after %v at the second start", m.second.Round(time.Millisecond))
	}
	if m.pause > slack*cmp.Or(m.row.pause, maxPause) {
		m.fault("a pause of %v", m.pause.Round(time.Millisecond))
	}
}

const blockLine = "%-26s %-12s %-12s %7s %7s %7s %14s  %-6s %s\n"

// blockHead is the head of the lines that report writes.
var blockHead = fmt.Sprintf(blockLine, "topology", "wanted", "got", "first", "second", "pause", "changed", "", "what a says")

// report adds the row to the report, if one is wanted, and fails the test if it must.
func (m *crossing) report(t *testing.T) {
	verdict := "ok"
	if len(m.faults) > 0 || m.got == "" {
		verdict = "FAIL"
	}
	var took []string
	for _, d := range m.took {
		took = append(took, fmt.Sprint(d.Milliseconds()))
	}
	line := fmt.Sprintf(blockLine, m.row.name, string(m.row.want)+" "+m.row.kind, string(m.got)+" "+m.kind, inMillis(m.first), inMillis(m.second),
		inMillis(m.pause), cmp.Or(strings.Join(took, "+"), "-"), verdict, strings.Join(append(m.faults, m.why), "; "))
	t.Log("\n" + blockHead + line)
	if verdict != "ok" {
		t.Fail()
	}
	if os.Getenv(natReport) != "" {
		addLine(t, line)
	}
}
