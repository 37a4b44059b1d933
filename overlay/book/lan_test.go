package book

import (
	"errors"
	"testing"
	"time"
)

// A peer is in the virtual LAN if the Store or the configuration says so, survives a restart and a block in
// it, and leaves it when it is removed.
func TestSetLAN(t *testing.T) {
	var m Memory
	b := open(t, &m, Entry{Address: south, LAN: true}, Entry{Address: east})
	must := func(c Change, err error) Change {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, err := b.SetLAN(north, true); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("a stranger: %v", err)
	}
	must(b.AddEntry(Entry{Address: north, LAN: true}, when))
	must(b.Add(north, "north", nil, when))
	if e := open(t, &m).Get(north); !e.LAN || e.Name != "north" {
		t.Errorf("after a restart: %+v", e)
	}
	if c := must(b.SetLAN(north, true)); !c.Nothing() {
		t.Errorf("set twice: %+v", c)
	}
	if c := must(b.SetLAN(north, false)); c.Nothing() || c.After.LAN || b.Get(north).LAN || open(t, &m).Get(north).LAN {
		t.Errorf("taken out: %+v", c)
	}
	must(b.SetLAN(north, true))
	must(b.Block(north))
	must(b.Unblock(north))
	if !b.Get(north).LAN {
		t.Error("a block ended it")
	}
	must(b.Remove(north, time.Now()))
	must(b.Add(north, "", nil, when))
	if b.Get(north).LAN {
		t.Error("it outlived the peer's removal")
	}

	if !b.Get(south).LAN || b.Get(east).LAN {
		t.Error("what the configuration says does not hold")
	}
	if _, err := b.SetLAN(east, true); !errors.Is(err, ErrFixed) {
		t.Errorf("a peer of the configuration alone: %v", err)
	}
	must(b.Add(south, "", nil, when))
	if _, err := b.SetLAN(south, false); !errors.Is(err, ErrFixed) || !b.Get(south).LAN {
		t.Errorf("against the configuration: %v", err)
	}
	must(b.SetLAN(south, true))
	if changes, _ := b.SetFixed(nil); len(changes) != 2 || !b.Get(south).LAN {
		t.Errorf("without the configuration: %+v", changes)
	}
}
