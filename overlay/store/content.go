package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// content is what a file holds, as far as it can be read.
type content struct {
	book.Contents
	meta    map[string][]byte
	logs    map[string][][]byte // oldest first
	records []book.Record
}

func newContent() *content {
	return &content{
		Contents: book.Contents{Learned: map[anode.Address][]wire.Endpoint{}},
		meta:     map[string][]byte{},
		logs:     map[string][][]byte{},
	}
}

// take takes a value from a bucket. One with an unknown name is of a later version, or has
// a damaged name; a peer's record is taken from it, since it shows what it is.
func (c *content) take(path [][]byte, key, value []byte) {
	switch {
	case len(path) == 1 && bytes.Equal(path[0], bucketPeers):
		c.takePeer(key, value)
	case len(path) == 1 && bytes.Equal(path[0], bucketEndpoints):
		c.takeLearned(key, value)
	case len(path) == 1 && bytes.Equal(path[0], bucketMeta):
		c.meta[string(key)] = slices.Clone(value)
	case len(path) == 2 && bytes.Equal(path[0], bucketLogs) && len(key) == sequenceSize:
		name := string(path[1])
		c.logs[name] = append(c.logs[name], slices.Clone(value))
	case len(path) == 2 && bytes.Equal(path[0], bucketTables):
		c.records = append(c.records, book.Record{Table: book.Table(path[1]), Key: slices.Clone(key), Value: slices.Clone(value)})
	case len(path) == 1 && bytes.HasPrefix(value, peerMark):
		if e, _, err := decodeEntry(key, value); err == nil {
			c.Entries = append(c.Entries, e)
		}
	}
}

func (c *content) takePeer(key, value []byte) {
	e, problems, err := decodeEntry(key, value)
	for _, p := range append(problems, err) {
		if p != nil {
			c.Problems = append(c.Problems, fmt.Errorf("%w: peer %s: %w", book.ErrRecord, keyText(key), p))
		}
	}
	if err == nil {
		c.Entries = append(c.Entries, e)
	}
}

func (c *content) takeLearned(key, value []byte) {
	a, es, err := decodeLearned(key, value)
	if err != nil {
		c.Problems = append(c.Problems, fmt.Errorf("%w: endpoints of %s: %w", book.ErrRecord, keyText(key), err))
		return
	}
	c.Learned[a] = es
}

// peerMark is how the value of a peer's record begins.
var peerMark = []byte(`{"address":"`)

// takeLost takes the peers that are found in the bytes of lost pages. Each record follows
// its key, which is its address, so no text of others can pass for a record.
func (c *content) takeLost(b []byte) {
	known := make(map[anode.Address]bool, len(c.Entries))
	for _, e := range c.Entries {
		known[e.Address] = true
	}
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], peerMark)
		if i < 0 {
			return
		}
		at += i
		if at < anode.AddressSize {
			continue
		}
		var value json.RawMessage
		if json.NewDecoder(bytes.NewReader(b[at:])).Decode(&value) != nil {
			continue
		}
		e, _, err := decodeEntry(b[at-anode.AddressSize:at], value)
		if err == nil && !known[e.Address] {
			known[e.Address] = true
			c.Entries = append(c.Entries, e)
		}
	}
}

// fill writes everything to a new file.
func (c *content) fill(tx *bolt.Tx) error {
	if err := makeBuckets(tx); err != nil {
		return err
	}
	if err := write(tx, book.Batch{Put: c.Entries, Learned: c.Learned, Records: c.records}); err != nil {
		return err
	}
	for name, value := range c.meta {
		if err := tx.Bucket(bucketMeta).Put([]byte(name), value); err != nil {
			return err
		}
	}
	for name, values := range c.logs {
		if err := appendLog(tx, name, values, len(values)); err != nil {
			return err
		}
	}
	return nil
}
