// Package portmap asks the network's gateway to let packets for one UDP port in: a home
// router maps an external port to ours (IPv4), or opens its firewall for it (IPv6).
//
// Three protocols do that. All three are probed at once, by questions that change nothing.
// The best one that answers is then asked for a mapping, and the next if it refuses:
//
//	             probe                       mapping
//	1  PCP       ANNOUNCE                    MAP               RFC 6887   IPv4, IPv6
//	2  NAT-PMP   external address?           map UDP           RFC 6886   IPv4
//	3  UPnP IGD  search, device description  AddPortMapping    UPnP IGD   IPv4
//	             and external address        AddPinhole                   IPv6
//
// A mapping has a short lease and is renewed at half of it. The package sends nothing else:
// where no gateway helps, it asks again after 1 minute, later after 1 hour, and when the
// network changes. It removes its mappings when it ends.
//
// Anybody on the LAN can answer a search for a UPnP device. So only the gateway itself is
// listened to and talked to, whatever address an answer or a description names.
package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Lease is how long a mapping is asked for. A killed process leaves its mapping behind for
// that long at most, and a gateway that forgot one without a word is found out after half
// of it. Renewing by UPnP takes two HTTP exchanges, about 4 KB, so that an idle day of a
// shorter lease would cost more than all other traffic of an idle node.
const Lease = 30 * time.Minute

const (
	// firstRetry and lastRetry bound how long after a failure the gateway is asked again.
	// The wait is four times as long each time: a search costs 2 kB, and most gateways map nothing.
	firstRetry = time.Minute
	lastRetry  = time.Hour
	// soonestRenewal bounds how often a gateway can have a mapping renewed by granting
	// short leases.
	soonestRenewal = time.Minute
	// releaseTime bounds how long removing a mapping takes at the end.
	releaseTime = time.Second
	// maxAddresses bounds for how many IPv6 addresses of ours pinholes are asked for.
	maxAddresses = 4
)

// Config is what a Mapper needs.
type Config struct {
	Port uint16 // our UDP port
	// Network returns what the host's network is like now. It is called at the start and
	// after each NetworkChanged.
	Network func() (Network, error)
	// Off are the networks in which nothing is sent.
	Off Places
	// Changed is called with each state that differs from the one before, from one
	// goroutine, which asks nobody meanwhile. It may be nil.
	Changed func(State)
	// Key is a secret of this host that stays the same when the process restarts, of any
	// length. The nonces of PCP are derived from it: a gateway lets only one who knows the
	// nonce change a mapping, such as the one that a killed process left. If it is empty, a
	// random one is made.
	Key []byte
	Log *slog.Logger // nil: none
}

// Mapper keeps mappings for one port.
type Mapper struct {
	config Config
	log    *slog.Logger
	make   func(Route) []protocol // replaced by tests, as is hear
	hear   func(ctx context.Context, r Route, heard func()) error
	poke   chan struct{} // the network has changed; holds one
	state  atomic.Pointer[State]
	pace   [2]*rate.Limiter // of IPv4 and IPv6
}

// New makes a Mapper. It sends nothing before Run.
func New(c Config) (*Mapper, error) {
	if c.Port == 0 || c.Network == nil {
		return nil, errors.New("portmap: the configuration lacks the port or the network")
	}
	if len(c.Key) == 0 {
		c.Key = make([]byte, 32)
		rand.Read(c.Key) // never fails
	}
	m := &Mapper{config: c, log: c.Log, hear: hear, poke: make(chan struct{}, 1), pace: [2]*rate.Limiter{newPace(), newPace()}}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.make = func(r Route) []protocol { return protocols(r, c.Port, c.Key, standard) }
	m.state.Store(&State{IPv4: Result{Code: Asking}})
	return m, nil
}

// newPace bounds how often gateways are asked, however often the network changes.
func newPace() *rate.Limiter { return rate.NewLimiter(rate.Every(20*time.Second), 2*maxAddresses) }

// State returns what is known now. Any goroutine may call it.
func (m *Mapper) State() State { return *m.state.Load() }

// NetworkChanged says that addresses, routes or links have changed, that the computer was
// asleep, or that the gateway seems to have restarted. Mappings are then checked and asked
// for anew, at a bounded rate. Any goroutine may call it, and it returns at once.
func (m *Mapper) NetworkChanged() {
	select {
	case m.poke <- struct{}{}:
	default: // one is waiting already
	}
}

