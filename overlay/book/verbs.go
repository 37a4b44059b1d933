package book

import (
	"fmt"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Add adds a peer, or gives one that was added another name and other endpoints;
// without a name or endpoints it keeps those that it has. It refuses a blocked peer.
func (b *Book) Add(a anode.Address, name string, endpoints []wire.Endpoint, now time.Time) (Change, error) {
	return b.AddEntry(Entry{Address: a, Name: name, Endpoints: endpoints}, now)
}

// AddEntry is Add with host names among the endpoints. Of the entry, Address, Name,
// Endpoints, Hosts and LAN count. If it has endpoints of either kind, they replace both;
// without LAN, it stays as it was in that.
func (b *Book) AddEntry(e Entry, now time.Time) (Change, error) {
	return b.change(e.Address, func() ([]Entry, error) { return b.shelf.add(e, now) })
}

// Remove forgets a peer that was added: its name, its endpoints, and what was learned.
// If it is blocked, its key stays blocked until Unblock. It leaves a tombstone, see Removed.
func (b *Book) Remove(a anode.Address, now time.Time) (Change, error) {
	return b.plan(a, func() (plan, error) {
		entries, err := b.shelf.remove(a)
		return plan{entries, b.shelf.tombs.add(a, now)}, err
	})
}

// Rename gives a peer that was added another name; an empty one takes the name away.
func (b *Book) Rename(a anode.Address, name string) (Change, error) {
	return b.change(a, func() ([]Entry, error) { return b.shelf.rename(a, name) })
}

// SetEndpoints replaces the endpoints of a peer that was added, host names too. With none,
// those of the configuration hold again, if it has some.
func (b *Book) SetEndpoints(a anode.Address, endpoints []wire.Endpoint) (Change, error) {
	return b.change(a, func() ([]Entry, error) { return b.shelf.setEndpoints(a, endpoints, nil) })
}

// RemoveEndpoint takes one endpoint away from a peer that was added.
func (b *Book) RemoveEndpoint(a anode.Address, p Place) (Change, error) {
	return b.change(a, func() ([]Entry, error) { return b.shelf.removeEndpoint(a, p) })
}

// SetLAN puts a peer that was added into our virtual LAN, or takes it out. It cannot take out one
// that the configuration has there. A block ends nothing of it: it holds again after Unblock.
func (b *Book) SetLAN(a anode.Address, on bool) (Change, error) {
	return b.change(a, func() ([]Entry, error) { return b.shelf.setLAN(a, on) })
}

// Block blocks the key of an address, of a peer or a stranger.
func (b *Book) Block(a anode.Address) (Change, error) {
	return b.change(a, func() ([]Entry, error) { return b.shelf.block(a) })
}

// Unblock ends the block of the key of an address, under whichever address it was set.
// Each address of the key is then what it was before: added or a stranger.
func (b *Book) Unblock(a anode.Address) (Change, error) {
	return b.change(a, func() ([]Entry, error) { return b.shelf.unblock(a) })
}

// SetFixed replaces the entries of the configuration, which was read again. It returns what
// became of each peer that the configuration has or had, and what it passed over, as Open
// does. What people added, named or blocked stays as it is, and nothing is written.
func (b *Book) SetFixed(fixed []Entry) ([]Change, Report) {
	b.writes.Lock()
	defer b.writes.Unlock()
	next, problems := b.shelf.refix(fixed)
	changes := b.shelf.changes(&next)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shelf = next
	return changes, Report(problems)
}

// plan is what a verb is about to do.
type plan struct {
	entries []Entry
	records []Record
}

// change is plan for verbs without records.
func (b *Book) change(a anode.Address, entries func() ([]Entry, error)) (Change, error) {
	return b.plan(a, func() (plan, error) {
		list, err := entries()
		return plan{entries: list}, err
	})
}

// plan plans, writes, and then puts on the shelf. A plan reads the shelf and nothing
// else, so writes is lock enough for it.
func (b *Book) plan(a anode.Address, build func() (plan, error)) (Change, error) {
	b.writes.Lock()
	defer b.writes.Unlock()
	before := b.shelf.entry(a)
	p, err := build()
	if err != nil {
		return Change{}, err
	}
	batch, edits := b.batch(p)
	if len(edits)+len(batch.Records) == 0 {
		return Change{before, before}, nil
	}
	if err := b.store.Write(batch); err != nil {
		return Change{}, fmt.Errorf("the state was not written: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range edits {
		b.shelf.put(e)
		if !e.Added {
			delete(b.learned, e.Address)
			delete(b.dirty, e.Address)
		}
	}
	b.shelf.tombs.apply(batch.Records)
	return Change{before, b.shelf.entry(a)}, nil
}

// batch returns what the Store is to write for a plan, and the entries that change.
func (b *Book) batch(p plan) (batch Batch, edits []Entry) {
	batch = Batch{Learned: map[anode.Address][]wire.Endpoint{}, Records: p.records}
	for _, e := range p.entries {
		old, exists := b.shelf.stored[e.Address]
		switch {
		case exists && e.equal(old):
			continue
		case e.Added || e.Blocked:
			batch.Put = append(batch.Put, e)
		default:
			batch.Delete = append(batch.Delete, e.Address)
		}
		if !e.Added {
			batch.Learned[e.Address] = nil
		} else if !old.Added {
			batch.Records = append(batch.Records, b.shelf.tombs.clear(e.Address)...)
		}
		edits = append(edits, e)
	}
	return batch, edits
}
