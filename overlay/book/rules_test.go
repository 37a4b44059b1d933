package book

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

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
		"unset":   func(b *Book, a anode.Address) error { _, err := b.RemoveEndpoint(a, Place{Endpoint: ep1}); return err },
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
		{{Kind: wire.Ethernet, MAC: [6]byte{2}}}, {{}}, {{Kind: wire.HTTP, URI: "http://x:0/"}}, {{Kind: wire.HTTP}}, {{Kind: wire.TCP4}}, {{Kind: wire.UDP4}},
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
	for _, text := range []string{"", "udp:192.0.2.1", "udp:host:1", "tcp:host:1", "http://", "eth:02:00:00:00:00:01", "udp:192.0.2.1:0"} {
		if _, err := ParseEndpoint(text); !errors.Is(err, ErrEndpoint) || strings.Contains(err.Error(), "wire") {
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
	for _, name := range []string{"", "-n", "_n", "North", "n\u00e9", "a b", "a.b", "a:b", "a\n", "a/b", "0123456789abcdef", "self", "id", strings.Repeat("x", MaxName+1)} {
		if err := CheckName(name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestReservedNames: a peer that has a name from before it was reserved keeps it, with a
// warning that says what to do.
func TestReservedNames(t *testing.T) {
	s := &Memory{}
	if err := s.Write(Batch{Put: []Entry{{Address: north, Name: "self", Added: true, Since: when}, {Address: south, Name: "self", Added: true, Since: when}}}); err != nil {
		t.Fatal(err)
	}
	b, report, err := Open(self, s, nil)
	if err != nil || len(report) != 2 || !errors.Is(report[0], ErrName) || !strings.Contains(report[0].Error(), "; try: anode peers rename ") {
		t.Fatal(err, report)
	}
	if e, ok := b.ByName("self"); !ok || e.Address != north && e.Address != south {
		t.Errorf("the name is gone: %+v", e)
	}
	if a, b := b.Get(north).Name, b.Get(south).Name; a == b {
		t.Errorf("both are called %q", a)
	}
	holder, _ := b.ByName("self")
	if _, err := b.Rename(holder.Address, "id"); !errors.Is(err, ErrName) {
		t.Errorf("a new name is reserved, and was taken: %v", err)
	}
	if _, err := b.Rename(holder.Address, "north"); err != nil {
		t.Error(err)
	}
}
