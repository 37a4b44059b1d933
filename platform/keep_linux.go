package platform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Keeper sets an adapter's interface up, and keeps it so: whatever another program does
// to it is undone as soon as the kernel announces it (of another GSO size, with the next
// announcement). It works by the interface's index, so that another name changes nothing.
// Nothing is done while nothing happens.
//
//	announcements -> look: what the kernel has -> compare -> mend, at a bounded rate
//	Want          -> guard and routes
//
// Keep, Run and Close are called one after the other.
type Keeper struct {
	log      *slog.Logger
	renamed  func(string)
	mended   func()
	tellIP4  func(refused string)
	settings Settings
	iface    iface
	events   int              // a socket, until Run has it
	guard    *guard           // nil: nf_tables cannot be had
	ip4      ip4              // owned by Run
	rule     *policy          // nil: there is a guard
	paces    map[string]*pace // by the code of a problem; owned by Run
	applied  reach            // owned by Run

	changed chan struct{} // holds one: look
	wake    chan struct{} // holds one: something else is wanted

	mu       sync.Mutex
	wanted   Wanted
	name     string
	problems []Problem
	guard4   *guard // nil: IPv4 is not used, or there is no guard
	blind    error  // why changes cannot be watched any more; nil: they are
	refused  string // why IPv4 is not used; "": it is, or nobody wants it
}

// reach is what must lead to the adapter, as the kernel has it.
type reach struct {
	peers   map[netip.Addr]bool
	aliases map[netip.Addr]bool
	ways    map[way]bool
}

// Keep sets up an interface that is down, with everything that is wanted, and filters
// what other interfaces bring for our address.
func Keep(ifname string, s Settings, o Options) (*Keeper, error) {
	k := &Keeper{
		log: o.Log, renamed: o.Renamed, mended: o.Mended, tellIP4: o.IP4, settings: s, name: ifname, events: -1, paces: map[string]*pace{},
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), wanted: s.Wanted,
	}
	if err := k.open(ifname); err != nil {
		return nil, errors.Join(configureError(ifname, err), k.Close())
	}
	return k, nil
}

func (k *Keeper) open(ifname string) (err error) {
	if k.iface.index, err = indexOf(ifname); err != nil {
		return err
	}
	k.iface.mtu4 = max(k.settings.MTU-ip4Shorter, 0)
	if err := alone(k.iface.index, k.settings.Queues); err != nil {
		return err
	}
	if k.iface.conn, err = dialNetlink(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if k.events, err = subscribeTo(k.groups()...); err != nil {
		return err
	}
	if removed, err := cleanup(k.iface.conn); err != nil {
		k.log.Warn("what a killed daemon left behind could not be removed", "err", err)
	} else if len(removed) > 0 {
		k.log.Info("removed what a killed daemon left behind", "what", removed)
	}
	// From here on, a cleanup of others knows the interface for that of a running node.
	if err := k.iface.setNumber(unix.IFLA_GROUP, adapterGroup); err != nil {
		return err
	}
	if err := k.protect(); err != nil {
		return err
	}
	if err := k.startIP4(); err != nil {
		return err
	}
	found, err := k.look()
	if err != nil {
		return err
	}
	for _, f := range k.faults(found) {
		if err := f.mend(); err != nil {
			return fmt.Errorf("%s: %w", f.back, err)
		}
	}
	k.finish(found.link)
	return k.untilLocal(localLimit)
}

// alone makes sure that nobody else has a queue of a TUN device. Between its making and its getting
// an owner, another user could have taken one.
func alone(index, queues int) error {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	if t, ok := l.(*netlink.Tuntap); ok && queues != 0 && t.Queues > queues {
		return fmt.Errorf("%d of its queues are another program's; try: find out which by lsof /dev/net/tun", t.Queues-queues)
	}
	return nil
}

// protect makes the guard, or what there is in its place.
func (k *Keeper) protect() (err error) {
	k.applied = reach{map[netip.Addr]bool{}, map[netip.Addr]bool{}, map[way]bool{}}
	if k.guard, err = openGuard(k.iface.index, k.settings.ULA); err != nil {
		k.log.Warn("nf_tables is not available: "+noGuardText, "err", err)
		k.rule = &policy{k.iface.conn, k.iface.index}
		if err := k.rule.add(); err != nil {
			k.log.Warn("the policy rule cannot be made: routes of other programs can lead peers' packets elsewhere", "err", err)
		}
	}
	k.applied = k.reach(k.settings.Wanted)
	return k.setGuard()
}

// noGuardText says what is missing without a guard.
const noGuardText = "machines on the LAN can send packets to this node's ULA, and can pretend to be peers; only outgoing packets are protected, by a policy rule"

// reach returns what is wanted in the form in which the kernel has it.
func (k *Keeper) reach(w Wanted) reach {
	r := reach{make(map[netip.Addr]bool, len(w.Peers)), make(map[netip.Addr]bool, len(w.Aliases)), make(map[way]bool, len(w.Peers)+len(w.Zones))}
	for _, z := range w.Zones {
		r.ways[way{z.Masked(), unix.RT_TABLE_MAIN}] = true
	}
	for _, a := range w.Peers {
		r.peers[a] = true
		for _, table := range k.tables() {
			r.ways[way{netip.PrefixFrom(a, 128), table}] = true
		}
	}
	k.reachIP4(w, r)
	return r
}

// tables are those that routes to peers are in.
func (k *Keeper) tables() []uint32 {
	if k.rule == nil {
		return []uint32{unix.RT_TABLE_MAIN}
	}
	return []uint32{unix.RT_TABLE_MAIN, k.rule.table()}
}

// Close gives everything back that does not go with the interface.
func (k *Keeper) Close() error {
	var errs []error
	if k.rule != nil {
		errs = append(errs, k.rule.remove())
	}
	if k.guard != nil {
		errs = append(errs, k.guard.close())
	}
	errs = append(errs, k.ip4.close())
	if k.iface.conn != nil {
		errs = append(errs, k.iface.conn.close())
	}
	if k.events >= 0 {
		errs = append(errs, unix.Close(k.events))
	}
	return errors.Join(errs...)
}

// Want says what must lead to the adapter from now on. It never waits, and any goroutine
// may call it.
func (k *Keeper) Want(w Wanted) {
	k.mu.Lock()
	k.wanted = w
	k.mu.Unlock()
	tell(k.wake)
}

// State returns how the interface is. Any goroutine may call it.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return State{k.name, k.iface.index, slices.Clone(k.problems), k.refused}
}

