// Package daemon puts a node together and runs it:
//
//	state directory -> store, which keeps a second daemon out
//	                -> identity
//	configuration   -> adapter (tun, platform) -> node -> Info2 -> control socket
//
// Things are opened in this order, and closed in the other when the context ends,
// a "stop" comes over the control socket, or one of them fails.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/chat"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/logs"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/portmap"
	"anodenet/platform"
	"anodenet/tun/gateway"
)

// Options are the settings of a daemon.
type Options struct {
	State  string // directory, or NoState
	Socket string
	Source config.Source // read at the start, and again at each hangup
	Log    io.Writer     // a *logs.Writer's lost lines are reported and counted
	// Handler makes the handler of the log in the format text; nil: the usual one, to Log.
	Handler func(slog.Leveler) slog.Handler
	Version string
	Hangup  <-chan os.Signal // SIGHUP; nil: never
	// Ready is called in its own goroutine when everything runs, and must return when its
	// context ends. It may be nil.
	Ready func(ctx context.Context, node *overlay.Node)
	// Doors is called before Ready with what the configuration joins programs and peers by. It
	// may be nil.
	Doors func([]proxy.Status)
	// People is called with what people said and did elsewhere, such as that somebody asks to be let
	// in. It must not block. It may be nil: then the log has it.
	People func(Occasion)
	// Ending is called when the daemon begins to end. It may be nil.
	Ending func()
	// ReadOnly means that the state directory is read, and changes are kept in memory.
	ReadOnly bool
	// Made is called with the state directory if a new identity was made. It may be nil.
	Made func(state string)
	// Network is where sockets come from; nil is the operating system.
	Network link.Network
	// Resolve finds the addresses of host names; nil is the operating system.
	Resolve Resolver

	fetchZone func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error) // nil: from the web
}

