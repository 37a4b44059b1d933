package overlay

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// ErrStateBusy says that another process, usually the daemon, holds the state.
var ErrStateBusy = errors.New("the state is in use by a running daemon")

// Peer is a peer as the user knows it: what the state database keeps.
type Peer struct {
	Address   anode.Address   `json:"address"`
	Name      string          `json:"name,omitempty"`
	Endpoints []wire.Endpoint `json:"endpoints,omitempty"` // given by the user, tried always
	Blocked   bool            `json:"blocked,omitempty"`
	Added     time.Time       `json:"added"`
}

// Store is the state database, one bbolt file:
//
//	peers      address[40] -> Peer, JSON
//	endpoints  address[40] -> the endpoints last learned, newest first, JSON
//	meta       name -> bytes (own peer ID, ...)
//	logs/NAME  sequence[8] -> value: bounded logs, such as Info2's history
//
// Its methods may be called from any goroutine; those that write wait for the disk.
type Store struct{ db *bolt.DB }

var (
	bucketPeers     = []byte("peers")
	bucketEndpoints = []byte("endpoints")
	bucketMeta      = []byte("meta")
	bucketLogs      = []byte("logs")
)

// OpenStore opens or makes DIR/state.db. It returns ErrStateBusy if another
// process has it.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "state.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 200 * time.Millisecond})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", path, ErrStateBusy)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketPeers, bucketEndpoints, bucketMeta, bucketLogs} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Store{db}, nil
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

// Peers lists all peers in the order of their addresses.
func (s *Store) Peers() (peers []Peer, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketPeers).ForEach(func(k, v []byte) error {
			var p Peer
			if err := json.Unmarshal(v, &p); err != nil {
				return fmt.Errorf("state: peer %x: %w", k, err)
			}
			peers = append(peers, p)
			return nil
		})
	})
	return peers, err
}

// PutPeer adds or replaces a peer.
func (s *Store) PutPeer(p Peer) error { return s.put(bucketPeers, p.Address[:], p) }

// DeletePeer forgets a peer and its endpoints; to delete none is no error.
func (s *Store) DeletePeer(a anode.Address) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketEndpoints).Delete(a[:]); err != nil {
			return err
		}
		return tx.Bucket(bucketPeers).Delete(a[:])
	})
}

// Endpoints gives the endpoints last learned for a peer.
func (s *Store) Endpoints(a anode.Address) (es []wire.Endpoint, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketEndpoints).Get(a[:])
		if v == nil {
			return nil
		}
		return json.Unmarshal(v, &es)
	})
	return es, err
}

// PutEndpoints keeps the endpoints of a peer, newest first.
func (s *Store) PutEndpoints(a anode.Address, es []wire.Endpoint) error {
	return s.put(bucketEndpoints, a[:], es)
}

// Meta gives a value of the node's own, nil if there is none.
func (s *Store) Meta(name string) (value []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		value = append(value, tx.Bucket(bucketMeta).Get([]byte(name))...)
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

// AppendLog adds values to a log in one transaction, and drops its oldest beyond max
// entries. Without values and with a max of 0 it empties the log.
func (s *Store) AppendLog(name string, values [][]byte, max int) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.Bucket(bucketLogs).CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		for _, value := range values {
			seq, err := b.NextSequence()
			if err != nil {
				return err
			}
			if err := b.Put(binary.BigEndian.AppendUint64(nil, seq), value); err != nil {
				return err
			}
		}
		c := b.Cursor()
		for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k)+uint64(max) <= b.Sequence(); k, _ = c.First() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

// TailLog gives the last n values of a log, oldest first.
func (s *Store) TailLog(name string, n int) (values [][]byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketLogs).Bucket([]byte(name))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Last(); k != nil && len(values) < n; k, v = c.Prev() {
			values = append(values, append([]byte(nil), v...))
		}
		return nil
	})
	for i, j := 0, len(values)-1; i < j; i, j = i+1, j-1 {
		values[i], values[j] = values[j], values[i]
	}
	return values, err
}

func (s *Store) put(bucket, key []byte, value any) error {
	v, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key, v) })
}