// Counters returns how many packets the guard has dropped, none if there is no guard. Any
// goroutine may call it.
func (k *Keeper) Counters() map[string]uint64 {
	if k.guard == nil {
		return nil
	}
	c, err := k.guard.counters()
	if err != nil {
		k.log.Debug("the counters of nf_tables cannot be read", "err", err)
	}
	k.mu.Lock()
	fourth := k.guard4
	k.mu.Unlock()
	if fourth != nil {
		more, _ := fourth.counters() // an error: it ends just now
		for name, n := range more {
			c[name] += n
		}
	}
	return c
}

// goneGrace is how long Run waits before it ends because the interface is gone. The
// device notices that by itself, if it was removed, and knows the reason better.
const goneGrace = time.Second

// Run keeps the interface until ctx ends. It returns an error when the interface has gone
// to another network namespace.
func (k *Keeper) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watching.Go(func() { k.watch(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	var rested time.Time // when the next look may begin
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
			if err := k.apply(); err != nil {
				k.log.Debug("not all routes and peers are set", "err", err)
				timer.Reset(paceShortest) // what is missing is a fault, and has its retries
			}
			continue // the kernel announces it, and that is looked at
		case <-k.changed:
			if wait := time.Until(rested); wait > 0 {
				timer.Reset(wait)
				continue
			}
		case <-timer.C:
		}
		start := time.Now()
		again, gone := k.mend(start)
		if gone {
			return k.gone(ctx)
		}
		rested = time.Now().Add(min(restFactor*time.Since(start), restLongest))
		if again > 0 {
			timer.Reset(again)
		}
	}
}

// The rest between two looks is so many times longer than a look, within a bound. A look
// takes longer with many peers. A flood of announcements, such as a neighbour on the LAN
// can cause, costs one twentieth of a core.
const (
	restFactor  = 20
	restLongest = time.Second
)

// gone returns the reason of the end.
func (k *Keeper) gone(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(goneGrace):
	}
	return fmt.Errorf("the interface %s was moved to another network namespace; try: start the daemon there: ip netns exec NAME anode daemon", k.State().Name)
}

// watch notes that the kernel announced a change that may be about the interface.
func (k *Keeper) watch(ctx context.Context) {
	socket := os.NewFile(uintptr(k.events), "netlink")
	k.events = -1
	err := watch(ctx, socket, source{
		news:   func(b []byte) bool { return concerns(b, k.iface.index, k.settings.IP4.Range) },
		passes: func(err error) bool { return errors.Is(err, unix.ENOBUFS) }, // look all the same
		// Programs that connect before a route is back choose a wrong source, and fail.
		patience: patience{20 * time.Millisecond, 200 * time.Millisecond},
	}, func() { tell(k.changed) })
	if err != nil {
		k.mu.Lock()
		k.blind = err
		k.mu.Unlock()
		tell(k.changed) // reports it
	}
}

