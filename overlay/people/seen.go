package people

import (
	"encoding/binary"
	"slices"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// The TELLs that were taken of a peer are kept in parts of seenPart IDs, so that each TELL writes one
// small record. A new part takes the place of the oldest; so the last seenLast are always known.
const (
	seenPart  = 64
	seenLast  = 1024
	seenParts = seenLast/seenPart + 1
	seenPeers = 1024 // peers of which they are kept; beyond, the one that has been silent longest is forgotten
)

// ring is the TELLs that were taken of one peer, oldest first: part n is in the record n mod seenParts.
type ring struct {
	first uint32 // the number of the first part
	ids   []wire.TellID
	has   map[wire.TellID]struct{}
	heard uint64 // a count of all peers' TELLs when this one's last came
}

// part is the record of one: number[4], IDs.
func (r *ring) part(n uint32) []byte {
	from := int(n-r.first) * seenPart
	b := binary.BigEndian.AppendUint32(nil, n)
	for _, id := range r.ids[from:min(from+seenPart, len(r.ids))] {
		b = append(b, id[:]...)
	}
	return b
}

// add takes an ID, and returns the number of the part that has it.
func (r *ring) add(id wire.TellID) uint32 {
	r.ids = append(r.ids, id)
	r.has[id] = struct{}{}
	n := r.first + uint32(len(r.ids)-1)/seenPart
	if n-r.first >= seenParts {
		for _, old := range r.ids[:seenPart] {
			delete(r.has, old)
		}
		r.ids = slices.Delete(r.ids, 0, seenPart)
		r.first++
	}
	return n
}

// seen is the rings of added peers.
type seen struct {
	rings map[Key]*ring
	heard uint64 // TELLs that were taken
}

func seenKey(k Key, n uint32) []byte { return append(k[:], byte(n%seenParts)) }

// knows reports whether a TELL was taken before.
func (s *seen) knows(k Key, id wire.TellID) bool {
	r := s.rings[k]
	if r == nil {
		return false
	}
	_, ok := r.has[id]
	return ok
}

// note has a transaction note a TELL that it takes.
func (s *seen) note(x *tx, k Key, id wire.TellID) {
	r := &ring{}
	if old := s.rings[k]; old != nil {
		*r = *old
	}
	n := r.first + uint32(len(r.ids))/seenPart
	b := binary.BigEndian.AppendUint32(nil, n)
	if from := int(n-r.first) * seenPart; from < len(r.ids) {
		b = r.part(n)
	}
	x.edit.Records = append(x.edit.Records, book.Record{Table: tableSeen, Key: seenKey(k, n), Value: append(b, id[:]...)})
	if s.rings[k] == nil && len(s.rings) >= seenPeers {
		s.forget(x, s.silent())
	}
	x.then(func() {
		if s.rings[k] == nil {
			s.rings[k] = &ring{has: map[wire.TellID]struct{}{}}
		}
		s.rings[k].add(id)
		s.heard++
		s.rings[k].heard = s.heard
	})
}

// silent returns the peer with a ring that has been silent longest.
func (s *seen) silent() (k Key) {
	first := true
	for x, r := range s.rings {
		if first || r.heard < s.rings[k].heard {
			k, first = x, false
		}
	}
	return k
}

// forget has a transaction delete the ring of a peer.
func (s *seen) forget(x *tx, k Key) {
	r := s.rings[k]
	if r == nil {
		return
	}
	for n := range uint32(len(r.ids)+seenPart-1) / seenPart {
		x.edit.Records = append(x.edit.Records, book.Record{Table: tableSeen, Key: seenKey(k, r.first+n)})
	}
	x.then(func() { delete(s.rings, k) })
}

// load reads the rings. A part that is damaged is left out.
func (s *seen) load(b Book) (problems []error, err error) {
	s.rings = map[Key]*ring{}
	records, err := b.Records(tableSeen)
	parts := map[Key]map[uint32][]byte{}
	for _, r := range records {
		if len(r.Key) != 33 || len(r.Value) < 4 || len(r.Value) > 4+8*seenPart || len(r.Value)%8 != 4 {
			problems = append(problems, book.ErrRecord)
			continue
		}
		k := Key(r.Key)
		if parts[k] == nil {
			parts[k] = map[uint32][]byte{}
		}
		parts[k][binary.BigEndian.Uint32(r.Value)] = r.Value[4:]
	}
	for k, of := range parts {
		s.rings[k] = ringOf(of)
	}
	return problems, err
}

// ringOf puts the parts of a ring together. Zeros stand for IDs that are missing.
func ringOf(parts map[uint32][]byte) *ring {
	r := &ring{has: map[wire.TellID]struct{}{}}
	var last uint32
	for n := range parts {
		last = max(last, n)
	}
	r.first = last - min(last, seenParts-1)
	for n := r.first; n <= last; n++ {
		for i := range seenPart {
			var id wire.TellID
			if b := parts[n]; 8*i < len(b) {
				copy(id[:], b[8*i:])
				r.has[id] = struct{}{}
			} else if n == last {
				break
			}
			r.ids = append(r.ids, id)
		}
	}
	return r
}
