package people

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// room is where the ASKs of strangers wait to be listed, which happens at strangerRate. The order of arrival
// does not count, since a flood would win: the next ASK is one from the network of which none was listed
// for the longest time, and in that network from the host of which the same is true. So a flood costs a
// stranger in another network one turn.
//
// An ASK that waits here was not answered, so its sender repeats it, and another one may take its place.
type room struct {
	waiting []waiting
	bucket  mono.Bucket
	served  map[netip.Addr]mono.Time // when one of a host or network was last listed
}

// waiting is an ASK that waits.
type waiting struct {
	from     anode.Address
	id       wire.TellID
	ask      ask
	host     netip.Addr
	endpoint string
	at       mono.Time // when it came first
	again    mono.Time // and last
}

func (w waiting) site() netip.Addr { return mono.Site(w.host) }

const (
	roomSize  = 64
	roomHost  = 4   // of one host
	servedMax = 256 // hosts and networks; beyond, the oldest is forgotten
	roomWait  = time.Minute
)

// strangerRate is how many strangers' ASKs are listed.
var strangerRate = mono.Rate{PerSecond: 0.1, Burst: 6}

// enter takes an ASK in, in place of an earlier one of the same key, or of the one that has waited longest of
// whoever has most.
func (r *room) enter(w waiting) {
	w.again = w.at
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
		most := mostOf(r.waiting, waiting.site)
		_, oldest := r.of(func(o waiting) bool { return o.site() == most })
		r.waiting = slices.Delete(r.waiting, oldest, oldest+1)
	}
	r.waiting = append(r.waiting, w)
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
func mostOf[E any](list []E, of func(E) netip.Addr) (most netip.Addr) {
	counts := map[netip.Addr]int{}
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
	r.note(w.site(), now)
	r.note(w.host, now)
	return w, true
}

// before reports whether v is listed before w.
func (r *room) before(v, w waiting) bool {
	if a, b := r.served[v.site()], r.served[w.site()]; a != b {
		return a < b
	}
	if a, b := r.served[v.host], r.served[w.host]; a != b {
		return a < b
	}
	return v.at < w.at
}

// note remembers when one of a host or network was listed. The networks of two kinds of prefixes do
// not clash: a host is never the first address of its network but by chance, which costs a turn.
func (r *room) note(a netip.Addr, now mono.Time) {
	if r.served == nil {
		r.served = map[netip.Addr]mono.Time{}
	}
	if _, ok := r.served[a]; !ok && len(r.served) >= servedMax {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(r.served)), func(x, y netip.Addr) int { return cmp.Compare(r.served[x], r.served[y]) })
		delete(r.served, oldest)
	}
	r.served[a] = now
}

// leave takes an ASK out.
func (r *room) leave(k Key) {
	r.waiting = slices.DeleteFunc(r.waiting, func(o waiting) bool { return o.from.X() == k })
}
