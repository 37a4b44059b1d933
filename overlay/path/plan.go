package path

import (
	"time"

	"anodenet/overlay/mono"
)

// Plan says when attempts to open a direct way begin, and how many requests each may send.
// It backs off, and begins anew after Reset:
//
//	attempt  0     1     2     3      4      5     ...
//	at       0 s   2 s   7 s   22 s   82 s   then every 5 minutes
//	requests up to firstRequests each until firstMinute, then laterRequests
//
// All attempts together stay within an Allowance, whatever the peer does to begin new ones. An
// attempt that the peer began counts as one of ours.
type Plan struct {
	began mono.Time // the first attempt since Reset; 0: none
	next  mono.Time // not before; 0: at once
	step  int       // attempts since Reset
	reset mono.Time
}

// Allowance is what the attempts with all machines of one address may send: a key costs nothing, and
// neither does another machine of the same one. The zero value is full.
type Allowance struct{ requests, proofs mono.Bucket }

// Proof reports whether one large probe may be sent to where nothing came from yet.
func (b *Allowance) Proof(now mono.Time) bool {
	return b.proofs.Allow(now, proofRate) && b.requests.Allow(now, requestRate)
}

// planWaits are the times between attempts; the last one stays.
var planWaits = [...]time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute}

const (
	firstRequests = 64
	firstMinute   = time.Minute
	laterRequests = 8
	resetEvery    = 20 * time.Second // by what the peer says
	perTarget     = maxTries + 2     // requests: some targets need more than maxTries, most need less
)

// What all attempts with one address may send.
var (
	requestRate = mono.Rate{PerSecond: 2, Burst: 180} // 300 in any minute
	proofRate   = mono.Rate{PerSecond: 0.1, Burst: 6} // as many bytes as these requests
)

// Next returns when the next attempt may begin.
func (p *Plan) Next() mono.Time { return p.next }

// Begin notes an attempt with a number of targets that begins now, and returns how many
// requests it may send: none if too many were sent of the address's budget.
func (p *Plan) Begin(now mono.Time, targets int, b *Allowance) (most int) {
	if p.began == 0 {
		p.began = now
	}
	most = firstRequests
	if now.Sub(p.began) >= firstMinute {
		most = laterRequests
	}
	most = min(most, perTarget*targets)
	p.next = now.Add(planWaits[min(p.step, len(planWaits)-1)])
	p.step++
	for ; most > 0 && !b.requests.Take(now, float64(most), requestRate); most /= 2 {
	}
	return most
}

// Reset begins anew, since something changed here: a network, or how the outside sees us.
func (p *Plan) Reset() { p.began, p.next, p.step = 0, 0, 0 }

// ResetBy begins anew because of what the peer says, which it does once in a while at most.
func (p *Plan) ResetBy(now mono.Time) {
	if p.reset != 0 && now.Sub(p.reset) < resetEvery {
		return
	}
	p.reset = now
	p.Reset()
}

// Attempts returns how many attempts began since the last Reset.
func (p *Plan) Attempts() int { return p.step }
