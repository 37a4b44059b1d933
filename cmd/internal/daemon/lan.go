package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/alias"
	"anodenet/overlay/book"
	"anodenet/platform"
)

// virtualLAN is the system's part of the virtual LAN: our IPv4 alias, what leads to the adapter beside the
// peers' ULAs, and the groups that programs joined there.
type virtualLAN struct {
	log     *slog.Logger
	aliases *alias.Table                          // nil: no IPv4
	reports chan struct{}                         // holds one: the groups may have changed
	read    func(index int) ([]netip.Addr, error) // the groups that programs joined on an interface

	used       bool // at the start: somebody is in it, or games are on
	configured bool // games, as the configuration says; owned by whoever reloads

	mu      sync.Mutex
	routes  *routes // nil: before the adapter is there
	games   bool
	refused string // why there is no IPv4; "": there is
	former  former
}

func newLAN(c config.LAN, self anode.ULA, entries []book.Entry, log *slog.Logger) *virtualLAN {
	l := &virtualLAN{log: log, reports: make(chan struct{}, 1), read: platform.Groups, games: c.Games, configured: c.Games,
		used: c.Games || c.Peers == config.LANAll || slices.ContainsFunc(entries, func(e book.Entry) bool { return e.LAN })}
	if c.IP4.IsValid() {
		l.aliases = alias.New(c.IP4.Prefix, self)
		var peers []anode.ULA
		for _, e := range entries {
			if e.Standing() == book.Added {
				peers = append(peers, e.Address.ULA())
			}
		}
		l.aliases.Set(peers)
	}
	return l
}

// ip4 is the alias in the form that the system takes.
func (l *virtualLAN) ip4() platform.IP4 {
	if l.aliases == nil {
		return platform.IP4{}
	}
	return platform.IP4{Alias: l.aliases.Self(), Range: l.aliases.Range()}
}

// add completes what is wanted of the adapter.
func (l *virtualLAN) add(w platform.Wanted, entries []book.Entry) platform.Wanted {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Games = l.games
	if l.aliases == nil {
		return w
	}
	for _, e := range entries {
		if e.Standing() != book.Added {
			continue
		}
		if a, ok := l.aliases.Alias(e.Address.ULA()); ok {
			w.Aliases = append(w.Aliases, netip.AddrFrom4(a))
		}
	}
	w.Aliases = append(w.Aliases, l.former.without(w.Aliases)...)
	return w
}

// former are the aliases that are no peer's any more. Programs may still send to them, and the default
// route would lead that into the internet, in clear. So they lead to the adapter for as long as it is
// there, which answers that the host cannot be reached.
type former struct {
	now  []netip.Addr // a peer's
	past []netip.Addr // no peer's any more, the latest last
}

// formerMost is how many are kept; the latest stay.
const formerMost = 1024

// without takes the aliases that peers have now, and returns those that they had before and have no more. The
// result is valid until the next call.
func (f *former) without(now []netip.Addr) []netip.Addr {
	has := make(map[netip.Addr]bool, len(now))
	for _, a := range now {
		has[a] = true
	}
	f.past = slices.DeleteFunc(f.past, func(a netip.Addr) bool { return has[a] })
	for _, a := range f.now {
		if !has[a] {
			f.past = append(f.past, a)
		}
	}
	f.past = slices.Delete(f.past, 0, max(len(f.past)-formerMost, 0))
	f.now = slices.Clone(now)
	return f.past
}

// follow has changes lead to other routes.
func (l *virtualLAN) follow(r *routes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routes = r
}

// ethernet reports whether the adapter is made like one of Ethernet. Whoever shares a virtual LAN wants
// programs to take the interface for a LAN's. Others are spared the programs that would ask for addresses
// there.
func (l *virtualLAN) ethernet() bool { return l.used && runtime.GOOS == "linux" }

// again has the routes made anew.
func (l *virtualLAN) again() {
	l.mu.Lock()
	r := l.routes
	l.mu.Unlock()
	if r != nil {
		r.want()
	}
}

// refuse notes why IPv4 does not work, or that it does. Nothing passes while it does not.
func (l *virtualLAN) refuse(why string) {
	l.aliases.Pause(why != "")
	l.mu.Lock()
	l.refused = why
	l.mu.Unlock()
	l.again()
}

// report notes that programs joined or left a group. It never waits.
func (l *virtualLAN) report() {
	select {
	case l.reports <- struct{}{}:
	default:
	}
}

// View implements control.LAN.
func (l *virtualLAN) View() control.LANView {
	l.mu.Lock()
	defer l.mu.Unlock()
	return control.LANView{Games: l.games, Adapter: l.routes != nil, LikeLAN: l.routes != nil && l.ethernet(), IP4Refused: l.refused}
}

// SetGames implements control.LAN.
func (l *virtualLAN) SetGames(on bool) error {
	l.mu.Lock()
	switch {
	case l.routes == nil:
		l.mu.Unlock()
		return &control.Error{Code: control.CodeRefused, Message: "there is no adapter", Try: "run the daemon without --tun none"}
	case on && l.aliases == nil:
		l.mu.Unlock()
		return &control.Error{Code: control.CodeRefused, Message: "IPv4 aliases are off", Try: "[lan] ip4 = \"" + alias.Range.String() + "\""}
	}
	l.games = on
	l.mu.Unlock()
	l.again()
	return nil
}

// takeLAN takes up the settings of the virtual LAN that can change.
func (d *daemon) takeLAN(ctx context.Context, c config.Config) error {
	var err error
	if was := d.lan.configured; was != c.LAN.Games && d.adapter != nil {
		err = d.lan.SetGames(c.LAN.Games)
	}
	d.lan.configured = c.LAN.Games
	return errors.Join(err, d.node.SetLANAll(ctx, c.LAN.Peers == config.LANAll))
}

// The groups are read so long after they began to change, and at most so often.
const (
	groupsQuiet = 50 * time.Millisecond
	groupsPause = time.Second
)

// groupNode is what takes the groups; *overlay.Node is.
type groupNode interface {
	SetGroups(ctx context.Context, groups []netip.Addr) error
}

// run tells the node which groups programs have joined, at the start and after each report of the
// system, until ctx ends.
func (l *virtualLAN) run(ctx context.Context, node groupNode, index func() int) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C: // what came meanwhile is read now
		}
		select {
		case <-l.reports:
		default:
		}
		if err := l.tell(ctx, node, index()); err != nil {
			l.log.Warn("the groups that programs joined cannot be read: members of the virtual LAN do not send what goes to them", "err", err)
			if errors.Is(err, errors.ErrUnsupported) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(groupsPause - groupsQuiet):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.reports:
			wait.Reset(groupsQuiet)
		}
	}
}

func (l *virtualLAN) tell(ctx context.Context, node groupNode, index int) error {
	groups, err := l.read(index)
	if err != nil {
		return err
	}
	if err := node.SetGroups(ctx, groups); err != nil && ctx.Err() == nil && !errors.Is(err, overlay.ErrClosed) {
		return err
	}
	return nil
}

// followLinks has the groups read again when links or addresses change, since programs lose groups with
// the link.
func (l *virtualLAN) followLinks(ctx context.Context) error {
	if err := platform.Watch(ctx, l.report); err != nil {
		l.log.Warn("changes of links are not noticed by the virtual LAN", "err", err)
	}
	return nil
}
