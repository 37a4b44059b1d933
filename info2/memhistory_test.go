package info2

import "sync"

// memoryHistory is a History without bounds, in memory.
type memoryHistory struct {
	mu   sync.Mutex
	list []Message
}

func (h *memoryHistory) Append(m Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, m)
	return nil
}

func (h *memoryHistory) Recent(n int) ([]Message, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Message(nil), h.list[max(0, len(h.list)-n):]...), nil
}
