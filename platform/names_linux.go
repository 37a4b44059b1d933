package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// namesLimit is how long Apply, Revert and Flush may take.
const namesLimit = 2 * time.Second

// systemNames tells systemd-resolved by D-Bus.
//
//	Apply, Revert, Flush, Run --work--> one connection --> resolve1, or network1
//	                                         |
//	Run <-- a service has come or gone ------'-- closed: connect again, with growing pauses
//
// There is a connection as long as settings are wanted. Nothing runs while nothing happens.
type systemNames struct {
	log  *slog.Logger
	root fs.FS // the files that tell of other managers

	changed chan struct{} // holds one: a service has come or gone
	news    chan struct{} // holds one: there is another connection, or the result of an Apply

	work    chan struct{} // holds one: who has taken it may use what follows
	bus     *bus          // nil: none
	applied service       // who has our settings; zero: nobody
	link    int           // that they are on

	mu     sync.Mutex
	wanted *NameSettings // nil: none
	report NameReport
	known  bool  // the report is of an Apply
	failed error // of the last Apply
	fresh  bool  // Run does not know it yet
}

// NewNames returns the one of this system. It does nothing yet.
func NewNames(log *slog.Logger) Names {
	return &systemNames{
		log: log, root: os.DirFS("/"),
		changed: make(chan struct{}, 1), news: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
}

// begin takes the connection, for at most namesLimit. The caller calls end.
func (n *systemNames) begin(ctx context.Context) (limited context.Context, end func(), err error) {
	limited, cancel := context.WithTimeout(ctx, namesLimit)
	select {
	case n.work <- struct{}{}:
		return limited, func() { <-n.work; cancel() }, nil
	case <-limited.Done():
		cancel()
		return nil, nil, fmt.Errorf("names: %w", limited.Err())
	}
}

// Apply implements Names.
func (n *systemNames) Apply(ctx context.Context, s NameSettings) error {
	if err := s.check(); err != nil {
		return err
	}
	limited, end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s = s.clone()
	n.mu.Lock()
	n.wanted = &s
	n.mu.Unlock()
	err = n.apply(limited, s)
	n.mu.Lock()
	n.failed, n.fresh = err, true
	n.mu.Unlock()
	tell(n.news)
	return err
}

// apply holds work.
func (n *systemNames) apply(ctx context.Context, s NameSettings) error {
	r, err := n.negotiate(ctx, s)
	n.mu.Lock()
	before, known := n.report, n.known
	n.report, n.known = r, true
	n.mu.Unlock()
	if known && before == r {
		return err
	}
	if err != nil {
		n.log.Debug("names: programs cannot use them yet", "manager", r.Manager, "why", r.Why, "err", err)
	} else {
		n.log.Info("names: the system asks this node", "manager", r.Manager, "server", s.Server, "domains", s.Domains)
	}
	return err
}

// negotiate has resolved take the settings, or networkd if the link is its.
func (n *systemNames) negotiate(ctx context.Context, s NameSettings) (NameReport, error) {
	b, err := n.connect(ctx)
	if err != nil {
		return foreignReport(findForeign(n.root), noBus), fmt.Errorf("names: D-Bus: %w", err)
	}
	if n.applied != (service{}) && n.link != s.Link {
		_ = b.revert(ctx, n.applied, n.link) // mostly gone
		n.applied = service{}
	}
	for _, to := range []service{resolve1, network1} {
		err = b.configure(ctx, to, s)
		if err == nil {
			n.applied, n.link = to, s.Link
			return NameReport{Manager: to.manager, Applied: true}, nil
		}
		if to == resolve1 && refusalOf(err) != refusedBusy {
			break
		}
	}
	return n.refused(ctx, b, s, err), fmt.Errorf("names: %w", err)
}

// refused describes an error of configure.
func (n *systemNames) refused(ctx context.Context, b *bus, s NameSettings, err error) NameReport {
	var at *callError
	if !errors.As(err, &at) {
		return NameReport{Manager: ManagerNone, Why: err.Error()}
	}
	switch refusalOf(err) {
	case refusedAbsent:
		if at.to == network1 {
			return busyReport(s.Name)
		}
		found := findForeign(n.root)
		if b.networkManagerMode(ctx) == "dnsmasq" {
			found = otherNames{ManagerNetworkManager, PageNM}
		}
		return foreignReport(found, noResolved)
	case refusedDenied:
		return deniedReport(at.to.manager, b.systemdVersion(ctx))
	}
	if at.to == network1 {
		return busyReport(s.Name)
	}
	return NameReport{Manager: at.to.manager, Why: fmt.Sprintf("%s refused the settings (%s): %v", at.to.manager, at.method, plainBusError(at.err)),
		Try: "systemctl status systemd-resolved; it is tried again when systemd-resolved restarts"}
}

// connect returns the connection. It holds work.
func (n *systemNames) connect(ctx context.Context) (*bus, error) {
	if n.bus != nil && n.bus.Connected() {
		return n.bus, nil
	}
	n.disconnect()
	b, err := dialBus(ctx, n.changed)
	if err != nil {
		return nil, err
	}
	n.bus = b
	tell(n.news)
	return b, nil
}

// disconnect holds work.
func (n *systemNames) disconnect() {
	if n.bus == nil {
		return
	}
	n.bus.Close()
	n.bus = nil
	tell(n.news)
}

// Revert implements Names.
func (n *systemNames) Revert(ctx context.Context) error {
	limited, end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	n.mu.Lock()
	n.wanted, n.report, n.known = nil, NameReport{}, false
	n.mu.Unlock()
	defer n.disconnect()
	if n.applied == (service{}) {
		return nil
	}
	from := n.applied
	n.applied = service{}
	b, err := n.connect(limited)
	if err != nil {
		return fmt.Errorf("names: D-Bus: %w", err)
	}
	if err := b.revert(limited, from, n.link); err != nil {
		return fmt.Errorf("names: %w", err)
	}
	return nil
}

// Flush implements NameFlusher.
func (n *systemNames) Flush(ctx context.Context) error {
	limited, end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if n.applied == (service{}) {
		return nil // nobody asked us
	}
	b, err := n.connect(limited)
	if err == nil {
		err = b.call(limited, resolve1, "FlushCaches")
	}
	if err != nil {
		return fmt.Errorf("names: %w", err)
	}
	return nil
}

// Describe implements Names. Where nobody was told it looks who is there now: at a boot, other managers
// start after us.
func (n *systemNames) Describe() NameReport {
	n.mu.Lock()
	r, known := n.report, n.known
	n.mu.Unlock()
	if known && (r.Applied || r.Manager == ManagerResolved || r.Manager == ManagerNetworkd) {
		return r
	}
	ctx, cancel := context.WithTimeout(context.Background(), namesLimit)
	defer cancel()
	b, err := dialBus(ctx, make(chan struct{}, 1))
	if err != nil {
		return foreignReport(findForeign(n.root), noBus)
	}
	defer b.Close()
	if b.runs(ctx, resolve1.name) {
		return NameReport{Manager: ManagerResolved, Why: "nothing was asked of it yet"}
	}
	return n.refused(ctx, b, NameSettings{}, &callError{resolve1, "", errAbsent})
}

// retries are the pauses before connecting again to a bus that went, or trying again what
// failed for a reason that passes. After the last one, only an Apply or the bus itself counts.
func retries() []time.Duration {
	const first, longest, count = 100 * time.Millisecond, 10 * time.Second, 12
	list := make([]time.Duration, 0, count)
	for d := first; len(list) < count; d = min(2*d, longest) {
		list = append(list, d)
	}
	return list
}

// errLost is why Run connects again.
var errLost = errors.New("the connection to D-Bus was lost")

// Run implements Names.
func (n *systemNames) Run(ctx context.Context) error {
	defer n.leave()
	left := retries()
	timer := time.NewTimer(0)
	timer.Stop()
	later := func(err error) {
		timer.Stop()
		if passing(err) && len(left) > 0 {
			timer.Reset(left[0])
			left = left[1:]
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.news:
			if err, fresh := n.outcome(); fresh {
				left = retries()
				later(err)
			}
		case <-n.changed:
			left = retries()
			later(n.reapply(ctx))
		case <-n.lost(ctx):
			n.dropLost()
			later(errLost)
		case <-timer.C:
			err := n.reapply(ctx)
			if err == nil {
				left = retries()
			}
			later(err)
		}
	}
}

// outcome returns the result of the last Apply, and whether it is new.
func (n *systemNames) outcome() (err error, fresh bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	err, fresh = n.failed, n.fresh
	n.fresh = false
	return err, fresh
}

// lost returns what is closed when the connection is lost; nil: there is none.
func (n *systemNames) lost(ctx context.Context) <-chan struct{} {
	select {
	case n.work <- struct{}{}:
		defer func() { <-n.work }()
	case <-ctx.Done():
		return nil
	}
	if n.bus == nil {
		return nil
	}
	return n.bus.Context().Done()
}

// dropLost forgets a connection that was lost.
func (n *systemNames) dropLost() {
	n.work <- struct{}{}
	defer func() { <-n.work }()
	if n.bus != nil && !n.bus.Connected() {
		n.disconnect()
	}
}

// reapply does the last Apply again, if it still counts.
func (n *systemNames) reapply(ctx context.Context) error {
	limited, end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	n.mu.Lock()
	wanted := n.wanted
	n.mu.Unlock()
	if wanted == nil {
		return nil
	}
	return n.apply(limited, *wanted)
}

// leave closes the connection: nobody watches it any more.
func (n *systemNames) leave() {
	n.work <- struct{}{}
	n.disconnect()
	<-n.work
}

// passing reports whether an error is of a kind that passes without an announcement.
func passing(err error) bool {
	if err == nil {
		return false
	}
	switch refusalOf(err) {
	case refusedAbsent, refusedDenied, refusedBusy, refusedUnknown:
		return false // a service that comes is announced; the others stay so
	}
	return true
}

// errAbsent is what the bus answers for a service that does not run.
var errAbsent = dbus.Error{Name: "org.freedesktop.DBus.Error.ServiceUnknown"}
