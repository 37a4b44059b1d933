// Package store keeps a node's state in DIR/state.db, one bbolt file:
//
//	peers      address[40] -> record (record.go), JSON
//	endpoints  address[40] -> the endpoints last learned, newest first, JSON
//	meta       name -> bytes (own peer ID, ...)
//	logs/NAME  sequence[8] -> value: bounded logs, such as Info2's history
//	tables/NAME  key -> value: records that others keep, such as invitations
//
// A Store is a book.Store. Methods that write wait for the disk.
//
// The file is made as a whole or not at all (package whole), and read completely before
// bbolt gets it (image.go). Open replaces a file that is damaged by a new one with
// everything that can still be read, and keeps the old one (repair.go).
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"anodenet/anode"
	"anodenet/anode/whole"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// ErrStateBusy says that another process, usually the daemon, has the state open.
var ErrStateBusy = errors.New("the state is in use by a running daemon")

// ErrDamaged says that the file, or a part of it, cannot be read.
var ErrDamaged = errors.New("damaged")

// fileName is the database within the state directory.
const fileName = "state.db"

var (
	bucketPeers     = []byte("peers")
	bucketEndpoints = []byte("endpoints")
	bucketMeta      = []byte("meta")
	bucketLogs      = []byte("logs")
	bucketTables    = []byte("tables")

	buckets = [][]byte{bucketPeers, bucketEndpoints, bucketMeta, bucketLogs, bucketTables}
)

// Store is an open state database. Its methods may be called from any goroutine.
type Store struct {
	path   string
	file   *os.File // locked; bbolt closes it
	repair *Repair

	mu     sync.Mutex // held by each transaction: a damaged page may leave bbolt's locks taken
	db     *bolt.DB
	broken error // of the first transaction that met a damaged page; bbolt is not used again
}

var _ book.Store = (*Store)(nil)

// openTries bounds how often the file may be exchanged by others while it is opened.
const openTries = 5

// Open opens DIR/state.db for writing, and makes it if there is none. Its error wraps
// ErrStateBusy if another process has it. The directory must exist.
func Open(dir string) (*Store, error) {
	path := filepath.Join(dir, fileName)
	whole.Sweep(path, time.Now())
	var repair *Repair
	for range openTries {
		f, err := openLocked(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := makeEmpty(path); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, errExchanged):
			continue
		case err != nil:
			return nil, err
		}
		damage, err := check(f)
		if err == nil && damage == nil {
			return newStore(path, f, repair)
		}
		if err == nil {
			repair, err = replace(path, f)
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %w", path, ErrStateBusy)
}

// newStore gives a locked file that was read, and is sound, to bbolt.
func newStore(path string, f *os.File, repair *Repair) (*Store, error) {
	s := &Store{path: path, file: f, repair: repair}
	err := guard(func() (err error) {
		s.db, err = openBolt(path, f)
		return err
	})
	if err == nil {
		err = s.complete()
	}
	if err != nil {
		release(f)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// openBolt lets bbolt use a file that is open.
func openBolt(path string, f *os.File) (*bolt.DB, error) {
	return bolt.Open(path, 0o600, &bolt.Options{
		Timeout:  lockWait,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
	})
}

// Repaired says what Open did because the file was damaged, nil if it was not.
func (s *Store) Repaired() *Repair { return s.repair }

// guard runs a function that uses bbolt's map of the file. What a damaged page, or a disk
// that cannot read one, does to it becomes an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case string: // what bbolt expected of a page
			err = fmt.Errorf("%w: %s", ErrDamaged, p)
		default:
			err = fmt.Errorf("%w: a page cannot be read", ErrDamaged)
		}
	}()
	return f()
}

// run runs a transaction.
func (s *Store) run(transaction func(*bolt.DB) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	err := guard(func() error { return transaction(s.db) })
	if errors.Is(err, ErrDamaged) {
		s.broken = fmt.Errorf("%s: %w; try: stop the daemon and start it again, which repairs the file", s.path, err)
		return s.broken
	}
	return err
}

func (s *Store) view(f func(*bolt.Tx) error) error {
	return s.run(func(db *bolt.DB) error { return db.View(f) })
}

func (s *Store) update(f func(*bolt.Tx) error) error {
	return s.run(func(db *bolt.DB) error { return db.Update(f) })
}

// Close releases the file.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		release(s.file) // bbolt may wait for its own locks for ever
		return nil
	}
	return guard(s.db.Close)
}

