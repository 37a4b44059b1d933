package book

import (
	"maps"
	"slices"
	"sync"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Store keeps a book from run to run. Its methods may be called from any goroutine and
// may wait for the disk. Package store has one in a file, Memory one in memory.
type Store interface {
	// Load returns everything that Write has kept.
	Load() (Contents, error)
	// Write makes all changes of a batch or none, and returns when they would outlive
	// a loss of power.
	Write(Batch) error
	// Meta returns a value of the node's own, such as its peer ID; nil if there is none.
	Meta(name string) ([]byte, error)
	// PutMeta keeps a value of the node's own.
	PutMeta(name string, value []byte) error
	// Records returns all records of a table.
	Records(t Table) ([]Record, error)
}

// Table names a set of records that others keep beside the entries, such as invitations.
type Table string

// Record is one value of a Table. A Batch writes records together with entries, so that what
// belongs together comes true together.
type Record struct {
	Table Table
	Key   []byte
	Value []byte // nil: the record is deleted
}

// Contents is what a Store has. An entry in a Store is added, blocked or both; Fixed
// is never set, and Blocked means that the block was set under this very address.
type Contents struct {
	Entries  []Entry
	Learned  map[anode.Address][]wire.Endpoint // newest first
	Problems []error                           // records that were skipped; they wrap ErrRecord
}

// Batch is what one Write changes.
type Batch struct {
	Put     []Entry                           // entries to add or replace
	Delete  []anode.Address                   // entries to forget, with what was learned
	Learned map[anode.Address][]wire.Endpoint // to replace; empty ones to forget
	Records []Record                          // to replace or delete
}

// Memory is a Store for one run: for tests, and for users of the library who keep the
// peers elsewhere. The zero value is empty and ready.
type Memory struct {
	mu      sync.Mutex
	entries map[anode.Address]Entry
	learned map[anode.Address][]wire.Endpoint
	meta    map[string][]byte
	records map[Table]map[string][]byte
}

// NewMemory makes a Memory that has entries.
func NewMemory(entries ...Entry) *Memory {
	m := &Memory{}
	m.Write(Batch{Put: entries}) // never fails
	return m
}

// Load returns what the Memory has.
func (m *Memory) Load() (Contents, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Contents{Entries: slices.Collect(maps.Values(m.entries)), Learned: maps.Clone(m.learned)}, nil
}

// Write makes the changes of a batch.
func (m *Memory) Write(b Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries, m.learned = map[anode.Address]Entry{}, map[anode.Address][]wire.Endpoint{}
	}
	for a, es := range b.Learned {
		if len(es) == 0 {
			delete(m.learned, a)
		} else {
			m.learned[a] = slices.Clone(es)
		}
	}
	for _, a := range b.Delete {
		delete(m.entries, a)
		delete(m.learned, a)
	}
	for _, e := range b.Put {
		m.entries[e.Address] = e
	}
	for _, r := range b.Records {
		m.putRecord(r)
	}
	return nil
}

func (m *Memory) putRecord(r Record) {
	if r.Value == nil {
		delete(m.records[r.Table], string(r.Key))
		return
	}
	if m.records == nil {
		m.records = map[Table]map[string][]byte{}
	}
	if m.records[r.Table] == nil {
		m.records[r.Table] = map[string][]byte{}
	}
	m.records[r.Table][string(r.Key)] = slices.Clone(r.Value)
}

// Records returns all records of a table, in the order of their keys.
func (m *Memory) Records(t Table) (list []Record, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(m.records[t])) {
		list = append(list, Record{t, []byte(k), slices.Clone(m.records[t][k])})
	}
	return list, nil
}

// Meta returns a value of the node's own.
func (m *Memory) Meta(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.meta[name]), nil
}

// PutMeta keeps a value of the node's own.
func (m *Memory) PutMeta(name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.meta == nil {
		m.meta = map[string][]byte{}
	}
	m.meta[name] = slices.Clone(value)
	return nil
}
