package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
	"anodenet/overlay/mono"
)

func texts(entries []control.Entry) string {
	var list []string
	for _, e := range entries {
		list = append(list, e.Text)
	}
	return strings.Join(list, ",")
}

func TestHistory(t *testing.T) {
	store := newStore(t)
	h := newHistory(store, quietLog())
	north := netip.MustParseAddr("fd00::1")
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	for _, m := range []info2.Message{
		{Text: "one", From: north, Name: "north", Time: at(1)}, {Text: "two", Own: true, Time: at(3)}, {Text: "bridged", Bridged: true},
	} {
		if err := (recorder{h, control.NetworkAdapter}).Append(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := (recorder{h, control.NetworkBare}).Append(info2.Message{Text: "three", Time: at(2)}); err != nil {
		t.Fatal(err)
	}
	if err := store.AppendLog(logName(control.NetworkAdapter), [][]byte{[]byte("of another version")}, historyMax); err != nil {
		t.Fatal(err)
	}
	// The same before it is written, and after.
	for range 2 {
		past, _, _, err := h.read(10, false)
		if err != nil || texts(past) != "one,three,two" {
			t.Errorf("%s, %v", texts(past), err)
		}
		if e := past[0]; e.From != north || e.Name != "north" || e.Own || e.Network != control.NetworkAdapter || !past[2].Own {
			t.Errorf("%+v", past)
		}
		own, err := recorder{h, control.NetworkAdapter}.Recent(1)
		if err != nil || len(own) != 1 || own[0].Text != "two" || !own[0].Own {
			t.Errorf("%+v, %v", own, err)
		}
		if !h.commit() {
			t.Error("not written")
		}
	}
}

// slowStore counts commits, and can fail.
type slowStore struct {
	Store
	mu      sync.Mutex
	commits int
	bytes   int
	err     error
}

func (s *slowStore) AppendLog(name string, values [][]byte, max int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits++
	for _, v := range values {
		s.bytes += len(v)
	}
	if s.err != nil {
		return s.err
	}
	return s.Store.AppendLog(name, values, max)
}

func (s *slowStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *slowStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// lines is a log that counts its lines.
type lines struct {
	mu   sync.Mutex
	text string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += string(b)
	return len(b), nil
}

// TestCommits: a text a millisecond for ten seconds is some ten commits, the rest is
// written at the end, and a disk that fails is said once, however much is said.
func TestCommits(t *testing.T) {
	store := &slowStore{Store: newStore(t)}
	synctest.Test(t, func(t *testing.T) {
		out := &lines{}
		h := newHistory(store, slog.New(slog.NewTextHandler(out, nil)))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { h.run(ctx); close(done) }()
		n := 0
		talk := func(d time.Duration) {
			for range d / (10 * time.Millisecond) {
				h.append(control.Entry{Network: control.NetworkAdapter, Text: fmt.Sprint(n)})
				n++
				time.Sleep(10 * time.Millisecond)
			}
		}
		talk(10 * time.Second)
		if c := store.count(); c < 9 || c > 11 {
			t.Errorf("%d commits in ten seconds", c)
		}
		before := store.count()
		store.fail(errors.New("the disk is full"))
		talk(time.Minute)
		if c := store.count() - before; c > 7 {
			t.Errorf("%d commits were tried in a minute of failures", c)
		}
		if lost := h.journals[0].lost; lost < 5000 || len(h.journals[0].waiting) != waitingMax {
			t.Errorf("%d lost, %d wait", lost, len(h.journals[0].waiting))
		}
		store.fail(nil)
		time.Sleep(retryEvery)
		talk(100 * time.Millisecond)
		stop()
		<-done
		past, _, _, err := h.read(1, false)
		if err != nil || texts(past) != fmt.Sprint(n-1) || len(h.journals[0].waiting) != 0 {
			t.Errorf("%s, %v, %d wait after the end", texts(past), err, len(h.journals[0].waiting))
		}
		if strings.Count(out.text, "level=WARN") != 1 || strings.Count(out.text, "can be written again") != 1 {
			t.Errorf("the log is\n%s", out.text)
		}
	})
}

// TestStrangers: whatever strangers say, and however many they are, what friends said
// stays, in the log, in what is read of it, and for those who follow; and strangers'
// texts cost the disk a bounded number of bytes.
func TestStrangers(t *testing.T) {
	store := &slowStore{Store: newStore(t)}
	h := newHistory(store, quietLog())
	now := mono.At(0)
	h.clock = func() mono.Time { return now }
	start := time.Unix(1000, 0).UTC()
	say := func(network control.Network, own bool, text string) {
		e := control.Entry{Time: start.Add(now.Duration()), Network: network, Own: own, Text: text}
		h.append(e)
	}
	_, next, stop, err := h.read(0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	say(control.NetworkAdapter, false, "from a friend")
	const hours = 3
	for i := range hours * 3600 {
		for range 20 {
			say(control.NetworkBare, false, "rubbish")
		}
		now = now.Add(time.Second)
		if i%60 == 0 {
			h.commit()
		}
	}
	say(control.NetworkBare, true, "mine")
	now = now.Add(time.Second)
	say(control.NetworkAdapter, false, "and again")
	h.commit()

	for _, n := range []int{historyMax, 10, 4} {
		past, _, _, err := h.read(n, false)
		if err != nil || len(past) != n {
			t.Fatalf("%d of %d, %v", len(past), n, err)
		}
		if past[0].Text != "from a friend" || past[n-1].Text != "and again" || past[n-2].Text != "mine" {
			t.Errorf("of the last %d: %q ... %q, %q", n, past[0].Text, past[n-2].Text, past[n-1].Text)
		}
	}
	if limit := 120 * (hours*3600 + 200); store.bytes > limit {
		t.Errorf("%d bytes were written, more than %d", store.bytes, limit)
	}
	counters := map[string]uint64{}
	if h.count(control.NetworkBare, counters); counters["history_over_budget"] == 0 {
		t.Error("what was not kept is not counted")
	}
	heard := map[string]int{}
	for len(next) > 0 {
		heard[(<-next).Text]++
	}
	if heard["from a friend"] != 1 || heard["and again"] != 1 || heard["mine"] != 1 || heard["rubbish"] >= followerMax {
		t.Errorf("a follower heard %v", heard)
	}
}

// TestDivide reads the log of an earlier version, which both networks had in common.
func TestDivide(t *testing.T) {
	store := newStore(t)
	old := func(texts ...string) {
		for i, text := range texts {
			e := control.Entry{Time: time.Unix(int64(i), 0).UTC(), Network: control.NetworkAdapter, Text: text}
			if strings.HasPrefix(text, "bare") {
				e.Network = control.NetworkBare
			}
			value, err := json.Marshal(e)
			if err == nil {
				err = store.AppendLog(commonLog, [][]byte{value}, historyMax)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(adapter, bare string) {
		t.Helper()
		h := newHistory(store, quietLog())
		for network, want := range map[control.Network]string{control.NetworkAdapter: adapter, control.NetworkBare: bare} {
			list, err := tail(h.store, h.log, network, historyMax)
			if err != nil || texts(list) != want {
				t.Errorf("%s: %s, %v", network, texts(list), err)
			}
		}
		if left, err := store.TailLog(commonLog, 10); err != nil || len(left) != 0 {
			t.Errorf("%d entries are left, %v", len(left), err)
		}
	}
	check("", "")
	old("a", "bare b", "c")
	if err := store.AppendLog(commonLog, [][]byte{[]byte("of another version")}, historyMax); err != nil {
		t.Fatal(err)
	}
	check("a,c", "bare b")
	old("a", "bare b", "c") // interrupted before it was emptied
	check("a,c", "bare b")
	old("d", "bare e") // an earlier version has run in between
	check("a,c,d", "bare b,bare e")
}

func TestShare(t *testing.T) {
	list := func(network control.Network, times ...int64) (l []control.Entry) {
		for _, at := range times {
			l = append(l, control.Entry{Network: network, Time: time.Unix(at, 0), Text: fmt.Sprint(at)})
		}
		return l
	}
	a, b := list(control.NetworkAdapter, 1, 3, 5, 4), list(control.NetworkBare, 2, 6, 7, 8, 9)
	for _, c := range []struct {
		a, b []control.Entry
		n    int
		want string
	}{
		{a, b, 100, "1,2,3,5,4,6,7,8,9"},
		{a, b, 0, ""},
		{a, b, 1, "9"},
		{a, b, 2, "4,9"},
		{a, b, 4, "5,4,8,9"},
		{a, b, 5, "5,4,7,8,9"},
		{b, a, 4, "5,4,8,9"},
		{nil, b, 2, "8,9"},
		{a, nil, 2, "5,4"},
		{a[:1], b, 4, "1,7,8,9"},
		{b, a[:1], 4, "1,7,8,9"},
		{nil, nil, 3, ""},
	} {
		if got := texts(share(c.a, c.b, c.n)); got != c.want {
			t.Errorf("the last %d of %s and %s: %s, want %s", c.n, texts(c.a), texts(c.b), got, c.want)
		}
	}
}

// TestFollowers: past and present meet without a gap, who does not read loses and is
// told how much, and the end is told too.
func TestFollowers(t *testing.T) {
	h := newHistory(newStore(t), quietLog())
	say := func(text string) {
		h.append(control.Entry{Text: text})
	}
	say("before")
	past, next, stop, err := h.read(10, true)
	if err != nil || texts(past) != "before" {
		t.Fatalf("%s, %v", texts(past), err)
	}
	defer stop()
	_, gone, leave, err := h.read(0, true)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	for i := range followerMax + 3 {
		say(fmt.Sprint(i))
	}
	if len(gone) != 0 {
		t.Error("one who has left still gets texts")
	}
	for i := range followerMax {
		if e := <-next; e.Text != fmt.Sprint(i) || e.Lost != 0 {
			t.Fatalf("%d: %+v", i, e)
		}
	}
	say("after")
	if e := <-next; e.Text != "after" || e.Lost != 3 {
		t.Errorf("%+v", e)
	}
	h.close()
	if e, ok := <-next; ok {
		t.Errorf("%+v", e)
	}
	if _, next, _, err = h.read(0, true); err != nil {
		t.Error(err)
	}
	if _, ok := <-next; ok {
		t.Error("after the end nothing comes")
	}
}
