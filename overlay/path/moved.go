package path

import "anodenet/overlay/mono"

// Moved begins a check of ways now, since our links are other ones: of the confirmed ones, which
// stay in use meanwhile, and with all of every one. A check that is under way begins anew: its
// requests left by the old links, and the next one may be due only in seconds. Hints are checked
// within their budget. except lists the ways that are checked otherwise.
func (s *Set) Moved(now mono.Time, all bool, except func(*Info) bool) {
	for _, i := range s.ways {
		if i.State != Confirmed && !all || except(i) {
			continue
		}
		i.rest = 0
		if asked := i.check.asked; i.check.pending && (len(asked) == 0 || now.Sub(asked[len(asked)-1].sent) < firstRetry) {
			continue // a request is on its way, or about to be
		}
		if i.State == Confirmed || s.pay(now, i.Origin) {
			i.start(now)
		}
	}
}
