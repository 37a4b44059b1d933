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
			_, err = b.Remove(target, time.Now())
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
	_, err = b.Remove(north, time.Now())
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
	_, err = b.RemoveEndpoint(north, Place{Endpoint: ep1})
	refused("remove endpoint", err, "there")
	if c := must(b.RemoveEndpoint(north, Place{Endpoint: ep2})); !slices.Equal(c.After.Endpoints, []wire.Endpoint{ep1}) {
		t.Errorf("endpoints %v", c.After.Endpoints)
	}
	_, err = b.Remove(north, time.Now())
	refused("remove", err, "remove it there")
	if e := open(t, &m).Get(north); !e.Added || e.Name != "here" {
		t.Errorf("without the configuration: %+v", e)
	}
}

func TestReport(t *testing.T) {
	crooked := north
	crooked[0] = 9
	m := NewMemory(
		Entry{Address: anode.Address{}, Blocked: true},
		Entry{Address: selfElsewhere, Added: true},
		Entry{Address: north, Added: true, Name: "north", Endpoints: []wire.Endpoint{{Kind: wire.Ethernet}, ep2}},
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
			b.Remove(a, time.Now())
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
