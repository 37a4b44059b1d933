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
	habitSets   = 1024
	habitWays   = 4
	habitFor    = 8000 // ms
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
// A key has a few slots to choose from, and takes the one that was not used for longest,
// so that a program that sends once a second is known in a scan of 3000 keys a second.
type habits struct {
	seed uint64
	sets [habitSets][habitWays]habit
}

type habit struct {
	tag, count uint16
	last       uint32 // in ms
}

// note counts that a program asks for a key, and returns how often it did lately.
func (h *habits) note(now mono.Time, k Key) int {
	x, ms := k.hash(h.seed), uint32(now.Duration()/time.Millisecond)
	set, tag := &h.sets[x%habitSets], uint16(x>>48)
	oldest := &set[0]
	for i := range set {
		s := &set[i]
		if s.tag == tag && s.count > 0 && ms-s.last <= habitFor {
			s.count, s.last = min(s.count+1, levels), ms
			return int(s.count)
		}
		if ms-s.last > ms-oldest.last {
			oldest = s
		}
	}
	*oldest = habit{tag: tag, count: 1, last: ms}
	return 1
}

// hash mixes a key with a seed that nobody knows, so that nobody can choose its slot.
func (k Key) hash(seed uint64) uint64 {
	for _, w := range [...]uint64{binary.BigEndian.Uint64(k.ULA[:]), binary.BigEndian.Uint64(k.ID[:])} {
		hi, lo := bits.Mul64(seed^w, 0x9e3779b97f4a7c15)
		seed = (hi ^ lo) + 0xd1342543de82ef95
	}
	hi, lo := bits.Mul64(seed, 0xa0761d6478bd642f)
	return hi ^ lo
}