// Run runs a daemon until ctx ends. Errors at the start wrap store.ErrStateBusy,
// control.ErrInUse, config.ErrInvalid or the system's errors.
func Run(ctx context.Context, o Options) (err error) {
	cfg, err := o.Source.Read()
	if err != nil {
		return err
	}
	if err := checkNew(o.State, cfg); err != nil {
		return err
	}
	log, settings := newLogger(o.Log, cfg.Log, o.Handler)

	store, identity, err := openState(o, cfg.Zone.Zone, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := checkZone(o.State, cfg, identity.Address().Zone()); err != nil {
		return err
	}
	listener, err := control.Listen(o.Socket)
	if errors.Is(err, syscall.EACCES) {
		err = fmt.Errorf("%w; try: sudo; or --socket PATH where this user can write", err)
	}
	if err != nil {
		return err
	}
	d := &daemon{options: o, clock: clock{}, cfg: cfg, log: log, settings: settings, store: store, identity: identity, listener: listener}
	if err := d.open(); err != nil {
		listener.Close()
		return err
	}
	return d.run(ctx)
}

// daemon holds everything that was opened.
type daemon struct {
	options  Options
	clock    overlay.Clock
	cfg      config.Loaded // as at the start
	log      *slog.Logger
	settings *logSettings
	store    state
	book     *book.Book
	identity *anode.Identity
	listener net.Listener
	adapter  *adapter         // nil: none
	gateway  *gateway.Gateway // with the adapter
	node     *overlay.Node
	chat     *talk
	ports    *ports // nil: no router is asked
	lan      *virtualLAN
	zones    *zones
	proxies  proxies
	local    *proxy.Service
	secret   *secret
	people   *peopleService
	names    *nameService
}

// open makes the text networks, the adapter and the node.
func (d *daemon) open() error {
	var err error
	if d.secret, err = openSecret(d.cfg.Secret, d.options); err != nil {
		return fmt.Errorf("the network's secret: %w", err)
	}
	if err := d.proxies.set(d.cfg.Config); err != nil {
		return err
	}
	var ula netip.Addr
	if d.cfg.Tun.Name != config.NoTun {
		ula = d.identity.Address().ULA().Addr()
	}
	d.chat, err = newTalk(chat.Config{
		Settings: d.cfg.Info2, ULA: ula, Node: chatNode{d}, Store: d.store, Watch: platform.Watch, Log: d.log,
		Adapter: chat.FromULA(ula, func() int { return d.adapter.keeper.State().Index }), Bare: chat.FromIPv4(),
	})
	if err != nil {
		return err
	}
	system := &link.System{Rung: d.cfg.Link.Rung.String(), Log: d.log, Notify: platform.Watch}
	network := d.options.Network
	if network == nil {
		network = system
	}
	fixed, err := fixedPeers(d.cfg, d.identity.Address())
	if err != nil {
		return err
	}
	var report book.Report
	if d.book, report, err = book.Open(d.identity.Address(), d.store, fixed); err != nil {
		return err
	}
	for _, problem := range report {
		d.log.Warn("peers", "err", problem)
	}
	off, err := portmap.ParsePlaces(d.cfg.PortmapOff)
	if err != nil {
		return err
	}
	self := d.identity.Address()
	entries := d.book.Entries()
	d.lan = newLAN(d.cfg.LAN, self.ULA(), entries, d.log)
	discovery, err := discoveryOf(d.cfg.Discovery)
	if err != nil {
		return err
	}
	d.zones = d.newZones()
	d.names = d.newNames()
	if d.people, err = d.newPeople(d.secret, d.names.offers, d.options.People); err != nil {
		return err
	}
	d.names.friends, d.people.offered = d.people.friendServices, d.names.again
	limits := relayLimits(d.cfg.Relay)
	c := overlay.Config{
		Identity:    d.identity,
		Book:        d.book,
		Network:     network,
		Port:        d.cfg.Listen.Port,
		TCP:         d.cfg.Listen.TCP.For(d.cfg.Listen.Port),
		Ethernet:    d.cfg.Link.Ethernet,
		Proxy:       overlay.Proxy{Choose: d.proxies.proxyOf, Credentials: d.proxies.credentials},
		Web:         &d.zones.site.web,
		Open:        d.cfg.Policy.Open,
		PSK:         d.secret.get(),
		People:      d.people,
		StandardAES: d.cfg.Link.StandardAES,
		Relay:       d.cfg.Relay.Enabled,
		RelayZones:  relayZones(d.cfg.Relay, d.identity.Address()),
		RelayLimits: &limits,
		Clock:       d.clock,
		Log:         d.log,
		Version:     d.options.Version,
		Counters:    d.counters,
		WantZone:    d.zones.Want,
		Known:       d.names.known,
		Discovery:   discovery,
		LAN:         overlay.LANConfig{All: d.cfg.LAN.Peers == config.LANAll},
	}
	if d.cfg.Tun.Name != config.NoTun {
		d.adapter, err = openAdapter(d.cfg.Tun, self, d.lan.add(wanted(self.Zone(), entries), entries), d.lan, d.log, func(name string) { system.Exclude(name) }, d.names.mended)
		if err != nil {
			return err
		}
		system.Exclude(d.adapter.Name())
		d.gateway = d.newGateway()
		c.Device, c.Queues, c.Incoming, c.Gateway = d.adapter, d.adapter.queues(), d.adapter.Incoming(), joined{d.gateway}
		c.Aliases = d.lan.aliases
	}
	if d.node, err = overlay.New(c); err != nil {
		if d.adapter != nil {
			err = errors.Join(err, d.adapter.Close(), d.adapter.release())
		}
		return err
	}
	d.people.node = d.node
	d.ports = d.newPorts(network, off)
	return d.openLocal()
}

// task is one service of the daemon. run returns nil when its context has ended; an
// error ends the daemon.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// tasks are the services, in the order in which they start. stop ends the daemon.
func (d *daemon) tasks(stop func()) []task {
	server := control.NewServer(d.node, d.chat, stop, d.log)
	hosts := d.newHosts()
	server.SetHosts(hosts.look)
	server.ShowZones(d.zones)
	server.ServeLocal(d.local)
	server.ServeLAN(d.lan)
	server.ServePeople(d.people)
	server.ServeNames(d.names)
	service := newService(d.identity.Address().ULA().String())
	reloader := d.newReloader(service)
	list := []task{
		{"node", d.node.Run},
		{"control", func(ctx context.Context) error { return server.Serve(ctx, d.listener) }},
		{"local", d.local.Run},
		{"people", d.people.run},
		{"zone", d.zones.run},
		{"info2", d.chat.Run},
		{"info2 peers", d.followPeers},
		{"host names", hosts.run},
		{"hangup", func(ctx context.Context) error { return reloader.run(ctx, d.options.Hangup) }},
		{"sleep", d.followSleep},
		{"service manager", func(ctx context.Context) error { return service.run(ctx, d.node) }},
	}
	if d.adapter != nil {
		routes := &routes{node: d.node, book: d.book, adapter: d.adapter, own: d.identity.Address().Zone(), lan: d.lan}
		d.lan.follow(routes)
		index := func() int { return d.adapter.keeper.State().Index }
		list = append(list, task{"adapter", d.adapter.keeper.Run}, task{"routes", routes.run},
			task{"groups", func(ctx context.Context) error { return d.lan.run(ctx, d.node, index) }}, task{"links of groups", d.lan.followLinks})
	}
	if d.names.off == "" {
		list = append(list, task{"names", func(ctx context.Context) error { return d.names.run(ctx, d.node.Watch) }})
	}
	if len(d.cfg.STUN) > 0 {
		list = append(list, task{"stun", d.followSTUN})
	}
	if d.ports != nil {
		list = append(list, task{"port mapping", d.ports.run})
	}
	if d.options.Ready != nil {
		list = append(list, task{"ready", func(ctx context.Context) error { d.options.Ready(ctx, d.node); return nil }})
	}
	return list
}

// run starts all services and waits for them.
func (d *daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, t := range d.tasks(func() { cancel(nil) }) {
		running.Go(func() {
			if err := t.run(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", t.name, err))
			}
		})
	}
	d.log.Info("running", "address", d.identity.Address(), "ula", d.identity.Address().ULA(), "version", d.options.Version)

	<-ctx.Done()
	if d.options.Ending != nil {
		d.options.Ending()
	}
	running.Wait()
	if d.adapter != nil {
		_ = d.gateway.Close()
		if err := d.adapter.release(); err != nil {
			d.log.Warn("something of the adapter was left behind", "err", err)
		}
	}
	d.log.Info("stopped")
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// clock is the system's clock; ages include sleep.
type clock struct{}

func (clock) Now() time.Time       { return time.Now() }
func (clock) Since() time.Duration { return platform.BootTime() }

// newLogger makes the logger, and what changes its settings.
func newLogger(w io.Writer, c config.Log, own func(slog.Leveler) slog.Handler) (*slog.Logger, *logSettings) {
	settings := &logSettings{}
	settings.set(c)
	text, json := &slog.HandlerOptions{Level: &settings.level}, &slog.HandlerOptions{Level: &settings.level}
	if platform.InJournal(os.Stderr) {
		text.ReplaceAttr, json.ReplaceAttr = forJournal, withoutTime
	}
	handler := func(w io.Writer) slog.Handler {
		return &either{slog.NewTextHandler(w, text), slog.NewJSONHandler(w, json), &settings.json}
	}
	if own != nil { // it has its own way of reporting lost lines
		return slog.New(&either{own(&settings.level), slog.NewJSONHandler(w, json), &settings.json}), settings
	}
	if q, ok := w.(*logs.Writer); ok {
		q.SetReport(func(w io.Writer, lost uint64) {
			slog.New(handler(w)).Warn("lines of the log were lost: nobody read them", "lines", lost)
		})
	}
	return slog.New(handler(w)), settings
}

// counters are those of the daemon itself, beside the node's.
func (d *daemon) counters() map[string]uint64 {
	c := make(map[string]uint64)
	if q, ok := d.options.Log.(*logs.Writer); ok {
		c["log_lines_lost"] = q.Lost()
	}
	if d.zones != nil {
		d.zones.count(c)
	}
	if d.people != nil {
		d.people.Count(c)
	}
	if d.gateway != nil {
		maps.Copy(c, d.gateway.Counters())
	}
	if d.local != nil {
		d.local.Count(c)
	}
	if d.names != nil && d.names.server != nil {
		d.names.server.Count(c)
	}
	return c
}

// withoutTime leaves out the time, which the journal adds by itself.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// forJournal does that, and has the line begin with its priority (sd-daemon(3)), which the journal takes
// off: journalctl -p warning finds it.
func forJournal(groups []string, a slog.Attr) slog.Attr {
	level, ok := a.Value.Any().(slog.Level)
	if len(groups) > 0 || a.Key != slog.LevelKey || !ok {
		return withoutTime(groups, a)
	}
	return slog.String(fmt.Sprintf("<%d>%s", priority(level), slog.LevelKey), level.String())
}

// priority returns the level as syslog(3) counts.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
