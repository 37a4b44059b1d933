package portmap

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// protocol is one way to ask one gateway about one address of ours. All methods are for one
// goroutine, and return soon after their context ends.
type protocol interface {
	kind() Kind
	// probe asks whether the gateway speaks the protocol, and changes nothing.
	probe(ctx context.Context) error
	// add makes or renews the mapping, if possible with that external port.
	add(ctx context.Context, external uint16) (grant, error)
	// remove ends the mapping of the last add.
	remove(ctx context.Context) error
}

// grant is a mapping as the gateway answered it.
type grant struct {
	external  netip.AddrPort
	lease     time.Duration // 0: for ever
	restarted bool          // the gateway has restarted since the last grant
}

// failure is an error with its code.
type failure struct {
	code   Code
	detail string
	wait   time.Duration // the gateway says that trying earlier is of no use; 0: it does not say
}

func (f *failure) Error() string { return string(f.code) + ": " + f.detail }

// attempt returns what a protocol's error says.
func attempt(k Kind, err error) Attempt {
	var f *failure
	switch {
	case errors.As(err, &f):
		return Attempt{k, f.code, f.detail}
	case errors.Is(err, context.DeadlineExceeded):
		return Attempt{Kind: k, Code: NoAnswer}
	}
	return Attempt{k, Failed, err.Error()}
}

// keeper keeps the mapping of one address. All of it except wake, done, and result, which
// Run's goroutine owns, belongs to the goroutine of its run.
type keeper struct {
	route     Route
	protocols []protocol // the best first
	port      uint16
	log       *slog.Logger
	pace      *rate.Limiter

	end     context.CancelFunc
	done    <-chan struct{}
	poke    chan struct{} // holds one
	reports chan<- report
	result  Result

	using   protocol // the one to renew with, and to remove by at the end; nil: none
	mapping Mapping
	until   time.Time // how long the mapping is believed in if renewing fails
	tried   []Attempt
	wait    time.Duration // the last one after a failure
}

// wake has the keeper ask now.
func (k *keeper) wake() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// run keeps the mapping until ctx ends, and then removes it.
func (k *keeper) run(ctx context.Context) {
	defer k.release()
	for k.pace.Wait(ctx) == nil {
		next := k.once(ctx)
		select {
		case <-ctx.Done():
			return
		case <-k.poke:
			k.wait = 0
		case <-time.After(next):
		}
	}
}

// once renews the mapping, or makes one, reports what came of it, and returns after how
// long to do it again.
func (k *keeper) once(ctx context.Context) time.Duration {
	var g grant
	err := errNone
	if k.using != nil {
		if g, err = k.renew(ctx); err != nil && ctx.Err() == nil {
			k.log.Info("port mapping: renewing failed", "kind", k.using.kind(), "gateway", k.route.Gateway, "err", err)
		}
	}
	if err != nil && ctx.Err() == nil {
		g, err = k.ask(ctx)
	}
	if ctx.Err() != nil {
		return 0
	}
	if err == nil {
		k.wait = 0
		next := k.grant(g)
		k.report(ctx, g.restarted)
		return next
	}
	return k.fail(ctx, err)
}

// errNone: there is nothing to renew.
var errNone = errors.New("no mapping")

// renew asks again for what there is.
func (k *keeper) renew(ctx context.Context) (grant, error) {
	ctx, cancel := context.WithTimeout(ctx, addTime)
	defer cancel()
	return k.using.add(ctx, k.wanted())
}

// wanted returns the external port to ask for: the one of before, else our own.
func (k *keeper) wanted() uint16 {
	if p := k.mapping.External.Port(); p != 0 {
		return p
	}
	return k.port
}

// grant takes a mapping over, and returns when to renew it: at half of its time, with a
// tenth of chance, so that not all nodes behind a gateway do it at once.
func (k *keeper) grant(g grant) time.Duration {
	k.mapping = Mapping{
		Kind: k.using.kind(), External: g.external, Internal: netip.AddrPortFrom(k.route.Source, k.port),
		Doubtful: !reachable(g.external.Addr()),
	}
	lease, now := Lease, time.Now().Round(0) // without the monotonic part, which leaves sleep out
	if g.lease > 0 {
		lease = min(g.lease, Lease)
		k.mapping.Expires = now.Add(g.lease)
	}
	k.until = now.Add(lease)
	return max(jitter(lease/2), soonestRenewal)
}

// jitter returns d less up to a tenth of it.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10) }

// fail reports that no protocol mapped the port, and returns when to ask again. A mapping that may still stand stays: a gateway
// that restarts is silent for a minute and often has it afterwards.
func (k *keeper) fail(ctx context.Context, err error) time.Duration {
	k.wait = min(max(4*k.wait, firstRetry), lastRetry)
	var f *failure
	if errors.As(err, &f) {
		k.wait = min(max(k.wait, f.wait), lastRetry)
	}
	if f.refuses() {
		k.using = nil
	}
	if f.refuses() || !time.Now().Before(k.until) {
		k.mapping = Mapping{}
	}
	k.report(ctx, false)
	return jitter(k.wait)
}

// refuses reports whether the gateway has answered that there is no mapping.
func (f *failure) refuses() bool {
	return f != nil && f.code != NoAnswer && f.code != Failed
}

func (k *keeper) report(ctx context.Context, restarted bool) {
	r := Result{Local: k.route.Source, Gateway: k.route.Gateway, Mapping: k.mapping, Tried: k.tried}
	switch {
	case k.mapping == Mapping{}:
		r.Code = summary(k.tried)
	case k.mapping.Doubtful:
		r.Code = BehindNAT
	default:
		r.Code = Mapped
	}
	select {
	case k.reports <- report{k, r, restarted}:
	case <-ctx.Done():
	}
}

// summary returns the most telling of several failures.
func summary(tried []Attempt) Code {
	for _, c := range worst {
		for _, a := range tried {
			if a.Code == c {
				return c
			}
		}
	}
	return NoAnswer
}

// release removes the mapping.
func (k *keeper) release() {
	if k.using == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	if err := k.using.remove(ctx); err != nil {
		k.log.Info("port mapping: removing failed", "kind", k.using.kind(), "gateway", k.route.Gateway, "err", err)
	}
}
