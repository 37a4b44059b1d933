package link

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A queue is crowded while the oldest of what is in it waits for long, before anything is dropped.
func TestQueuesAreCrowded(t *testing.T) {
	type queue interface {
		crowded() bool
		wrote(n int)
	}
	for name, begin := range map[string]func(m *Mux) (q queue, put func() bool, take func() int){
		"a connection": func(m *Mux) (queue, func() bool, func() int) {
			s := newStream(m, Endpoint{Kind: TCP}, nil, nil)
			return s, func() bool { return s.queue(&packets(Endpoint{}, 1, 1000)[0], false) },
				func() int { b, _ := s.take(); return len(b) }
		},
		"a session by HTTP": func(m *Mux) (queue, func() bool, func() int) {
			o := &outbox{m: m}
			mine := o.claim()
			return o, func() bool { return o.put(&packets(Endpoint{}, 1, 1000)[0], false) },
				func() int { return len(o.take(mine)) }
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := NewMux(MuxConfig{})
			defer m.Close()
			q, put, take := begin(m)
			is := func(when string, crowded bool) {
				t.Helper()
				if !put() {
					t.Fatalf("%s, %s: a packet was dropped", name, when)
				}
				if q.crowded() != crowded {
					t.Errorf("%s, %s: crowded %v", name, when, !crowded)
				}
			}
			is("empty", false)
			time.Sleep(crowdedAfter)
			is("not old yet", false)
			time.Sleep(time.Millisecond)
			is("old", true)
			n := take()
			is("taken", true)
			time.Sleep(time.Millisecond)
			q.wrote(n - 1)
			is("younger", false)
			time.Sleep(crowdedAfter)
			is("old again", true)
			q.wrote(1)
			q.wrote(take())
			if q.crowded() {
				t.Errorf("%s: crowded by nothing", name)
			}
		})
	}
}

// A writer knows the queue that it wrote to last.
func TestWriterKnowsCrowds(t *testing.T) {
	m := NewMux(MuxConfig{})
	defer m.Close()
	ep := Endpoint{Kind: TCP, Conn: 1, Addr: netip.MustParseAddrPort("192.0.2.1:8737")}
	s := newStream(m, ep, nil, nil)
	s.waiting, s.oldest = appendFrames(nil, &packets(ep, 1, 1000)[0]), time.Now().Add(-time.Hour)
	m.mu.Lock()
	m.outlets[ep.Place()] = s
	m.mu.Unlock()
	w := Join(nil, m, false)
	crowd := w.(Crowd)
	if crowd.Crowded(&ep) {
		t.Error("crowded before anything was written")
	}
	if _, err := w.Write(packets(ep, 1, 1000)); err != nil {
		t.Fatal(err)
	}
	other := ep
	other.Conn = 2
	if !crowd.Crowded(&ep) || crowd.Crowded(&other) {
		t.Errorf("crowded: %v, another %v", crowd.Crowded(&ep), crowd.Crowded(&other))
	}
	if n := testing.AllocsPerRun(100, func() { crowd.Crowded(&ep) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
