// Package book keeps what people decided about peers: who was added, who is blocked,
// what they are named and where they can be found. The rules stand here once, for the
// daemon, the command line without a daemon, and users of the library.
//
// Each fact has one owner:
//
//	added      the Store or the configuration: either is enough
//	blocked    the Store alone, whatever the configuration says; a fact of the key
//	name       the Store, or else the configuration
//	endpoints  the Store, or else the configuration (host names are endpoints too)
//	lan        the Store or the configuration: either is enough, for a peer that was added
//	learned    the engine, for peers that the Store has as added
//
// What the configuration says (a file, a flag, the environment) is never written to
// the Store, and cannot be renamed or removed here. To add such a peer makes it the
// Store's as well. When the configuration is read again, SetFixed replaces what it said.
//
// A block belongs to the key. It holds for every address of the key, and outlives the
// removal of the peer. Block and Unblock never change whether an address is added:
//
//	              Add                Block                  Unblock
//	stranger  ----------> added     stranger -> blocked    blocked, not added -> stranger
//	added     ----------> added     added    -> blocked    blocked, added     -> added
//	blocked   refused     Remove of a blocked peer leaves its key blocked, and no name
//
// A verb checks the rules, writes to the Store, and only then changes what the book
// answers, so a decision that is in force is always on the disk as well. The caller of
// a verb waits for the disk; Get, Standing, Learned, Learn and the other questions
// never do.
package book

import (
	"sort"
	"sync"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Book is the peers that people decided about. Open makes it. Its methods may be
// called from any goroutine.
type Book struct {
	store Store
	wake  chan struct{} // something was learned

	// writes is held while a verb or a flush uses the Store, so that they follow each
	// other. mu guards memory and is never held during a write to the Store. The shelf
	// changes under both; either is enough to read it.
	writes sync.Mutex
	mu     sync.RWMutex
	shelf  shelf

	// guarded by mu
	learned map[anode.Address][]wire.Endpoint
	dirty   map[anode.Address]bool // learned, and not written yet
}

// Report is what Open passed over: records that cannot be read, and parts of the
// configuration that break a rule. None of it keeps a node from starting.
type Report []error

// Open reads the book of the node self from a Store, and adds the entries of the
// configuration, of which Address, Name, Endpoints, Hosts and LAN count. Its error is the Store's.
func Open(self anode.Address, s Store, fixed []Entry) (*Book, Report, error) {
	contents, err := s.Load()
	if err != nil {
		return nil, nil, err
	}
	b := &Book{
		store:   s,
		wake:    make(chan struct{}, 1),
		shelf:   newShelf(self),
		learned: map[anode.Address][]wire.Endpoint{},
		dirty:   map[anode.Address]bool{},
	}
	report := Report(contents.Problems)
	if err := b.loadTombs(); err != nil {
		return nil, nil, err
	}
	for _, e := range contents.Entries {
		report = append(report, b.shelf.load(e)...)
	}
	for _, e := range fixed {
		report = append(report, b.shelf.fix(e)...)
	}
	orphans := map[anode.Address][]wire.Endpoint{}
	for a, es := range contents.Learned {
		if b.shelf.stored[a].Added {
			b.learned[a] = es
		} else {
			orphans[a] = nil
		}
	}
	if len(orphans) > 0 {
		if err := s.Write(Batch{Learned: orphans}); err != nil {
			report = append(report, err) // a full disk; they do no harm
		}
	}
	return b, report, nil
}

// Standing returns the standing of an address, as far as people decided it. It costs
// two look-ups in maps, however many entries there are.
func (b *Book) Standing(a anode.Address) Standing {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.shelf.standing(a)
}

// Get returns what the book says about an address. A stranger's entry has nothing but
// the address.
func (b *Book) Get(a anode.Address) Entry {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.shelf.entry(a)
}

// ByName returns the added peer that has a name.
func (b *Book) ByName(name string) (Entry, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	a, ok := b.shelf.names[name]
	if !ok {
		return Entry{}, false
	}
	return b.shelf.entry(a), true
}

// Entries returns all entries, added or blocked, in the order of their addresses.
func (b *Book) Entries() []Entry {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := make([]Entry, 0, len(b.shelf.stored)+len(b.shelf.fixed))
	for a := range b.shelf.stored {
		list = append(list, b.shelf.entry(a))
	}
	for a := range b.shelf.fixed {
		if _, both := b.shelf.stored[a]; !both {
			list = append(list, b.shelf.entry(a))
		}
	}
	// Records of hundreds of bytes are sorted by sort.Slice: slices.SortFunc copies two for each comparison, and
	// each type has a copy of it in the program.
	sort.Slice(list, func(i, j int) bool { return compare(list[i].Address, list[j].Address) < 0 })
	return list
}
