package overlay

import (
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// ahead is what is read of a batch of trains before the first of them is taken. A relay of
// many clients waits for memory at each look-up, since no two trains in a row are of the
// same clients. Read ahead, they wait together: nothing here depends on another train.
type ahead struct {
	train *link.Train // that is being taken; nil: it was not looked at
	hash  uint64      // of its place

	hashes [readTrains]uint64
	from   [readTrains]*berth  // who may be where it comes from; nil too if the train before is from there
	to     [readTrains]*client // who may be its recipient
	read   int64               // the sum of what was read, so that the compiler keeps the reading
}

// lookAhead brings the clients of a batch into the processor's cache. It decides nothing:
// what it misses costs time and is found all the same. A single train has nobody to wait with.
func (rx *receiver) lookAhead(ts []link.Train) bool {
	if len(ts) < 2 || len(ts) > readTrains || rx.n.serves.Load() == nil {
		return false
	}
	a, x := &rx.ahead, rx.n.clients
	places, ids := x.places.view(), x.ids.view()
	for i := range ts {
		a.from[i], a.to[i], a.hashes[i] = nil, nil, 0
		if i > 0 && ts[i].Endpoint == ts[i-1].Endpoint {
			a.hashes[i] = a.hashes[i-1]
		} else {
			a.hashes[i] = x.hashPlace(placeOf(ts[i].Endpoint))
			a.from[i] = places.at(a.hashes[i])
		}
		if p := ts[i].Buf; len(p) >= wire.SealedMin && p[1] == wire.FlagSealed {
			to, _ := wire.RecipientID(p)
			a.to[i] = ids.at(x.hashID(to))
		}
	}
	a.touch(len(ts))
	return true
}

// touch reads what a packet needs of the clients.
func (a *ahead) touch(count int) {
	for i := range count {
		if b := a.from[i]; b != nil {
			a.read += b.heard.Load()
		}
		if c := a.to[i]; c != nil {
			a.read += int64(c.id[0]) + int64(c.first.place.port)
		}
	}
	for _, b := range a.from[:count] {
		if b != nil && b.client != nil {
			a.read += b.client.bytes.ahead.Load()
		}
	}
}

// berthOf returns who is at the place that a train comes from, or nil.
func (rx *receiver) berthOf(t *link.Train) *berth {
	x, p := rx.n.clients, placeOf(t.Endpoint)
	if rx.ahead.train == t {
		return x.atHash(p, rx.ahead.hash)
	}
	return x.atHash(p, x.hashPlace(p))
}
