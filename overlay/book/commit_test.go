package book

import (
	"errors"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
)

// An entry and records are written together or not at all.
func TestCommit(t *testing.T) {
	var m Memory
	full := &refusing{Memory: &m}
	b, _, err := Open(self, full, nil)
	if err != nil {
		t.Fatal(err)
	}
	record := []Record{{"invites", []byte{1}, []byte("used")}}
	full.refuse = true
	if _, err := b.Commit(Edit{Add: &Entry{Address: north, Name: "north"}, Records: record}, when); err == nil || b.Standing(north) != Stranger {
		t.Errorf("%v, %v", err, b.Standing(north))
	}
	full.refuse = false
	c, err := b.Commit(Edit{Add: &Entry{Address: north, Name: "north", Mine: true, Via: []anode.Address{south}}, Records: record}, when)
	if err != nil || !c.New() || !c.After.Mine || !slices.Equal(c.After.Via, []anode.Address{south}) {
		t.Errorf("%+v, %v", c, err)
	}
	if r, err := b.Records("invites"); err != nil || len(r) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	// A rule that is broken keeps the records out too.
	for _, e := range []Edit{{Add: &Entry{Address: east, Name: "north"}}, {Add: &Entry{Address: self}}, {Remove: east}} {
		e.Records = []Record{{"invites", []byte{2}, []byte("x")}}
		if _, err := b.Commit(e, when); err == nil {
			t.Errorf("%+v is taken", e)
		}
	}
	if r, _ := b.Records("invites"); len(r) != 1 {
		t.Errorf("%+v", r)
	}
	if c, err := b.Add(north, "", nil, when); err != nil || !c.After.Mine || len(c.After.Via) != 0 {
		t.Errorf("by hand: %+v, %v", c, err)
	}
	if c, err := b.Commit(Edit{Records: []Record{{"invites", []byte{1}, nil}}}, when); err != nil || !c.Nothing() {
		t.Errorf("%+v, %v", c, err)
	}
}

type refusing struct {
	*Memory
	refuse bool
}

func (r *refusing) Write(b Batch) error {
	if r.refuse {
		return errors.New("full")
	}
	return r.Memory.Write(b)
}

// A removal leaves a tombstone of the key until the peer is added again, for 90 days; a device of ours leaves none.
func TestTombstones(t *testing.T) {
	var m Memory
	b := open(t, &m)
	must := func(_ Change, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Add(north, "", nil, when))
	if b.Removed(north, when) {
		t.Error("before")
	}
	must(b.Remove(north, when))
	for _, a := range []anode.Address{north, northAway, mirrored(north)} {
		if !b.Removed(a, when.Add(RemovedFor-time.Hour)) || b.Removed(a, when.Add(RemovedFor+time.Hour)) {
			t.Errorf("%s", a)
		}
	}
	if b = open(t, &m); !b.Removed(north, when) {
		t.Error("a restart loses it")
	}
	must(b.Add(north, "", nil, when))
	if b.Removed(north, when) || open(t, &m).Removed(north, when) {
		t.Error("it was added again")
	}
	must(b.Commit(Edit{Remove: north}, when))
	if b.Removed(north, when) || b.Standing(north) != Stranger {
		t.Error("of a device of ours")
	}
	full := tombs{}
	for i := range maxRemoved + 10 {
		a := north
		a[20], a[21] = byte(i), byte(i>>8)
		full.apply(full.add(a, when.Add(time.Duration(i)*time.Second)))
	}
	if len(full) != maxRemoved {
		t.Errorf("%d tombstones", len(full))
	}
}
