package dns

import (
	"sync"

	"anodenet/anode"
	"anodenet/overlay/mono"
)

// strangers remembers the addresses that were asked for, so that nobody has to be asked whose a
// ULA is. Any goroutine may call its methods.
type strangers struct {
	mu   sync.Mutex
	of   map[anode.ULA]int // in ring
	ring [strangersKept]struct {
		address anode.Address
		until   mono.Time
	}
	next int
}

// remember keeps an address for a while. The oldest one goes for it.
func (s *strangers) remember(now mono.Time, a anode.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[anode.ULA]int{}
	}
	u := a.ULA()
	i, ok := s.of[u]
	if !ok {
		i = s.next
		s.next = (i + 1) % strangersKept
		delete(s.of, s.ring[i].address.ULA())
	}
	s.of[u], s.ring[i].address, s.ring[i].until = i, a, now.Add(strangersFor)
}

func (s *strangers) find(now mono.Time, u anode.ULA) (anode.Address, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.of[u]
	if !ok || now >= s.ring[i].until {
		return anode.Address{}, false
	}
	return s.ring[i].address, true
}

// Asked returns the address of a ULA that was asked for by it a short while ago. Any goroutine
// may call it.
func (s *Server) Asked(u anode.ULA) (anode.Address, bool) { return s.asked.find(s.now(), u) }