// Run keeps mappings until ctx ends. It then removes them, within a second, and returns nil.
func (m *Mapper) Run(ctx context.Context) error {
	r := &run{Mapper: m, ctx: ctx, reports: make(chan report), announcements: make(chan *keeper), keepers: make(map[Route]*keeper), ending: make(map[Route]<-chan struct{})}
	defer r.running.Wait()
	for {
		r.network()
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case <-m.poke:
				again = true
			case p := <-r.reports:
				r.take(p)
			case k := <-r.announcements:
				if r.keepers[k.route] == k {
					k.wake()
					r.restarted(k)
				}
			}
		}
	}
}

// run is what the goroutine of Run owns.
type run struct {
	*Mapper
	ctx     context.Context
	running sync.WaitGroup
	reports chan report

	announcements chan *keeper // whose gateway says that it has restarted

	keepers map[Route]*keeper
	ending  map[Route]<-chan struct{} // those that remove their mapping now
	want    plan
}

// report is news of a keeper.
type report struct {
	from      *keeper
	result    Result
	restarted bool // the gateway has restarted
}

// network looks at the network, starts keepers for routes that are new, ends those for
// routes that are gone, and has the others ask again.
func (r *run) network() {
	n, err := r.config.Network()
	if err != nil {
		r.log.Warn("port mapping: the network cannot be looked at", "err", err)
	}
	r.want = newPlan(n, r.config.Off)
	for route, k := range r.keepers {
		if slices.Contains(r.want.routes, route) {
			k.wake()
			continue
		}
		k.end()
		delete(r.keepers, route)
		r.ending[route] = k.done
	}
	maps.DeleteFunc(r.ending, func(_ Route, done <-chan struct{}) bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	for _, route := range r.want.routes {
		if r.keepers[route] == nil {
			r.keepers[route] = r.start(route)
		}
	}
	r.publish()
}

// start starts a keeper. It begins when an earlier one for the same route has ended, which
// would remove the new mapping otherwise.
func (r *run) start(route Route) *keeper {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	k := &keeper{
		route: route, protocols: r.make(route), port: r.config.Port, log: r.log, pace: r.pace[route.family()],
		end: cancel, done: done, poke: make(chan struct{}, 1), reports: r.reports,
		result: Result{Local: route.Source, Gateway: route.Gateway, Code: Asking},
	}
	before := r.ending[route]
	r.running.Go(func() {
		defer close(done)
		defer cancel()
		if before != nil {
			<-before
		}
		k.run(ctx)
	})
	if route.Source.Is4() { // as a rule, the same gateway does both
		r.running.Go(func() {
			if err := r.hear(ctx, route, func() { r.announced(ctx, k) }); err != nil && ctx.Err() == nil {
				r.log.Info("port mapping: restarts of the gateway are noticed late", "gateway", route.Gateway, "err", err)
			}
		})
	}
	return k
}

// announced tells Run that the gateway has restarted.
func (r *run) announced(ctx context.Context, k *keeper) {
	select {
	case r.announcements <- k:
	case <-ctx.Done():
	}
}

// take takes news in.
func (r *run) take(p report) {
	if r.keepers[p.from.route] != p.from {
		return // it is ending
	}
	p.from.result = p.result
	if p.restarted {
		r.restarted(p.from)
	}
	r.publish()
}

// restarted has the other keepers renew their mappings, since the gateway of one has
// restarted.
func (r *run) restarted(but *keeper) {
	r.log.Info("port mapping: the gateway has restarted", "gateway", but.route.Gateway)
	for _, k := range r.keepers {
		if k != but {
			k.wake()
		}
	}
}

// publish passes the state on if it has changed.
func (r *run) publish() {
	st := State{IPv4: r.want.none}
	for _, route := range r.want.routes {
		if result := r.keepers[route].result; route.Source.Is4() {
			st.IPv4 = result
		} else {
			st.IPv6 = append(st.IPv6, result)
		}
	}
	if st.same(*r.state.Load()) {
		return
	}
	r.state.Store(&st)
	if r.config.Changed != nil {
		r.config.Changed(st)
	}
}
