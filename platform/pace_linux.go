package platform

import "time"

// The rate of repairs of one kind: a few at once, then one a second, and after ten in a
// row more and more rarely. It begins anew when a repair has lasted.
const (
	paceBurst    = 3
	paceFree     = 10
	paceAtOnce   = 100 * time.Millisecond
	paceShortest = time.Second
	paceLongest  = time.Minute
)

// pace bounds how often the same thing is repaired.
type pace struct {
	last   time.Time // of the last repair, zero: none
	streak int       // repairs in a row
	failed error     // of the last repair
}

// pause is the time from one repair to the next.
func (p *pace) pause() time.Duration {
	if p.streak <= paceBurst {
		return paceAtOnce
	}
	d := paceShortest
	for range min(max(p.streak-paceFree, 0), 6) {
		d *= 2
	}
	return min(d, paceLongest)
}

// lasted is for how long a repair must have held to begin anew.
func (p *pace) lasted() time.Duration { return 3 * max(p.pause(), paceShortest) }

// due returns how long to wait for the next repair.
func (p *pace) due(now time.Time) time.Duration {
	if p.last.IsZero() {
		return 0
	}
	return max(p.last.Add(p.pause()).Sub(now), 0)
}

// mended notes a repair.
func (p *pace) mended(now time.Time) {
	if now.Sub(p.last) > p.lasted() {
		p.streak = 0
	}
	p.last = now
	p.streak++
}

func (k *Keeper) pace(code string) *pace {
	p := k.paces[code]
	if p == nil {
		p = &pace{}
		k.paces[code] = p
	}
	return p
}