// concerns reports whether announcements may be about an interface or about a route that
// competes with one to it: any in fc00::/7, where the overlay is, or in the range of our alias.
func concerns(b []byte, index int, aliases netip.Prefix) bool {
	concerned := false
	err := eachMessage(b, func(h header, body []byte) bool {
		switch h.kind {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			concerned = len(body) >= 8 && number(body[4:]) == index
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			p, of, ok := parseAddr(body)
			concerned = ok && (of == index || p.Overlaps(aliases))
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			r, ok := parseRoute(body)
			concerned = ok && (r.index == index || r.to.Addr().Is6() && r.to.Addr().IsPrivate() || r.to.Overlaps(aliases) && r.to.Bits() > halves)
		default:
			concerned = true
		}
		return !concerned
	})
	return concerned || err != nil
}

// apply makes the kernel have what is wanted now. The guard knows a new peer before there
// is a route to it.
func (k *Keeper) apply() error {
	k.mu.Lock()
	next := k.reach(k.wanted)
	k.mu.Unlock()
	add, remove := difference(k.applied.ways, next.ways), difference(next.ways, k.applied.ways)
	k.applied = next
	return errors.Join(k.setGuard(), k.iface.addRoutes(add), k.iface.removeRoutes(remove))
}

// setGuard makes the guards, as far as there are some, know the peers.
func (k *Keeper) setGuard() error {
	if k.guard == nil {
		return nil
	}
	return errors.Join(k.guard.set(k.applied.peers), k.setGuard4())
}

// difference lists what to has and from has not, sorted.
func difference(from, to map[way]bool) []way {
	var list []way
	for w := range to {
		if !from[w] {
			list = append(list, w)
		}
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		return cmp.Or(cmp.Compare(a.table, b.table), a.to.Compare(b.to)) < 0
	})
	return list
}

// found is what the kernel has.
type found struct {
	link   linkState
	addrs  []netip.Prefix
	addrs4 []netip.Prefix
	ways   map[way]bool // the value says whether it is ours
	noRule bool
	rival  string // who uses addresses of our alias's range; "": nobody
}

func (k *Keeper) look() (f found, err error) {
	if f.link, err = k.iface.link(); err != nil {
		return f, err
	}
	if f.addrs, err = k.iface.addresses(unix.AF_INET6); err != nil {
		return f, fmt.Errorf("reading the addresses: %w", err)
	}
	if f.ways, err = k.iface.routes(allIP6, k.tables()...); err != nil {
		return f, fmt.Errorf("reading the routes: %w", err)
	}
	if err := k.lookIP4(&f); err != nil {
		return f, fmt.Errorf("reading what there is of IPv4: %w", err)
	}
	if k.rule != nil {
		if f.noRule, err = k.rule.missing(); err != nil {
			return f, fmt.Errorf("reading the rules: %w", err)
		}
	}
	return f, nil
}

// mendPasses is how often one repair looks again, for what a repair uncovers: an
// interface that is up again lacks its routes.
const mendPasses = 3

// mend compares what the kernel has with what is wanted and repairs it. It returns after
// which time to look again, 0 for not before something changes.
func (k *Keeper) mend(now time.Time) (again time.Duration, gone bool) {
	r := repair{done: map[string]bool{}}
	for range mendPasses {
		have, err := k.look()
		if errors.Is(err, errGone) || errors.Is(err, unix.ENODEV) { // before the look, or during it
			return 0, true
		}
		if err != nil {
			k.log.Error("the adapter's settings cannot be read", "err", err)
			return paceLongest, false
		}
		k.finish(have.link)
		if k.settleIP4(have.rival) {
			continue // that changed what there is
		}
		if !r.pass(k, k.faults(have), now) {
			break
		}
		again = paceShortest // see whether it lasts
	}
	r.tell(k.log, k.State().Name)
	if len(r.found) > 0 && k.mended != nil {
		k.mended()
	}
	for _, f := range r.left {
		again = shorter(again, k.pace(f.code).due(now))
		r.problems = append(r.problems, k.undone(f, now)...)
	}
	if len(r.left) == 0 && len(r.problems) == 0 {
		r.problems = k.diverted()
	}
	k.report(r.problems)
	return again, false
}

// repair is what one look has found and mended, in words.
type repair struct {
	done        map[string]bool // by the code of a fault
	found, back []string
	problems    []Problem // what could not be mended
	left        []fault   // what has to wait, of the last pass
}

