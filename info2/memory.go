package info2

import (
	"hash/maphash"
	"time"
)

// memoryKey is what makes a message the same (memo 2.2.2.1). SEND and LOGOFF do
// not share identifiers, so that neither can silence the other.
type memoryKey struct {
	kind kind
	mid  MID
}

// memory knows the messages of the last ten minutes, at most 4096. The text does
// not count: other programs alter it on the way (a short identifier costs it
// its first letters), and it would come around again.
type memory struct {
	seed  maphash.Seed
	texts map[memoryKey]uint64 // hash of the text that came first
	queue []memoryEntry        // oldest first
}

type memoryEntry struct {
	key memoryKey
	at  time.Time
}

func newMemory() memory {
	return memory{seed: maphash.MakeSeed(), texts: make(map[memoryKey]uint64)}
}

// recall reports whether the message is known, and whether it had another text.
func (m *memory) recall(now time.Time, key memoryKey, text string) (known, other bool) {
	m.expire(now)
	hash, known := m.texts[key]
	return known, known && hash != maphash.String(m.seed, text)
}

// add remembers a message that recall does not know.
func (m *memory) add(now time.Time, key memoryKey, text string) {
	if len(m.queue) >= rememberMax {
		m.forget(1)
	}
	m.texts[key] = maphash.String(m.seed, text)
	m.queue = append(m.queue, memoryEntry{key, now})
}

func (m *memory) expire(now time.Time) {
	n := 0
	for n < len(m.queue) && now.Sub(m.queue[n].at) >= rememberFor {
		n++
	}
	m.forget(n)
}

func (m *memory) forget(n int) {
	for _, e := range m.queue[:n] {
		delete(m.texts, e.key)
	}
	m.queue = m.queue[n:]
}
