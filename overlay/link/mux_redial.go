package link

import "time"

const (
	// An endpoint that did not work is dialled again after a time that doubles.
	redialFirst = time.Second
	redialLast  = 30 * time.Second
	maxRedials  = 1024
	// All together are dialled this often, since others name endpoints.
	dialsPerSecond = 10
	dialsAtOnce    = 64
	// maxDialled is how many connections may be open or opening that we began.
	maxDialled = 1024
)

// redials decides when an endpoint may be dialled. The Mux's mu guards it.
type redials struct {
	failed map[Endpoint]redial
	open   int       // connections that we began
	spent  float64   // of dialsAtOnce
	at     time.Time // when spent was right
}

type redial struct {
	failures int
	next     time.Time
}

// mayDial reports whether an endpoint may be dialled now, and counts it.
func (m *Mux) mayDial(ep Endpoint) bool {
	x, now := &m.redials, time.Now()
	if r, ok := x.failed[ep]; ok && now.Before(r.next) {
		m.c.dialLater.Add(1)
		return false
	}
	if !x.at.IsZero() {
		x.spent = max(x.spent-now.Sub(x.at).Seconds()*dialsPerSecond, 0)
	}
	x.at = now
	if x.spent > dialsAtOnce-1 || x.open >= maxDialled {
		m.c.dialBudget.Add(1)
		return false
	}
	x.spent++
	return true
}

// wentDial notes how a connection that we began went: it worked if packets came.
func (m *Mux) wentDial(ep Endpoint, worked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := &m.redials
	if worked {
		delete(x.failed, ep)
		return
	}
	if x.failed == nil {
		x.failed = make(map[Endpoint]redial)
	}
	r, ok := x.failed[ep]
	if !ok && len(x.failed) >= maxRedials {
		for other := range x.failed { // any: the budget of all is left
			delete(x.failed, other)
			break
		}
	}
	r.next = time.Now().Add(min(redialFirst<<min(r.failures, 10), redialLast))
	r.failures++
	x.failed[ep] = r
}

// Redial has all endpoints dialled again as if none had failed: the network is another one.
func (m *Mux) Redial() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.redials.failed)
}
