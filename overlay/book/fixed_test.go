package book

import (
	"errors"
	"reflect"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// TestSetFixed crosses everything that people and the configuration can say of a peer: the
// book must then be the one that a start with the new configuration would open, the
// changes what differs, and the Store as before.
func TestSetFixed(t *testing.T) {
	stored := [][]Entry{
		nil,
		{{Address: north, Added: true}},
		{{Address: north, Added: true, Name: "own"}},
		{{Address: north, Added: true, Endpoints: []wire.Endpoint{ep1}}},
		{{Address: north, Added: true, Name: "own", Endpoints: []wire.Endpoint{ep1}, Since: when}},
		{{Address: north, Blocked: true}},
		{{Address: north, Added: true, Blocked: true, Name: "own"}},
		{{Address: northAway, Blocked: true}},
		{{Address: south, Added: true, Name: "conf"}},
	}
	fixed := [][]Entry{
		nil,
		{{Address: north}},
		{{Address: north, Name: "conf"}},
		{{Address: north, Name: "own"}},
		{{Address: north, Endpoints: []wire.Endpoint{ep2}}},
		{{Address: north, Name: "conf", Endpoints: []wire.Endpoint{ep2, ep3}}},
		{{Address: south, Name: "conf"}, {Address: north, Name: "other"}},
		{{Address: south}, {Address: east, Name: "own"}},
	}
	for _, s := range stored {
		for _, before := range fixed {
			for _, after := range fixed {
				checkSetFixed(t, s, before, after)
			}
		}
	}
}

func checkSetFixed(t *testing.T, stored, before, after []Entry) {
	t.Helper()
	m := NewMemory(stored...)
	kept, _ := m.Load()
	b, _, err := Open(self, m, before)
	if err != nil {
		t.Fatal(err)
	}
	was := map[anode.Address]Entry{}
	for _, a := range []anode.Address{north, northAway, south, east} {
		was[a] = b.Get(a)
	}
	changes, report := b.SetFixed(after)

	fresh, freshReport, err := Open(self, m, after)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b.Entries(), fresh.Entries()) || len(report) != len(freshReport) {
		t.Errorf("stored %v, configured %v, then %v:\ngot  %v %v\nwant %v %v", stored, before, after, b.Entries(), report, fresh.Entries(), freshReport)
	}
	for _, name := range []string{"own", "conf", "other"} {
		e, ok := b.ByName(name)
		if f, fok := fresh.ByName(name); ok != fok || !e.equal(f) {
			t.Errorf("stored %v, configured %v, then %v: %q is %v, want %v", stored, before, after, name, e, f)
		}
	}
	changed := map[anode.Address]bool{}
	for _, c := range changes {
		a := c.After.Address
		changed[a] = true
		if c.Nothing() || !c.Before.equal(was[a]) || !c.After.equal(fresh.Get(a)) {
			t.Errorf("stored %v, configured %v, then %v: change %+v", stored, before, after, c)
		}
	}
	for a, e := range was {
		if changed[a] == e.equal(fresh.Get(a)) {
			t.Errorf("stored %v, configured %v, then %v: %s changed: %v", stored, before, after, a, changed[a])
		}
	}
	if now, _ := m.Load(); !reflect.DeepEqual(now, kept) {
		t.Errorf("the Store has %v, want %v", now, kept)
	}
}

// TestSetFixedFields shows which of a peer's facts a configuration can change.
func TestSetFixedFields(t *testing.T) {
	one, two := Entry{Address: north, Name: "one", Endpoints: []wire.Endpoint{ep1}}, Entry{Address: north, Name: "two", Endpoints: []wire.Endpoint{ep2}}
	for _, test := range []struct {
		name   string
		stored Entry
		after  []Entry
		want   Entry
	}{
		{"only configured, changed", Entry{}, []Entry{two}, Entry{Address: north, Name: "two", Endpoints: two.Endpoints, Added: true, Fixed: true}},
		{"only configured, gone", Entry{}, nil, Entry{Address: north}},
		{"added, changed", Entry{Address: north, Added: true}, []Entry{two}, Entry{Address: north, Name: "two", Endpoints: two.Endpoints, Added: true, Fixed: true}},
		{"added, gone", Entry{Address: north, Added: true}, nil, Entry{Address: north, Added: true}},
		{"named by people", Entry{Address: north, Added: true, Name: "mine"}, []Entry{two}, Entry{Address: north, Name: "mine", Endpoints: two.Endpoints, Added: true, Fixed: true}},
		{"endpoints by people", Entry{Address: north, Added: true, Endpoints: []wire.Endpoint{ep3}}, []Entry{two}, Entry{Address: north, Name: "two", Endpoints: []wire.Endpoint{ep3}, Added: true, Fixed: true}},
		{"blocked by people", Entry{Address: north, Blocked: true}, []Entry{two}, Entry{Address: north, Name: "two", Endpoints: two.Endpoints, Added: true, Blocked: true, Fixed: true}},
		{"blocked by people, gone", Entry{Address: north, Blocked: true}, nil, Entry{Address: north, Blocked: true}},
	} {
		m := NewMemory()
		if !test.stored.Address.IsZero() {
			m = NewMemory(test.stored)
		}
		b := open(t, m, one)
		changes, report := b.SetFixed(test.after)
		if got := b.Get(north); !got.equal(test.want) || len(report) > 0 || len(changes) != 1 {
			t.Errorf("%s: got %+v, want %+v; %v, %v", test.name, got, test.want, changes, report)
		}
	}
}

// TestSetFixedReport passes over what breaks a rule, and nothing else.
func TestSetFixedReport(t *testing.T) {
	b := open(t, NewMemory(Entry{Address: north, Added: true, Name: "north"}))
	changes, report := b.SetFixed([]Entry{{Address: self}, {Address: south, Name: "north"}, {Address: east, Name: "east"}})
	if len(report) != 2 || !errors.Is(report[0], ErrSelf) || !errors.Is(report[1], ErrTaken) || len(changes) != 2 {
		t.Errorf("%v, %v", changes, report)
	}
	if got := b.Get(south); !got.Added || got.Name != "" {
		t.Errorf("%+v", got)
	}
	// The name is free when its owner has another one and the configuration is read again.
	if _, err := b.Rename(north, "pole"); err != nil {
		t.Fatal(err)
	}
	changes, report = b.SetFixed([]Entry{{Address: south, Name: "north"}, {Address: east, Name: "east"}})
	if len(report) > 0 || len(changes) != 1 || !changes[0].Renamed() {
		t.Errorf("%v, %v", changes, report)
	}
	// What is on the new shelf can be changed like before.
	if _, err := b.Add(south, "", nil, when); err != nil {
		t.Error(err)
	}
	if _, err := b.Rename(south, "pole"); !errors.Is(err, ErrTaken) {
		t.Error(err)
	}
}
