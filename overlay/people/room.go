package people

import (
	"container/list"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// room is where the ASKs of strangers wait to be listed, which happens at strangerRate. The order of
// arrival does not count, since a flood would win: the next ASK is one from the region of which none was
// listed for the longest time, and in that region from the network, and there from the host, of which
// the same is true. Of regions from which none was listed, the first and the last that came take turns: so
// a crowd that is there already does not keep a newcomer waiting, nor do newcomers one that is
// there. A flood costs a stranger in another region one turn or two, as long as it comes from fewer
// regions than there are places.
//
// An ASK that waits here was not answered, so its sender repeats it, and another one may take its place.
type room struct {
	waiting []waiting
	bucket  mono.Bucket
	places  [3]places // regions, networks and hosts
	turns   uint      // how many were listed
}

// seenAt is when a host, network or region first waited, and when one of it was last listed; 0: none was.
type seenAt struct{ came, served mono.Time }

// waiting is an ASK that waits.
type waiting struct {
	from     anode.Address
	id       wire.TellID
	ask      ask
	host     netip.Addr
	levels   [3]netip.Addr // of host
	endpoint string
	at       mono.Time // when it came first
	again    mono.Time // and last
}

// levels are where an ASK comes from, from the region down to the host.
func levels(host netip.Addr) [3]netip.Addr {
	return [...]netip.Addr{mono.Region(host), mono.Site(host), host}
}

const (
	roomSize  = 64
	roomHost  = 4   // of one host
	placesMax = 256 // of each level; beyond, the one of which nothing new was noted for the longest time is forgotten
	roomWait  = time.Minute
)

// strangerRate is how many strangers' ASKs are listed.
var strangerRate = mono.Rate{PerSecond: 0.1, Burst: 6}

// enter takes an ASK in, in place of an earlier one of the same key, or of the one that has waited longest of
// whoever has most.
func (r *room) enter(w waiting) {
	w.again, w.levels = w.at, levels(w.host)
	r.waiting = slices.DeleteFunc(r.waiting, func(o waiting) bool {
		if o.from.X() == w.from.X() {
			w.at = o.at
			return true
		}
		return w.again.Sub(o.again) > roomWait
	})
	if n, oldest := r.of(func(o waiting) bool { return o.host == w.host }); n >= roomHost {
		r.waiting = slices.Delete(r.waiting, oldest, oldest+1)
	} else if len(r.waiting) >= roomSize {
		oldest := crowdOf(len(r.waiting), func(i, level int) netip.Addr { return r.waiting[i].levels[level] })[0]
		r.waiting = slices.Delete(r.waiting, oldest, oldest+1)
	}
	r.waiting = append(r.waiting, w)
	for k, a := range w.levels {
		if _, ok := r.places[k].of[a]; !ok {
			r.places[k].note(a, seenAt{came: w.at})
		}
	}
}

// crowdOf returns the indices of the largest group of n: the region with most, in it the network with most, in it the
// host with most. at returns where one is from.
func crowdOf(n int, at func(i, level int) netip.Addr) (of []int) {
	of = make([]int, n)
	for i := range of {
		of[i] = i
	}
	for level := range levels(netip.Addr{}) {
		most := mostOf(of, func(i int) netip.Addr { return at(i, level) })
		of = slices.DeleteFunc(of, func(i int) bool { return at(i, level) != most })
	}
	return of
}

// of counts those that fit, and returns the first of them.
func (r *room) of(fits func(waiting) bool) (n, first int) {
	first = -1
	for i, w := range r.waiting {
		if fits(w) {
			if n++; first < 0 {
				first = i
			}
		}
	}
	return n, first
}

// mostOf returns the value that most of a list have.
func mostOf(list []int, of func(int) netip.Addr) (most netip.Addr) {
	counts := make(map[netip.Addr]int, len(list))
	for _, e := range list {
		v := of(e)
		if counts[v]++; counts[v] > counts[most] {
			most = v
		}
	}
	return most
}

// next returns when the next one may be listed.
func (r *room) next(now mono.Time) mono.Time {
	if len(r.waiting) == 0 {
		return mono.Never
	}
	return r.bucket.Next(now, strangerRate)
}

// pick takes out who is listed now, if anybody is.
func (r *room) pick(now mono.Time) (w waiting, ok bool) {
	if len(r.waiting) == 0 || !r.bucket.Allow(now, strangerRate) {
		return w, false
	}
	best := 0
	for i := range r.waiting {
		if r.before(r.waiting[i], r.waiting[best]) {
			best = i
		}
	}
	w = r.waiting[best]
	r.waiting = slices.Delete(r.waiting, best, best+1)
	r.turns++
	for k, a := range w.levels {
		r.places[k].note(a, seenAt{r.places[k].get(a).came, now})
	}
	return w, true
}

// before reports whether v is listed before w.
func (r *room) before(v, w waiting) bool {
	for k := range r.places {
		x, y := r.places[k].get(v.levels[k]), r.places[k].get(w.levels[k])
		switch {
		case x.served != y.served:
			return x.served < y.served
		case x.came != y.came:
			return x.came < y.came == (r.turns%2 == 0)
		}
	}
	return v.at < w.at
}

// places are the regions, networks or hosts that are remembered. order has that one last of which something new
// was noted last.
type places struct {
	of    map[netip.Addr]*list.Element
	order list.List // of *place
}

type place struct {
	addr netip.Addr
	seenAt
}

func (p *places) get(a netip.Addr) seenAt {
	if e := p.of[a]; e != nil {
		return e.Value.(*place).seenAt
	}
	return seenAt{}
}

// note remembers what is new of one.
func (p *places) note(a netip.Addr, s seenAt) {
	e := p.of[a]
	switch {
	case e != nil:
	case len(p.of) < placesMax:
		if p.of == nil {
			p.of = map[netip.Addr]*list.Element{}
		}
		e = p.order.PushBack(new(place))
	default:
		e = p.order.Front()
		delete(p.of, e.Value.(*place).addr)
	}
	p.order.MoveToBack(e)
	p.of[a] = e
	*e.Value.(*place) = place{a, s}
}

// holds reports whether an ASK of a key waits.
func (r *room) holds(k Key) bool {
	return slices.ContainsFunc(r.waiting, func(o waiting) bool { return o.from.X() == k })
}

// leave takes an ASK out.
func (r *room) leave(k Key) {
	r.waiting = slices.DeleteFunc(r.waiting, func(o waiting) bool { return o.from.X() == k })
}
