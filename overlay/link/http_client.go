package link

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxUploads   = 4                 // bodies on the way
	uploadFor    = 20 * time.Second  // for one to be answered
	holdSlack    = 15 * time.Second  // for the answer to a request that may be held
	replaceFor   = 100 * time.Second // after which an answer that stays open is replaced by another
	deadStream   = 2*maxHold + 10*time.Second
	failuresMost = 4 // in a row, after which a session ends
	firstFor     = 8 * time.Second
)

// poster is our session at a server that takes packets by POST.
//
//	upload: what waits --> POST, POST, ...          a few on the way at once
//	listen: POST --> answer with packets, POST ...  while no answer stays open
//	stream: POST --> answer that stays open         where nobody on the way keeps it until its end
type poster struct {
	outbox
	ep     Endpoint // its Place
	id     sessionID
	ctx    context.Context
	cancel context.CancelFunc
	number atomic.Uint64 // of the last request with packets, or for them
	bodies atomic.Uint64 // of the last request with packets
	used   atomic.Int64  // when packets last went or came, in nanoseconds since born
	born   time.Time
	heard  chan struct{} // closed once packets came
	first  sync.Once     // closes it

	mu       sync.Mutex
	way      *way
	moved    bool // followed a redirect
	failures int  // in a row
	worked   bool // something was answered
	final    bool // a failure has ended the session: what is answered later does not count
	streams  int  // answers that are open, and seen
	changed  chan struct{}
}

var _ outlet = (*poster)(nil)

// post begins a session, and returns before there is a connection. What is queued meanwhile is
// sent then.
func (m *Mux) post(ep Endpoint) outlet {
	p := &poster{ep: ep, born: time.Now(), heard: make(chan struct{}), changed: make(chan struct{})}
	p.outbox.m, p.early = m, true
	rand.Read(p.id[:])
	p.ctx, p.cancel = context.WithCancel(m.ctx)
	m.running.Go(func() {
		defer m.remove(ep, p)
		defer p.close()
		p.run()
	})
	return p
}

// queue implements outlet.
func (p *poster) queue(t *Train, patient bool) bool {
	p.active()
	return p.put(t, patient)
}

// keep implements outlet: one that we opened is nobody's guest.
func (p *poster) keep() {}

// close implements outlet.
func (p *poster) close() {
	p.cancel()
	p.end()
}

// run moves packets until the session ends.
func (p *poster) run() {
	u, err := parseURL(p.ep.URL.Value())
	if err == nil {
		p.way, err = p.m.newWay(u)
	}
	if err != nil {
		p.failed(troubleOf(err))
		return
	}
	var all sync.WaitGroup
	all.Go(p.upload)
	all.Go(p.listen)
	all.Go(p.stream)
	all.Wait()
	p.current().close()
}

func (p *poster) active() { p.used.Store(int64(time.Since(p.born))) }

// idle reports whether the session has been of no use for long.
func (p *poster) idle() bool { return time.Since(p.born)-time.Duration(p.used.Load()) > idleFor }

func (p *poster) current() *way {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.way
}

// succeeded notes that a request was answered.
func (p *poster) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = 0
	if p.worked || p.final {
		return
	}
	p.worked = true
	p.eager()
	p.m.c.dialled.Add(1)
	p.m.troubles.set(p.ep, nil)
}

// failed notes that a request was not, and ends the session if that is final.
func (p *poster) failed(t *Trouble) {
	if p.ctx.Err() != nil {
		return
	}
	p.m.c.web.failed.Add(1)
	p.mu.Lock()
	p.failures++
	final, never := t.lasting() || !p.worked || p.failures >= failuresMost, !p.worked
	if final {
		p.final = true
		p.m.troubles.set(p.ep, t)
	}
	p.mu.Unlock()
	if !final {
		return
	}
	if never {
		p.m.c.dialFailed.Add(1)
	}
	p.m.cfg.Log.Debug("no packets by HTTP", "endpoint", p.ep, "err", t)
	p.close()
}

// pause waits before another attempt. It returns false if the session has ended.
func (p *poster) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// listen asks for packets whenever no answer is open that has them. A session in which nothing
// happens has one request at a time.
func (p *poster) listen() {
	patient := maxHold
	for p.alone() {
		began := time.Now()
		ctx, cancel := context.WithTimeout(p.ctx, patient+holdSlack)
		got := 0
		q := query{id: p.id, named: true, down: p.number.Add(1), patient: patient}
		err := p.roundTrip(ctx, q, nil, func(r *http.Response) (err error) {
			got, err = pour(p.m, p.ep, r.Body, r.ContentLength, false, p.came)
			return err
		})
		cancel()
		took := time.Since(began)
		switch {
		case err == nil:
			p.succeeded()
			// Answers that are empty and come at once are no reason to hurry.
			if got == 0 && took < time.Second && !p.streaming() && !p.pause(time.Second-took) {
				return
			}
		case took >= minHold && patient > minHold && troubleOf(err).Kind != CaptivePortal && p.ctx.Err() == nil:
			// Somebody on the way does not wait for as long.
			patient = max(patient/2, minHold)
		default:
			p.failed(troubleOf(err))
			if !p.pause(p.backoff()) {
				return
			}
		}
		if p.idle() {
			p.close()
		}
	}
}