// pass mends what may be mended now, each kind once, and reports whether there was any.
func (r *repair) pass(k *Keeper, faults []fault, now time.Time) (mended bool) {
	r.left = nil
	for _, f := range faults {
		p := k.pace(f.code)
		switch {
		case r.done[f.code]:
			continue
		case p.due(now) > 0:
			r.left = append(r.left, f)
			continue
		}
		p.mended(now)
		mended, r.done[f.code] = true, true
		r.found, r.back = append(r.found, f.found), append(r.back, f.back)
		if p.failed = f.mend(); p.failed != nil {
			r.problems = append(r.problems, f.problem(p.failed))
		}
	}
	return mended
}

// tell writes one line about all that was mended.
func (r *repair) tell(log *slog.Logger, name string) {
	if len(r.found) == 0 {
		return
	}
	args := []any{"name", name, "found", strings.Join(r.found, ", "), "restored", strings.Join(r.back, ", ")}
	for _, p := range r.problems {
		args = append(args, "failed", p.Text)
	}
	log.Warn("another program changed the adapter", args...)
}

// undone is the problem of a fault that waits for its time. One that was mended and has
// only just begun to come back is none yet.
func (k *Keeper) undone(f fault, now time.Time) []Problem {
	p := k.pace(f.code)
	switch {
	case p.failed != nil:
		return []Problem{f.problem(p.failed)}
	case p.streak <= paceFree:
		return nil
	}
	return []Problem{{f.code, fmt.Sprintf("%s; another program does it again and again; next try in %v", f.found, p.due(now).Round(time.Second))}}
}

// report publishes the problems.
func (k *Keeper) report(problems []Problem) {
	if k.guard == nil {
		problems = append(problems, Problem{ProblemGuard, "nf_tables is not available: " + noGuardText})
	}
	k.mu.Lock()
	if k.refused != "" {
		problems = append(problems, Problem{ProblemIP4, k.refused})
	}
	if k.blind != nil {
		problems = append(problems, Problem{ProblemWatch, "changes of the interface cannot be watched: " + k.blind.Error()})
	}
	sort.Slice(problems, func(i, j int) bool { return problems[i].Code < problems[j].Code })
	before := k.problems
	k.problems = problems
	k.mu.Unlock()
	for _, p := range problems {
		if !slices.ContainsFunc(before, func(b Problem) bool { return b.Code == p.Code }) {
			k.log.Warn("the adapter has a problem", "code", p.Code, "problem", p.Text)
		}
	}
	for _, p := range before {
		if !slices.ContainsFunc(problems, func(b Problem) bool { return b.Code == p.Code }) {
			k.log.Info("the adapter's problem is gone", "code", p.Code)
		}
	}
}

// divertedSample is of how many peers the way is looked at after each change.
const divertedSample = 64

// diverted is the problem that the kernel would send packets for peers elsewhere.
func (k *Keeper) diverted() []Problem {
	addrs := slices.SortedFunc(maps.Keys(k.applied.peers), netip.Addr.Compare)
	for _, a := range addrs[:min(len(addrs), divertedSample)] {
		index, err := k.iface.conn.leadsTo(a)
		if err != nil {
			return []Problem{{ProblemDiverted, fmt.Sprintf("a route or rule of another program refuses packets for %s: %v", a, err)}}
		}
		if index == k.iface.index || index == loopbackIndex { // where another node of this machine is
			continue
		}
		other := iface{conn: k.iface.conn, index: index}
		if s, err := other.link(); err == nil && s.group != adapterGroup {
			return []Problem{{ProblemDiverted, fmt.Sprintf("a route or rule of another program leads packets for %s to %s; %s", a, s.name, k.fate())}}
		}
	}
	return nil
}

// fate says what becomes of packets that are led elsewhere.
func (k *Keeper) fate() string {
	if k.guard != nil {
		return "they are dropped there"
	}
	return "they leave in clear"
}

// finish takes over the interface's name.
func (k *Keeper) finish(s linkState) {
	k.mu.Lock()
	old := k.name
	k.name = s.name
	k.mu.Unlock()
	if old == s.name {
		return
	}
	k.log.Info("the adapter was renamed", "old", old, "name", s.name)
	if k.renamed != nil {
		k.renamed(s.name)
	}
}

// localLimit is how long the kernel may take to accept the address.
const localLimit = 2 * time.Second

// untilLocal waits until packets to the address are taken as ours. The kernel
// completes an address in a work queue, also without duplicate address detection, and
// drops what comes before that.
func (k *Keeper) untilLocal(limit time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if index, err := k.iface.conn.leadsTo(k.settings.ULA); err == nil && index == loopbackIndex {
			return nil
		}
	}
	return fmt.Errorf("wait for the address: the kernel did not accept it within %v", limit)
}

func configureError(ifname string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w %s: %w (CAP_NET_ADMIN is needed)", ErrConfigure, ifname, err)
	}
	return fmt.Errorf("%w %s: %w", ErrConfigure, ifname, err)
}

// shorter returns the shorter time, where 0 is never.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}
