package lookup

import (
	"encoding/binary"
	"math/bits"
	"time"

	"anodenet/overlay/mono"
)

// Sizes and times of the two memories. At most four questions are asked a second, so at
// most 40 keys are remembered as nobody's at a time.
const (
	nobodySlots = 512
	nobodyFor   = 10 * time.Second
	habitSlots  = 2048
	habitFor    = 8 * time.Second
)

// nobody is the keys that nobody knew a moment ago, in a table of fixed size. Of two keys
// in one slot, the newer is remembered.
type nobody struct {
	seed  uint64
	slots [nobodySlots]struct {
		key   Key
		until mono.Time
	}
}

func (n *nobody) has(now mono.Time, k Key) bool {
	s := &n.slots[k.hash(n.seed)%nobodySlots]
	return s.key == k && now < s.until
}

func (n *nobody) remember(now mono.Time, k Key) {
	s := &n.slots[k.hash(n.seed)%nobodySlots]
	s.key, s.until = k, now.Add(nobodyFor)
}

func (n *nobody) clear(k Key) {
	if s := &n.slots[k.hash(n.seed)%nobodySlots]; s.key == k {
		s.until = 0
	}
}

// habits is how often programs asked for a key lately, in a table of fixed size. It
// outlives the lookup: a scan displaces a lookup before its program can send again.
type habits struct {
	seed  uint64
	slots [habitSlots]habit
}

type habit struct {
	tag   uint32
	count uint32
	last  mono.Time
}

// note counts that a program asks for a key, and returns how often it did lately. Of two
// keys in one slot, one that was asked for again stays.
func (h *habits) note(now mono.Time, k Key) int {
	x := k.hash(h.seed)
	s, tag := &h.slots[x%habitSlots], uint32(x>>32)
	old := now.Sub(s.last) > habitFor
	switch {
	case s.tag == tag && !old:
		s.count = min(s.count+1, levels)
	case old || s.count < 2:
		*s = habit{tag: tag, count: 1}
	default:
		return 1
	}
	s.last = now
	return int(s.count)
}

// hash mixes a key with a seed that nobody knows, so that nobody can choose its slot.
func (k Key) hash(seed uint64) uint64 {
	for _, w := range [...]uint64{binary.BigEndian.Uint64(k.ULA[:]), binary.BigEndian.Uint64(k.ID[:])} {
		hi, lo := bits.Mul64(seed^w, 0x9e3779b97f4a7c15)
		seed = hi ^ lo
	}
	return seed
}
