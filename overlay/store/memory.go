package store

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"anodenet/overlay/book"
)

// Memory keeps for one run what a Store keeps for good. The zero value is empty and ready.
type Memory struct {
	book.Memory
	problems []error // of the file that it was read from

	mu   sync.Mutex
	logs map[string][][]byte // guarded by mu
}

var _ book.Store = (*Memory)(nil)

// Read reads DIR/state.db into memory, and changes nothing on the disk. A directory without
// the file is empty. If the error wraps ErrDamaged, the Memory has what could be read.
func Read(dir string) (*Memory, error) {
	for range openTries {
		f, err := openShared(filepath.Join(dir, fileName))
		if errors.Is(err, errExchanged) {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			return &Memory{}, nil
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		c, damage, err := read(f)
		if err != nil {
			return nil, err
		}
		return c.memory(), damage
	}
	return nil, ErrStateBusy
}

func (c *content) memory() *Memory {
	m := &Memory{problems: c.Problems, logs: c.logs}
	m.Write(book.Batch{Put: c.Entries, Learned: c.Learned, Records: c.records}) // never fails
	for name, value := range c.meta {
		m.PutMeta(name, value) // never fails
	}
	return m
}

// Load returns what the Memory has.
func (m *Memory) Load() (book.Contents, error) {
	c, err := m.Memory.Load()
	c.Problems = slices.Clone(m.problems)
	return c, err
}

// AppendLog adds values to a log, and drops its oldest values beyond max.
func (m *Memory) AppendLog(name string, values [][]byte, max int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.logs == nil {
		m.logs = map[string][][]byte{}
	}
	log := m.logs[name]
	for _, v := range values {
		log = append(log, slices.Clone(v))
	}
	m.logs[name] = slices.Clone(log[len(log)-min(len(log), max):])
	return nil
}

// TailLog returns the last n values of a log, oldest first.
func (m *Memory) TailLog(name string, n int) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	log := m.logs[name]
	return slices.Clone(log[len(log)-min(len(log), n):]), nil
}

// Close has nothing to release.
func (m *Memory) Close() error { return nil }
