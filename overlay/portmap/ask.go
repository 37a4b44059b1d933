package portmap

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// answerTime is how long the gateway has for its first answer to a probe.
	answerTime = 2 * time.Second
	// addTime bounds adding a mapping, and the further steps of a probe.
	addTime = 5 * time.Second
	// grace is how long a better protocol may answer later than another one.
	grace = 200 * time.Millisecond
)

// ask asks for a mapping in the best protocol that works, and sets using and tried.
func (k *keeper) ask(ctx context.Context) (grant, error) {
	probing, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	type answer struct {
		i   int
		err error
	}
	answers := make(chan answer, len(k.protocols))
	for i, p := range k.protocols {
		running.Go(func() { answers <- answer{i, p.probe(probing)} })
	}
	c := newChoice(len(k.protocols))
	var late <-chan time.Time
	var notBefore time.Duration
	for !c.over() {
		if i := c.next(); i >= 0 {
			g, err := k.add(ctx, k.protocols[i])
			if err == nil {
				k.using, k.tried = k.protocols[i], nil
				return g, nil
			}
			c.failed(i, attempt(k.protocols[i].kind(), err))
			if f := (*failure)(nil); errors.As(err, &f) {
				notBefore = max(notBefore, f.wait)
			}
			continue
		}
		select {
		case a := <-answers:
			if a.err == nil {
				c.answered(a.i)
			} else {
				c.failed(a.i, attempt(k.protocols[a.i].kind(), a.err))
			}
			if a.err == nil && late == nil {
				late = time.After(grace)
			}
		case <-late:
			c.hurry = true
		case <-ctx.Done():
			return grant{}, ctx.Err()
		}
	}
	k.tried = c.tried
	return grant{}, &failure{code: summary(k.tried), wait: notBefore}
}

func (k *keeper) add(ctx context.Context, p protocol) (grant, error) {
	ctx, cancel := context.WithTimeout(ctx, addTime)
	defer cancel()
	return p.add(ctx, k.wanted())
}

// choice says in which protocol to ask next. Only one is asked at a time: two mappings of
// one port would be in each other's way.
type choice struct {
	state []probed
	tried []Attempt // by protocol
	hurry bool      // do not wait for better protocols
}

// probed is what is known of one protocol.
type probed int

const (
	waiting probed = iota // for the answer to the probe
	usable
	failed
)

func newChoice(n int) *choice { return &choice{state: make([]probed, n), tried: make([]Attempt, n)} }

func (c *choice) answered(i int)          { c.state[i] = usable }
func (c *choice) failed(i int, a Attempt) { c.state[i], c.tried[i] = failed, a }

// over reports whether all have failed.
func (c *choice) over() bool {
	for _, s := range c.state {
		if s != failed {
			return false
		}
	}
	return true
}

// next returns the protocol to ask in now, -1 to wait.
func (c *choice) next() int {
	for i, s := range c.state {
		if s == usable {
			return i
		}
		if s == waiting && !c.hurry {
			return -1
		}
	}
	return -1
}
