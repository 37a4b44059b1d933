// Package store keeps a node's state in DIR/state.db, one bbolt file:
//
//	peers      address[40] -> record (record.go), JSON
//	endpoints  address[40] -> the endpoints last learned, newest first, JSON
//	meta       name -> bytes (own peer ID, ...)
//	logs/NAME  sequence[8] -> value: bounded logs, such as Info2's history
//
// A Store is a book.Store. Methods that write wait for the disk.
package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// ErrStateBusy says that another process, usually the daemon, has the state open.
var ErrStateBusy = errors.New("the state is in use by a running daemon")

// fileName is the database within the state directory.
const fileName = "state.db"

// lockWait is how long Open waits for another process to close the file.
const lockWait = 200 * time.Millisecond

var (
	bucketPeers     = []byte("peers")
	bucketEndpoints = []byte("endpoints")
	bucketMeta      = []byte("meta")
	bucketLogs      = []byte("logs")
)

// Store is an open state database. Its methods may be called from any goroutine.
type Store struct{ db *bolt.DB }

var _ book.Store = (*Store)(nil)

// Open opens or makes DIR/state.db. Its error wraps ErrStateBusy if another process
// has it.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fileName)
	db, err := openFile(path)
	var named *fs.PathError
	if errors.As(err, &named) {
		return nil, err // it names the file
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := db.Update(makeBuckets); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Store{db}, nil
}

// openFile opens or makes the file and locks it.
func openFile(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrStateBusy
	}
	return db, err
}

func makeBuckets(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketPeers, bucketEndpoints, bucketMeta, bucketLogs} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

// Load returns all entries and all endpoints that were learned. It skips records that
// it cannot read and lists them in Problems.
func (s *Store) Load() (c book.Contents, err error) {
	c.Learned = map[anode.Address][]wire.Endpoint{}
	err = s.db.View(func(tx *bolt.Tx) error {
		err := tx.Bucket(bucketPeers).ForEach(func(k, v []byte) error {
			e, problems, err := decodeEntry(k, v)
			for _, p := range append(problems, err) {
				if p != nil {
					c.Problems = append(c.Problems, fmt.Errorf("%w: peer %x: %w", book.ErrRecord, k, p))
				}
			}
			if err != nil {
				return nil
			}
			c.Entries = append(c.Entries, e)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketEndpoints).ForEach(func(k, v []byte) error {
			a, es, err := decodeLearned(k, v)
			if err != nil {
				c.Problems = append(c.Problems, fmt.Errorf("%w: endpoints of %x: %w", book.ErrRecord, k, err))
				return nil
			}
			c.Learned[a] = es
			return nil
		})
	})
	return c, err
}

// Write makes the changes of a batch in one transaction.
func (s *Store) Write(b book.Batch) error {
	return s.db.Update(func(tx *bolt.Tx) error {
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
		return nil
	})
}

func putLearned(b *bolt.Bucket, a anode.Address, es []wire.Endpoint) error {
	if len(es) == 0 {
		return b.Delete(a[:])
	}
	v, err := json.Marshal(es)
	if err != nil {
		return err
	}
	return b.Put(a[:], v)
}

// Meta returns a value of the node's own, nil if there is none.
func (s *Store) Meta(name string) (value []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		value = slices.Clone(tx.Bucket(bucketMeta).Get([]byte(name)))
		return nil
	})
	return value, err
}

// PutMeta keeps a value of the node's own.
func (s *Store) PutMeta(name string, value []byte) error {
	return s.db.Update(func(tx *bolt.Tx) error {
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
	return s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.Bucket(bucketLogs).CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		last := b.Sequence()
		for _, v := range values {
			if last, err = b.NextSequence(); err != nil {
				return err
			}
			if err := b.Put(binary.BigEndian.AppendUint64(nil, last), v); err != nil {
				return err
			}
		}
		c := b.Cursor()
		for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k)+uint64(max) <= last; k, _ = c.First() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

// TailLog returns the last n values of a log, oldest first.
func (s *Store) TailLog(name string, n int) (values [][]byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
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
