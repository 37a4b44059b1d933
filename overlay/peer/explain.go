package peer

import "anodenet/overlay/mono"

// RoutedSince returns since when packets to the machine that is spoken to take the way that
// they take now; 0: they have none.
func (ms *machines) RoutedSince() mono.Time {
	m := ms.spoken()
	if m == nil || m.line.Route.Load() == nil {
		return 0
	}
	return m.routed
}