// complete makes the buckets that are missing, and writes nothing if there are none: a
// full disk is no reason not to start.
func (s *Store) complete() error {
	missing := false
	err := s.view(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			missing = missing || tx.Bucket(name) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return s.update(makeBuckets)
}

func makeBuckets(tx *bolt.Tx) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// Load returns all entries and all endpoints that were learned. It skips records that
// it cannot read and lists them in Problems.
func (s *Store) Load() (book.Contents, error) {
	c := newContent()
	err := s.view(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketPeers, bucketEndpoints} {
			err := tx.Bucket(name).ForEach(func(k, v []byte) error {
				c.take([][]byte{name}, k, v)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return c.Contents, err
}

// Write makes the changes of a batch in one transaction.
func (s *Store) Write(b book.Batch) error {
	return s.update(func(tx *bolt.Tx) error { return write(tx, b) })
}

func write(tx *bolt.Tx, b book.Batch) error {
	peers, endpoints := tx.Bucket(bucketPeers), tx.Bucket(bucketEndpoints)
	for a, es := range b.Learned {
		if err := putLearned(endpoints, a, es); err != nil {
			return err
		}
	}
	for _, a := range b.Delete {
		if err := errors.Join(peers.Delete(a[:]), endpoints.Delete(a[:])); err != nil {
			return err
		}
	}
	for _, e := range b.Put {
		v, err := encodeEntry(e)
		if err != nil {
			return err
		}
		if err := peers.Put(e.Address[:], v); err != nil {
			return err
		}
	}
	for _, r := range b.Records {
		if err := putRecord(tx.Bucket(bucketTables), r); err != nil {
			return err
		}
	}
	return nil
}

func putRecord(tables *bolt.Bucket, r book.Record) error {
	b, err := tables.CreateBucketIfNotExists([]byte(r.Table))
	switch {
	case err != nil:
		return err
	case r.Value == nil:
		return b.Delete(r.Key)
	}
	return b.Put(r.Key, r.Value)
}

// Records returns all records of a table.
func (s *Store) Records(t book.Table) (list []book.Record, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketTables).Bucket([]byte(t))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			list = append(list, book.Record{Table: t, Key: slices.Clone(k), Value: slices.Clone(v)})
			return nil
		})
	})
	return list, err
}

func putLearned(b *bolt.Bucket, a anode.Address, es []wire.Endpoint) error {
	if len(es) == 0 {
		return b.Delete(a[:])
	}
	v, err := encodeLearned(es)
	if err != nil {
		return err
	}
	return b.Put(a[:], v)
}

// Meta returns a value of the node's own, nil if there is none.
func (s *Store) Meta(name string) (value []byte, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		value = slices.Clone(tx.Bucket(bucketMeta).Get([]byte(name)))
		return nil
	})
	return value, err
}

// PutMeta keeps a value of the node's own.
func (s *Store) PutMeta(name string, value []byte) error {
	return s.update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put([]byte(name), value)
	})
}

// AppendLog adds values to a log in one transaction, and drops its oldest values
// beyond max; with a max of 0 it empties the log.
func (s *Store) AppendLog(name string, values [][]byte, max int) error {
	values = values[len(values)-min(len(values), max):]
	if len(values) == 0 && max > 0 {
		return nil
	}
	return s.update(func(tx *bolt.Tx) error { return appendLog(tx, name, values, max) })
}

func appendLog(tx *bolt.Tx, name string, values [][]byte, max int) error {
	b, err := tx.Bucket(bucketLogs).CreateBucketIfNotExists([]byte(name))
	if err != nil {
		return err
	}
	c := b.Cursor()
	last := b.Sequence()
	if k, _ := c.Last(); len(k) == sequenceSize {
		last = binary.BigEndian.Uint64(k) // the bucket's own may be damaged
	}
	for _, v := range values {
		last++
		if err := b.Put(binary.BigEndian.AppendUint64(nil, last), v); err != nil {
			return err
		}
	}
	if err := b.SetSequence(last); err != nil {
		return err
	}
	for k, _ := c.First(); k != nil && old(k, last, max); k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// sequenceSize is the length of a log's keys.
const sequenceSize = 8

// old reports whether a log that has max values up to the sequence last drops a key.
func old(key []byte, last uint64, max int) bool {
	return len(key) != sequenceSize || last-binary.BigEndian.Uint64(key) >= uint64(max)
}

// TailLog returns the last n values of a log, oldest first.
func (s *Store) TailLog(name string, n int) (values [][]byte, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketLogs).Bucket([]byte(name))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Last(); k != nil && len(values) < n; k, v = c.Prev() {
			values = append(values, slices.Clone(v))
		}
		return nil
	})
	slices.Reverse(values)
	return values, err
}
