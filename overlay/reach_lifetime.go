package overlay

import (
	"net/netip"
	"slices"
	"time"

	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// lifetime is the measurement of how long a mapping of our NAT lives through which nothing passes:
// a second socket asks an anchor to answer later and later, by LINGER. It is done once for each
// network, and measured with a mapping that was answered and used again after that, since some NATs
// keep such ones longer.
//
//	NETID_REQ ---> NETID, 3 s, LINGER 1 s ---> NETID, LINGER 9 s ---> NETID, LINGER 12 s ...
//	                               | no answer, twice            | no answer, twice
//	                               v                             v
//	                    the anchor knows no LINGER        the step before it is the lifetime
type lifetime struct {
	measured map[network]time.Duration // 0: it cannot be measured there
	order    []network                 // of measured, the oldest first

	due   mono.Time
	on    network
	from  *peer.Peer
	to    link.Endpoint
	sock  *extra
	step  int // of lifeSteps; lifePrime: the mapping is made
	fails int // in a row
	best  time.Duration
}

// network names one that we are in: how the internet is reached, and as which endpoint.
type network struct {
	router  netip.Addr
	outside netip.Addr
}

// lifeSteps are the silences that are tried. The first shows only whether the anchor knows LINGER.
var lifeSteps = [...]time.Duration{time.Second, 9 * time.Second, 12 * time.Second, 25 * time.Second, 50 * time.Second, 100 * time.Second, 140 * time.Second}

const (
	lifePrime   = -1
	lifeAfter   = 10 * time.Second // a change of our links: other things come first
	lifePause   = 3 * time.Second  // then NATs take a mapping for one of a conversation
	lifeTries   = 2
	lifeLeast   = 7 * time.Second // shorter than the first step
	lifeNetwork = 32              // that are remembered
)

func newLifetime() lifetime {
	return lifetime{measured: map[network]time.Duration{}, step: lifePrime}
}

// begin ends what was being measured; what is known stays.
func (f *lifetime) begin(now mono.Time) {
	f.sock, f.due, f.step, f.fails, f.best = nil, now.Add(lifeAfter), lifePrime, 0, 0
	f.on = network{}
}

// here is the network that we are in, as far as is known.
func (r *reach) here() network {
	s := r.l.links.state
	n := network{router: s.Route4.Via, outside: r.outside.mapping.Last.Addr()}
	if !n.router.IsValid() {
		n.router = s.Route6.Via
	}
	return n
}

// known returns the lifetime that was measured in this network, or, while it is being measured,
// what has been survived so far; 0 if it is not known.
func (f *lifetime) known(r *reach) time.Duration {
	if d := f.measured[r.here()]; d != 0 {
		return d
	}
	if f.on == r.here() {
		return f.best
	}
	return 0
}

// done records what was found. What is 0 is known not to be measurable.
func (r *reach) lifeDone(d time.Duration) {
	f := &r.lifetime
	if _, again := f.measured[f.on]; !again {
		if len(f.order) == lifeNetwork {
			delete(f.measured, f.order[0])
			f.order = slices.Delete(f.order, 0, 1)
		}
		f.order = append(f.order, f.on)
	}
	f.measured[f.on] = d
	if d == 0 {
		r.l.n.log.Info("the lifetime of a mapping cannot be measured: no relay answers late")
	} else {
		r.l.n.log.Info("NAT or firewall", "lifetime", d)
	}
	r.extras.shut(f.sock)
	f.begin(r.l.now)
	f.due = mono.Never
	r.outside.mapping.Lifetime = d
	r.anchors.again(r.l.now)
}

// again has the intervals of all anchors computed anew.
func (a *anchors) again(now mono.Time) {
	a.due = now
	for _, x := range a.list {
		if x.heard != 0 && x.misses == 0 && x.next.Happened() {
			x.next = 0
		}
	}
}

// tickLifetime begins to measure, or sends the next question.
func (r *reach) tickLifetime() mono.Time {
	f := &r.lifetime
	if r.l.now < f.due {
		return f.due
	}
	f.due = mono.Never
	if f.sock == nil && !r.lifeOpen() {
		return f.due
	}
	patience := answerIn
	if f.step == lifePrime {
		r.ask(f.from, f.to, f.sock, forLife, 0, patience)
	} else {
		r.ask(f.from, f.to, f.sock, forLife, lifeSteps[f.step], patience)
	}
	return f.due
}

// lifeOpen chooses an anchor and opens a socket; false if it is not the time.
func (r *reach) lifeOpen() bool {
	f := &r.lifetime
	here := r.here()
	if _, measured := f.measured[here]; measured {
		return false
	}
	k := slices.IndexFunc(r.anchors.list, func(x *anchor) bool { return x.heard != 0 && !x.silent() && r.interval(x) != mono.Forever })
	switch {
	case k < 0:
		f.due = r.l.now.Add(lifeAfter)
		return false
	case r.outside.ports.sock != nil || r.outside.ports.due != mono.Never: // a new socket would disturb that
		f.due = r.l.now.Add(lifePause)
		return false
	}
	x := r.anchors.list[k]
	f.on, f.from, f.to = here, x.peer, x.ep
	if f.sock = r.open(x.peer, x.ep); f.sock == nil {
		f.due = r.l.now.Add(lifeAfter)
		return false
	}
	return true
}

// lifeSeen takes an answer: the mapping was still there.
func (r *reach) lifeSeen(q *question) {
	f := &r.lifetime
	if q.sock != f.sock {
		return
	}
	switch {
	case f.step == lifePrime:
		f.step = r.lifeNext()
		f.due = r.l.now.Add(lifePause)
		return
	case f.step > 0:
		f.best = lifeSteps[f.step]
		r.outside.mapping.Lifetime = f.best
		r.anchors.again(r.l.now)
	}
	f.fails = 0
	if f.step++; f.step == len(lifeSteps) {
		r.lifeDone(f.best)
		return
	}
	f.due = r.l.now
}

// lifeNext is the step to go on with after the mapping was made anew.
func (r *reach) lifeNext() int {
	f := &r.lifetime
	if f.best == 0 {
		return 0
	}
	return slices.Index(lifeSteps[:], f.best) + 1
}

// lifeLost takes the end of a question without an answer: once by loss, twice since the mapping
// was gone.
func (r *reach) lifeLost(q *question) {
	f := &r.lifetime
	if q.sock != f.sock {
		return
	}
	if f.fails++; f.fails < lifeTries {
		r.extras.shut(f.sock) // its mapping may be gone
		f.sock, f.due, f.step = nil, r.l.now, lifePrime
		return
	}
	switch {
	case f.best != 0:
		r.lifeDone(f.best)
	case f.step == lifePrime: // the anchor has gone
		r.extras.shut(f.sock)
		f.begin(r.l.now)
	case f.step == 0:
		r.lifeDone(0)
	default:
		r.lifeDone(lifeLeast)
	}
}
