package book

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

var (
	self, selfElsewhere = newKey()
	north, northAway    = newKey() // one key in two zones
	south, _            = newKey()
	east, _             = newKey()
	when                = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

// newKey makes two addresses of one key.
func newKey() (anode.Address, anode.Address) {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return anode.NewAddress(0, k.PublicKey()), anode.NewAddress(5, k.PublicKey())
}

// mirrored has the same X and the other Y.
func mirrored(a anode.Address) anode.Address {
	a[7] ^= 1
	return a
}

func udp(s string) wire.Endpoint { return wire.UDP(netip.MustParseAddrPort(s)) }

var (
	ep1 = udp("192.0.2.1:8737")
	ep2 = udp("192.0.2.2:8737")
	ep3 = udp("[2001:db8::3]:8737")
)

func open(t *testing.T, s Store, fixed ...Entry) *Book {
	t.Helper()
	b, report, err := Open(self, s, fixed)
	if err != nil || len(report) > 0 {
		t.Fatal(err, report)
	}
	return b
}

// do runs verbs, one a word: add, remove, block, unblock; "away" after a colon means
// the other address of the key.
func do(b *Book, a, away anode.Address, verbs string) error {
	for _, word := range strings.Fields(verbs) {
		verb, where, _ := strings.Cut(word, ":")
		target := a
		if where == "away" {
			target = away
		}
		var err error
		switch verb {
		case "add":
			_, err = b.Add(target, "", nil, when)
		case "remove":
			_, err = b.Remove(target)
		case "block":
			_, err = b.Block(target)
		case "unblock":
			_, err = b.Unblock(target)
		default:
			panic(word)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}

func TestStandings(t *testing.T) {
	for _, c := range []struct {
		verbs      string
		err        error
		want, away Standing
	}{
		{"", nil, Stranger, Stranger},
		{"add", nil, Added, Stranger},
		{"add remove", nil, Stranger, Stranger},
		{"block", nil, Blocked, Blocked},
		{"block unblock", nil, Stranger, Stranger},
		{"block block unblock", nil, Stranger, Stranger},
		{"add block", nil, Blocked, Blocked},
		{"add block unblock", nil, Added, Stranger},
		{"add remove block unblock", nil, Stranger, Stranger},
		{"add block remove", nil, Blocked, Blocked},
		{"add block remove unblock", nil, Stranger, Stranger},
		{"add block:away", nil, Blocked, Blocked},
		{"add block:away unblock", nil, Added, Stranger},
		{"add add:away block", nil, Blocked, Blocked},
		{"add add:away block unblock:away", nil, Added, Added},
		{"add add:away block remove unblock:away", nil, Stranger, Added},
		{"block:away block unblock", nil, Stranger, Stranger},
		{"add unblock", nil, Added, Stranger},

		{"unblock", ErrUnknownPeer, Stranger, Stranger},
		{"remove", ErrUnknownPeer, Stranger, Stranger},
		{"block remove", ErrUnknownPeer, Blocked, Blocked},
		{"block add", ErrBlocked, Blocked, Blocked},
		{"block add:away", ErrBlocked, Blocked, Blocked},
		{"add block add", ErrBlocked, Blocked, Blocked},
	} {
		t.Run(c.verbs, func(t *testing.T) {
			var m Memory
			b := open(t, &m)
			if err := do(b, north, northAway, c.verbs); !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			for _, b := range []*Book{b, open(t, &m)} { // and after a restart
				if s, away := b.Standing(north), b.Standing(northAway); s != c.want || away != c.away {
					t.Errorf("%v and %v, want %v and %v", s, away, c.want, c.away)
				}
				if got := b.Standing(mirrored(north)); (got == Blocked) != (c.want == Blocked) || got == Added {
					t.Errorf("with the other sign: %v", got)
				}
				if got := b.Get(north).Standing(); got != c.want {
					t.Errorf("the entry says %v", got)
				}
				if got := b.Standing(south); got != Stranger {
					t.Errorf("another key: %v", got)
				}
			}
		})
	}
}

// What the Store and the configuration say of one peer.
func TestMerge(t *testing.T) {
	inStore := func(e Entry) *Entry { e.Address = north; return &e }
	for _, c := range []struct {
		name          string
		stored, fixed *Entry
		want          Entry
	}{
		{"stored", inStore(Entry{Added: true, Name: "north", Endpoints: []wire.Endpoint{ep1}, Since: when}), nil,
			Entry{Added: true, Name: "north", Endpoints: []wire.Endpoint{ep1}, Since: when}},
		{"fixed", nil, &Entry{Name: "conf", Endpoints: []wire.Endpoint{ep2}},
			Entry{Added: true, Fixed: true, Name: "conf", Endpoints: []wire.Endpoint{ep2}}},
		{"both, stored has all", inStore(Entry{Added: true, Name: "north", Endpoints: []wire.Endpoint{ep1}}), &Entry{Name: "conf", Endpoints: []wire.Endpoint{ep2}},
			Entry{Added: true, Fixed: true, Name: "north", Endpoints: []wire.Endpoint{ep1}}},
		{"both, stored has a name", inStore(Entry{Added: true, Name: "north"}), &Entry{Name: "conf", Endpoints: []wire.Endpoint{ep2}},
			Entry{Added: true, Fixed: true, Name: "north", Endpoints: []wire.Endpoint{ep2}}},
		{"both, stored has endpoints", inStore(Entry{Added: true, Endpoints: []wire.Endpoint{ep1}}), &Entry{Name: "conf"},
			Entry{Added: true, Fixed: true, Name: "conf", Endpoints: []wire.Endpoint{ep1}}},
		{"block of an added one", inStore(Entry{Added: true, Blocked: true, Name: "north"}), &Entry{},
			Entry{Added: true, Fixed: true, Blocked: true, Name: "north"}},
		{"block alone", inStore(Entry{Blocked: true}), &Entry{Name: "conf"},
			Entry{Added: true, Fixed: true, Blocked: true, Name: "conf"}},
		{"block in the configuration is nobody's", nil, &Entry{Blocked: true},
			Entry{Added: true, Fixed: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Memory
			if c.stored != nil {
				m = *NewMemory(*c.stored)
			}
			before, _ := m.Load()
			var fixed []Entry
			if c.fixed != nil {
				c.fixed.Address = north
				fixed = []Entry{*c.fixed}
			}
			b := open(t, &m, fixed...)
			c.want.Address = north
			if got := b.Get(north); !got.equal(c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if got := b.Entries(); len(got) != 1 || !got[0].equal(c.want) {
				t.Errorf("entries %+v", got)
			}
			if after, _ := m.Load(); !reflect.DeepEqual(before, after) {
				t.Errorf("the configuration was written to the Store: %+v", after)
			}
		})
	}
}

// A peer of the configuration can be blocked for good, and whatever else is changed in
// the configuration, unless it is added here as well.
func TestFixed(t *testing.T) {
	var m Memory
	conf := Entry{Address: north, Name: "conf", Endpoints: []wire.Endpoint{ep1}}
	b := open(t, &m, conf)
	refused := func(what string, err error, say string) {
		t.Helper()
		if !errors.Is(err, ErrFixed) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := b.Rename(north, "x")
	refused("rename", err, "add it here as well")
	_, err = b.Remove(north)
	refused("remove", err, "remove it there")
	_, err = b.SetEndpoints(north, nil)
	refused("endpoints", err, "change it there")

	must := func(c Change, err error) Change {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	must(b.Block(northAway))
	for _, b := range []*Book{b, open(t, &m, conf)} {
		if b.Standing(north) != Blocked {
			t.Error("the configuration let a blocked key in")
		}
	}
	must(b.Unblock(north))
	if c, _ := m.Load(); len(c.Entries) != 0 || b.Standing(north) != Added {
		t.Errorf("after unblock: %+v, %v", c, b.Standing(north))
	}
	if c := must(b.Add(north, "here", nil, when)); c.New() || !c.Renamed() || c.After.Name != "here" {
		t.Errorf("add: %+v", c)
	}
	_, err = b.Rename(north, "")
	refused("unname", err, `"conf"`)
	must(b.SetEndpoints(north, []wire.Endpoint{ep2}))
	_, err = b.RemoveEndpoint(north, ep1)
	refused("remove endpoint", err, "there")
	if c := must(b.RemoveEndpoint(north, ep2)); !slices.Equal(c.After.Endpoints, []wire.Endpoint{ep1}) {
		t.Errorf("endpoints %v", c.After.Endpoints)
	}
	_, err = b.Remove(north)
	refused("remove", err, "remove it there")
	if e := open(t, &m).Get(north); !e.Added || e.Name != "here" {
		t.Errorf("without the configuration: %+v", e)
	}
}

func TestRefused(t *testing.T) {
	crooked := north
	crooked[0] = 9
	offCurve := north
	for i := 9; offCurve == north || CheckAddress(offCurve) == nil; i++ {
		offCurve[8+i%32]++
	}
	verbs := map[string]func(*Book, anode.Address) error{
		"add":     func(b *Book, a anode.Address) error { _, err := b.Add(a, "x", nil, when); return err },
		"remove":  func(b *Book, a anode.Address) error { _, err := b.Remove(a); return err },
		"rename":  func(b *Book, a anode.Address) error { _, err := b.Rename(a, "x"); return err },
		"block":   func(b *Book, a anode.Address) error { _, err := b.Block(a); return err },
		"unblock": func(b *Book, a anode.Address) error { _, err := b.Unblock(a); return err },
		"set":     func(b *Book, a anode.Address) error { _, err := b.SetEndpoints(a, nil); return err },
		"unset":   func(b *Book, a anode.Address) error { _, err := b.RemoveEndpoint(a, ep1); return err },
	}
	for name, verb := range verbs {
		var m Memory
		b := open(t, &m)
		for a, want := range map[anode.Address]error{
			{}: ErrAddress, crooked: ErrAddress, offCurve: ErrAddress,
			self: ErrSelf, selfElsewhere: ErrSelf, mirrored(self): ErrSelf,
		} {
			if err := verb(b, a); !errors.Is(err, want) {
				t.Errorf("%s %s: %v, want %v", name, a, err, want)
			}
		}
		if c, _ := m.Load(); len(c.Entries) > 0 || len(b.Entries()) > 0 {
			t.Errorf("%s left %+v", name, c)
		}
	}

	b := open(t, &Memory{}, Entry{Address: south, Name: "conf"})
	if _, err := b.Add(north, "north", []wire.Endpoint{ep1}, when); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"north", "conf"} { // of the Store and of the configuration
		if _, err := b.Add(east, name, nil, when); !errors.Is(err, ErrTaken) {
			t.Errorf("add as %s: %v", name, err)
		}
	}
	if _, err := b.Rename(north, "conf"); !errors.Is(err, ErrTaken) {
		t.Errorf("rename: %v", err)
	}
	many := make([]wire.Endpoint, MaxEndpoints+1)
	for i := range many {
		many[i] = udp(fmt.Sprintf("192.0.2.1:%d", 1+i))
	}
	for _, es := range [][]wire.Endpoint{
		{wire.TCP(ep1.Addr)}, {{}}, {{Kind: wire.HTTP, URI: "http://x/"}}, {{Kind: wire.UDP4}},
		{udp("192.0.2.1:0")}, {udp("0.0.0.0:1")}, {udp("[::]:1")}, {udp("[ff02::1]:1")}, many,
	} {
		if _, err := b.Add(east, "", es, when); !errors.Is(err, ErrEndpoint) {
			t.Errorf("endpoints %v: %v", es, err)
		}
		if _, err := b.SetEndpoints(north, es); !errors.Is(err, ErrEndpoint) {
			t.Errorf("endpoints %v: %v", es, err)
		}
	}
	if b.Standing(east) != Stranger || !slices.Equal(b.Get(north).Endpoints, []wire.Endpoint{ep1}) {
		t.Error("a refused verb changed the book")
	}
}

func TestAddSays(t *testing.T) {
	b := open(t, &Memory{})
	for i, c := range []struct {
		name                  string
		endpoints             []wire.Endpoint
		isNew, renamed, empty bool
		want                  Entry
	}{
		{"", nil, true, false, false, Entry{}},
		{"", nil, false, false, true, Entry{}},
		{"a", nil, false, true, false, Entry{Name: "a"}},
		{"a", nil, false, false, true, Entry{Name: "a"}},
		{"", []wire.Endpoint{ep1, ep1, ep2}, false, false, false, Entry{Name: "a", Endpoints: []wire.Endpoint{ep1, ep2}}},
		{"", []wire.Endpoint{ep1, ep2}, false, false, true, Entry{Name: "a", Endpoints: []wire.Endpoint{ep1, ep2}}},
		{"b", []wire.Endpoint{ep3}, false, true, false, Entry{Name: "b", Endpoints: []wire.Endpoint{ep3}}},
	} {
		got, err := b.Add(north, c.name, c.endpoints, when.Add(time.Duration(i)*time.Hour))
		if err != nil || got.New() != c.isNew || got.Renamed() != c.renamed || got.Nothing() != c.empty {
			t.Errorf("%d: %+v, %v", i, got, err)
		}
		c.want.Address, c.want.Added, c.want.Since = north, true, when
		if !got.After.equal(c.want) || !b.Get(north).equal(c.want) {
			t.Errorf("%d: %+v", i, got.After)
		}
	}
	if e, ok := b.ByName("b"); !ok || e.Address != north {
		t.Errorf("by name: %+v", e)
	}
	if _, ok := b.ByName("a"); ok {
		t.Error("the old name still means the peer")
	}
	if _, err := b.Remove(north); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(south, "b", nil, when); err != nil {
		t.Errorf("the name of a removed peer: %v", err)
	}
}

func TestReport(t *testing.T) {
	crooked := north
	crooked[0] = 9
	m := NewMemory(
		Entry{Address: anode.Address{}, Blocked: true},
		Entry{Address: selfElsewhere, Added: true},
		Entry{Address: north, Added: true, Name: "north", Endpoints: []wire.Endpoint{wire.TCP(ep1.Addr), ep2}},
	)
	b, report, err := Open(self, m, []Entry{
		{Address: anode.Address{}}, {Address: crooked}, {Address: self},
		{Address: south, Name: "north"}, {Address: east, Name: "East Pole"},
		{Address: northAway, Name: "away", Endpoints: []wire.Endpoint{{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{ErrRecord, ErrSelf, ErrEndpoint, ErrAddress, ErrTaken, ErrName, ErrFixed} {
		if !slices.ContainsFunc(report, func(err error) bool { return errors.Is(err, want) }) {
			t.Errorf("no %v", want)
		}
	}
	if len(report) != 9 {
		t.Errorf("%d reports: %v", len(report), report)
	}
	if e, _ := b.ByName("north"); e.Address != north || !slices.Equal(e.Endpoints, []wire.Endpoint{ep2}) {
		t.Errorf("north is %+v", e)
	}
	if got := len(b.Entries()); got != 4 {
		t.Errorf("%d entries", got)
	}
}

// broken is a Store whose disk is full.
type broken struct{ Memory }

var errDisk = errors.New("no space left on device")

func (*broken) Write(Batch) error { return errDisk }

func TestNotWritten(t *testing.T) {
	s := &broken{*NewMemory(Entry{Address: north, Added: true, Name: "north"}, Entry{Address: south, Blocked: true})}
	b := open(t, s)
	before := b.Entries()
	for _, err := range []error{
		do(b, north, northAway, "block"), do(b, north, northAway, "remove"), do(b, east, east, "add"), do(b, south, south, "unblock"),
	} {
		if !errors.Is(err, errDisk) {
			t.Error(err)
		}
	}
	if after := b.Entries(); !reflect.DeepEqual(before, after) {
		t.Errorf("what was not written is in force: %+v", after)
	}
}

// Whatever people do, the book is after a restart what it was before, names are
// unique, and standing follows the key.
func TestRandomVerbs(t *testing.T) {
	seed := mrand.Uint64()
	t.Logf("seed %d", seed)
	r := mrand.New(mrand.NewPCG(seed, 0))
	addresses := []anode.Address{north, northAway, mirrored(north), south, east}
	fixed := []Entry{{Address: northAway, Name: "f"}, {Address: east}}
	var m Memory
	b := open(t, &m, fixed...)
	for i := range 2000 {
		a := addresses[r.IntN(len(addresses))]
		name := []string{"", "a", "b", "c"}[r.IntN(4)]
		es := [][]wire.Endpoint{nil, {ep1}, {ep1, ep2}}[r.IntN(3)]
		switch r.IntN(8) {
		case 0, 1:
			b.Add(a, name, es, when)
		case 2:
			b.Remove(a)
		case 3:
			b.Rename(a, name)
		case 4:
			b.Block(a)
		case 5:
			b.Unblock(a)
		case 6:
			b.SetEndpoints(a, es)
		case 7:
			b.Learn(a, es)
			b.Flush()
		}
		again := open(t, &m, fixed...)
		if got, want := again.Entries(), b.Entries(); !slices.EqualFunc(got, want, Entry.equal) {
			t.Fatalf("step %d: after a restart\n%+v, before\n%+v", i, got, want)
		}
		names := map[string]int{}
		for _, e := range b.Entries() {
			names[e.Name]++
			if e.Name != "" && names[e.Name] > 1 {
				t.Fatalf("step %d: two are named %s", i, e.Name)
			}
			if found, ok := b.ByName(e.Name); e.Name != "" && (!ok || found.Address != e.Address) {
				t.Fatalf("step %d: %s is not found", i, e.Name)
			}
		}
		if x, y := b.Standing(north) == Blocked, b.Standing(northAway) == Blocked; x != y {
			t.Fatalf("step %d: a key is blocked in part", i)
		}
		for a := range m.learned {
			if !b.shelf.stored[a].Added {
				t.Fatalf("step %d: endpoints outlive their peer", i)
			}
		}
	}
}

func TestStandingText(t *testing.T) {
	for s := Blocked; s <= Added; s++ {
		text, err := s.MarshalText()
		var back Standing
		if err != nil || string(text) != s.String() || back.UnmarshalText(text) != nil || back != s {
			t.Errorf("%d: %s, %v, %v", s, text, err, back)
		}
	}
	var s Standing
	if _, err := Standing(9).MarshalText(); err == nil || s.UnmarshalText([]byte("friend")) == nil {
		t.Error("an unknown standing has a word")
	}
}

func TestParseEndpoint(t *testing.T) {
	if e, err := ParseEndpoint("udp:[2001:db8::3]:8737"); err != nil || e != ep3 {
		t.Error(e, err)
	}
	for _, text := range []string{"", "udp:192.0.2.1", "udp:host:1", "tcp:192.0.2.1:1", "eth:02:00:00:00:00:01", "udp:192.0.2.1:0"} {
		if _, err := ParseEndpoint(text); !errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), "udp:IP:PORT") && !strings.Contains(err.Error(), "port") || strings.Contains(err.Error(), "wire") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"n", "north", "north-2", "a_b", "2nd", strings.Repeat("x", MaxName)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "-n", "_n", "North", "n\u00e9", "a b", "a.b", "a:b", "a\n", "a/b", "0123456789abcdef", strings.Repeat("x", MaxName+1)} {
		if err := CheckName(name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
