package book

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"anodenet/anode"
)

// Edit is what Commit changes: at most one entry, and records.
type Edit struct {
	Add     *Entry        // as AddEntry; but Mine and Via become as they are here
	Remove  anode.Address // as Remove, but without a tombstone: people here did not remove it
	Records []Record      // of any table except TableRemoved
}

// Commit makes an Edit in one transaction. So an invitation is used, and its guest is let in, or
// neither. Without an entry, the Change is empty.
func (b *Book) Commit(e Edit, now time.Time) (Change, error) {
	a := e.Remove
	if e.Add != nil {
		a = e.Add.Address
	}
	return b.plan(a, func() (p plan, err error) {
		p.records = slices.Clone(e.Records)
		switch {
		case e.Add != nil:
			if p.entries, err = b.shelf.add(*e.Add, now); err == nil {
				p.entries[0].Mine, p.entries[0].Via = e.Add.Mine, slices.Clone(e.Add.Via[:min(len(e.Add.Via), MaxVia)])
			}
		case e.Remove != anode.Address{}:
			p.entries, err = b.shelf.remove(e.Remove)
		}
		return p, err
	})
}

// Records returns all records of a table.
func (b *Book) Records(t Table) ([]Record, error) { return b.store.Records(t) }

// TableRemoved has a tombstone for each key whose peer people here removed: X coordinate[32] ->
// Unix seconds[8]. While it is there, no device of theirs brings that peer back. To add the
// peer takes it away.
const TableRemoved Table = "removed"

// Bounds of the tombstones.
const (
	RemovedFor = 90 * 24 * time.Hour
	maxRemoved = 4096 // the oldest goes
)

// Removed reports whether people here removed a peer with the key of an address in the last RemovedFor,
// and have not added it since.
func (b *Book) Removed(a anode.Address, now time.Time) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	at, ok := b.shelf.tombs[a.X()]
	return ok && now.Sub(at) < RemovedFor
}

// tombs are the tombstones, by the X coordinate: when each was set.
type tombs map[[32]byte]time.Time

// add returns the records of a new tombstone, which takes the place of the oldest if there are too many.
func (t tombs) add(a anode.Address, now time.Time) (list []Record) {
	x := a.X()
	if _, ok := t[x]; !ok && len(t) >= maxRemoved {
		list = append(list, t.drop(slices.MinFunc(slices.Collect(maps.Keys(t)), func(x, y [32]byte) int { return t[x].Compare(t[y]) })))
	}
	return append(list, Record{TableRemoved, x[:], binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))})
}

// clear returns the record that takes the tombstone of an address away, if there is one.
func (t tombs) clear(a anode.Address) []Record {
	if _, ok := t[a.X()]; !ok {
		return nil
	}
	return []Record{t.drop(a.X())}
}

func (t tombs) drop(x [32]byte) Record { return Record{TableRemoved, x[:], nil} }

// apply takes over what was written.
func (t tombs) apply(records []Record) {
	for _, r := range records {
		if r.Table != TableRemoved || len(r.Key) != 32 {
			continue
		}
		if len(r.Value) == 8 {
			t[[32]byte(r.Key)] = time.Unix(int64(binary.BigEndian.Uint64(r.Value)), 0)
		} else {
			delete(t, [32]byte(r.Key))
		}
	}
}

// loadTombs reads the tombstones, at the start. Those that are too old go when others take their place.
func (b *Book) loadTombs() error {
	records, err := b.store.Records(TableRemoved)
	if err != nil {
		return fmt.Errorf("the peers that were removed: %w", err)
	}
	b.shelf.tombs.apply(records)
	return nil
}
