package path

import (
	"anodenet/anode"
	"anodenet/overlay/mono"
)

// Retry begins the checks of the ways through a relay anew, since it did not forward what
// was asked so far.
func (s *Set) Retry(now mono.Time, via anode.Address) {
	for _, i := range s.ways {
		if i.Via == via && (i.check.pending || i.State == Failed) {
			i.start(now)
		}
	}
}