// backoff is how long to wait after failures.
func (p *poster) backoff() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 100 * time.Millisecond << min(2*p.failures, 6)
}

// came notes that bytes came.
func (p *poster) came(n int) {
	if n > frameHeader {
		p.first.Do(func() { close(p.heard) })
		p.active()
	}
}

// alone waits while an answer is open that has the packets. It returns false once the session has
// ended.
func (p *poster) alone() bool {
	for p.ctx.Err() == nil {
		p.mu.Lock()
		n, changed := p.streams, p.changed
		p.mu.Unlock()
		if n == 0 {
			return true
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
		}
	}
	return false
}

func (p *poster) streaming() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams > 0
}

// opened counts answers that are open and seen.
func (p *poster) opened(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams += n
	close(p.changed)
	p.changed = make(chan struct{})
}

// stream keeps an answer open, if those on the way let it through as it comes.
func (p *poster) stream() {
	select {
	case <-p.heard:
	case <-p.ctx.Done():
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	for wait := 10 * time.Second; ; {
		ended := make(chan struct{})
		seen := make(chan bool, 1)
		began := time.Now()
		all.Go(func() {
			defer close(ended)
			p.flow(seen)
		})
		if !<-seen {
			<-ended
			if !p.pause(wait) {
				return
			}
			wait = min(6*wait, 10*time.Minute)
			continue
		}
		replace := time.NewTimer(replaceFor)
		select {
		case <-ended:
		case <-replace.C:
		case <-p.ctx.Done():
		}
		replace.Stop()
		if time.Since(began) > wait {
			wait = 10 * time.Second
		} else if !p.pause(wait) {
			return
		}
		if p.idle() {
			p.close()
		}
	}
}

// flow is one answer that stays open. It says whether it was seen before its end.
func (p *poster) flow(seen chan<- bool) {
	number := p.number.Add(1)
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	dead := time.AfterFunc(firstFor, cancel)
	defer dead.Stop()
	told := false
	tell := func(ok bool) {
		if !told {
			told = true
			seen <- ok
		}
	}
	defer tell(false)
	q := query{id: p.id, named: true, down: number, stream: true}
	err := p.roundTrip(ctx, q, nil, func(r *http.Response) error {
		var empty [frameHeader]byte
		if _, err := io.ReadFull(r.Body, empty[:]); err != nil {
			return err
		}
		if empty != padding {
			return errFrame
		}
		// From here on listen asks for nothing: that would take the packets away again.
		p.opened(1)
		defer p.opened(-1)
		confirm := query{id: p.id, named: true, seen: number, down: p.number.Add(1)}
		if err := p.roundTrip(ctx, confirm, nil, func(*http.Response) error { return nil }); err != nil {
			return err
		}
		dead.Reset(deadStream)
		tell(true)
		_, err := pour(p.m, p.ep, r.Body, r.ContentLength, false, func(n int) {
			dead.Reset(deadStream)
			p.came(n)
		})
		return err
	})
	if err != nil && p.ctx.Err() == nil {
		p.m.cfg.Log.Debug("no open answer by HTTP", "endpoint", p.ep, "err", err)
	}
}

// roundTrip makes a request, and has use take the answer. Its errors are *Trouble, or those of
// use.
func (p *poster) roundTrip(ctx context.Context, q query, body *posted, use func(*http.Response) error) error {
	for {
		way := p.current()
		answer, err := way.do(ctx, q, body)
		if err != nil {
			return err
		}
		if to := p.redirected(way, answer); to {
			discard(answer)
			continue
		}
		err = judge(answer, way.proxy != nil)
		if err == nil {
			if err = use(answer); errors.Is(err, errFrame) {
				err = trouble(NotAnode, "its answer is not made of packets")
			}
		}
		discard(answer)
		return err
	}
}

// redirected follows a redirect to the same host by https, once.
func (p *poster) redirected(from *way, answer *http.Response) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.way != from {
		return true // another request has followed it
	}
	to := from.redirect(answer)
	if to == nil || p.moved {
		return false
	}
	next, err := p.m.newWay(to)
	if err != nil {
		return false
	}
	p.moved, p.way = true, next
	from.close()
	return true
}

// discard reads the rest of an answer, if that is little, so that its connection can be used
// again.
func discard(answer *http.Response) {
	_, _ = io.CopyN(io.Discard, answer.Body, smallBuffer)
	answer.Body.Close()
}

var _ net.Conn = (*begunConn)(nil)
