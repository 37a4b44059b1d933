package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sort"
	"strings"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// reloader reads the configuration again at each hangup. It takes up what can change while
// the daemon runs, and reports what needs a restart. A configuration with an error changes
// nothing. Its methods are for one goroutine.
type reloader struct {
	source  config.Source
	self    anode.Address
	log     *slog.Logger
	service *service
	parts   map[string]part // the sections that can change, except log
	setLog  func(config.Log)
	peers   func(ctx context.Context, peers []overlay.Peer) ([]book.Change, book.Report, error)

	running config.Config // what is in force
}

// part takes up a section of the configuration.
type part struct {
	take func(ctx context.Context, next config.Config) error
	keep func(running *config.Config, next config.Config) // notes what is in force then

	// again takes up what files that the section names hold now, if the section is as it was.
	// nil: it names none.
	again func(next config.Config) (changed bool, err error)
}

func (d *daemon) newReloader(service *service) *reloader {
	return &reloader{
		source: d.options.Source, self: d.identity.Address(), log: d.log, service: service,
		setLog: d.settings.set, peers: d.node.SetFixed, running: d.cfg.Config,
		parts: map[string]part{
			"policy": {
				take: func(ctx context.Context, c config.Config) error { return d.node.SetOpen(ctx, c.Policy.Open) },
				keep: func(r *config.Config, c config.Config) { r.Policy = c.Policy },
			},
			"relay": {
				take: d.takeRelay,
				keep: func(r *config.Config, c config.Config) { r.Relay = c.Relay },
			},
			"lan": {
				take: d.takeLAN,
				keep: func(r *config.Config, c config.Config) { r.LAN.Peers, r.LAN.Games = c.LAN.Peers, c.LAN.Games },
			},
			"people": {
				take: func(ctx context.Context, c config.Config) error { return d.people.Set(ctx, c.People) },
				keep: func(r *config.Config, c config.Config) { r.People = c.People },
			},
			"names": {
				take:  d.takeNames,
				keep:  keepNames,
				again: d.takeServices,
			},
			"discovery": {
				take: d.takeDiscovery,
				keep: func(r *config.Config, c config.Config) { r.Discovery = c.Discovery },
			},
			"zone": {
				take: func(ctx context.Context, c config.Config) error { return d.zones.Set(ctx, siteSettingsOf(c)) },
				keep: func(r *config.Config, c config.Config) { r.Site = c.Site },
			},
			"proxy": {
				take:  func(_ context.Context, c config.Config) error { return d.proxies.set(c) },
				keep:  func(r *config.Config, c config.Config) { r.Proxy, r.Credentials = c.Proxy, c.Credentials },
				again: d.readCredentials,
			},
			"local": {
				take: func(_ context.Context, c config.Config) error { return d.local.Set(c.Local.Specs()) },
				keep: func(r *config.Config, c config.Config) { r.Local = c.Local },
			},
			"files": { // of "anode recv" alone
				take: func(context.Context, config.Config) error { return nil },
				keep: func(r *config.Config, c config.Config) { r.Files = c.Files },
			},
			"info2": {
				take: func(ctx context.Context, c config.Config) error { return d.chat.Set(ctx, c.Info2) },
				keep: func(r *config.Config, c config.Config) { r.Info2 = c.Info2 },
			},
		},
	}
}

// run reloads at each hangup until ctx ends.
func (r *reloader) run(ctx context.Context, hangup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
		}
		r.service.reloading()
		r.service.ready(r.reload(ctx))
	}
}

// reload reads and takes up the configuration once. It returns what failed, "" if nothing
// did.
func (r *reloader) reload(ctx context.Context) (failed string) {
	loaded, err := r.source.Read()
	var peers []overlay.Peer
	if err == nil {
		peers, err = fixedPeers(loaded, r.self)
	}
	if err != nil {
		return r.refuse(err)
	}
	restart, changed, err := r.takeKeys(ctx, loaded.Config)
	moved, perr := r.takePeers(ctx, peers)
	if err = errors.Join(err, perr); err != nil {
		r.log.Error("the configuration was reloaded in part", "err", err)
		return err.Error()
	}
	if changed+moved+len(restart) == 0 {
		r.log.Info("the configuration was reloaded; nothing changed")
		return ""
	}
	r.log.Info("the configuration was reloaded", "settings", changed, "peers", moved)
	if len(restart) > 0 {
		r.log.Warn("some changes need a restart", "keys", restart)
	}
	return ""
}

// takePeers makes the peers those of the configuration, and returns how many changed.
func (r *reloader) takePeers(ctx context.Context, peers []overlay.Peer) (int, error) {
	changes, report, err := r.peers(ctx, peers)
	for _, c := range changes {
		control.LogChange(r.log, c, "the configuration")
	}
	for _, problem := range report {
		r.log.Warn("peers", "err", problem)
	}
	return len(changes), err
}

// refuse logs every problem of a configuration, and that the old one stays.
func (r *reloader) refuse(err error) string {
	var problems config.Problems
	if !errors.As(err, &problems) {
		r.log.Error("the configuration was not reloaded; the old one stays", "err", err)
		return err.Error()
	}
	for _, p := range problems {
		r.log.Error("the configuration has an error", "err", p)
	}
	r.log.Error("the configuration was not reloaded; the old one stays", "errors", len(problems))
	if more := len(problems) - 1; more > 0 {
		return fmt.Sprintf("%s (and %d more)", problems[0], more)
	}
	return problems[0].String()
}

// takeKeys takes up the sections that can change, and logs each change. It returns the
// keys that need a restart, which are reported at each reload until then.
func (r *reloader) takeKeys(ctx context.Context, next config.Config) (restart []string, changed int, err error) {
	sections := map[string][]config.Change{}
	var taken []config.Change
	for _, c := range config.Changes(r.running, next) {
		section := sectionOf(c.Key)
		if _, can := r.parts[section]; can {
			sections[section] = append(sections[section], c)
		} else if section == "log" {
			taken = append(taken, c)
		} else {
			restart = append(restart, c.Key)
			r.log.Warn("a setting needs a restart", "key", c.Key, "running", c.Old, "configured", c.New)
		}
	}
	var errs []error
	for section, changes := range sections {
		if err := r.parts[section].take(ctx, next); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", section, err))
			continue
		}
		r.parts[section].keep(&r.running, next)
		taken = append(taken, changes...)
	}
	r.takeLog(ctx, next.Log, taken)
	files, err := r.takeFiles(next, sections)
	return restart, len(taken) + files, errors.Join(append(errs, err)...)
}

// takeFiles takes up what files hold that a section names which did not change. It returns how many
// changed.
func (r *reloader) takeFiles(next config.Config, changed map[string][]config.Change) (files int, err error) {
	var errs []error
	for section, p := range r.parts {
		if p.again == nil || len(changed[section]) > 0 {
			continue
		}
		another, err := p.again(next)
		if another {
			files++
		}
		errs = append(errs, err)
	}
	return files, errors.Join(errs...)
}

// readCredentials reads the proxy's credentials again.
func (d *daemon) readCredentials(c config.Config) (changed bool, err error) {
	was := d.proxies.now.Load()
	if err = d.proxies.set(c); err != nil {
		return false, err
	}
	now := d.proxies.now.Load()
	if changed = was.user != now.user || was.password != now.password; changed {
		d.log.Info("the proxy's credentials changed", "file", c.Credentials.Path)
	}
	return changed, nil
}

// sectionOf returns the section of a key, or what it is taken up with; "" if there is none.
func sectionOf(key string) string {
	section, _, inside := strings.Cut(key, ".")
	switch {
	case key == "lan.ip4": // the adapter has it
		return ""
	case key == "names.enabled", key == "names.port": // the sockets are open
		return ""
	case inside:
		return section
	case key == "proxy", key == "proxy_credentials":
		return "proxy"
	}
	return ""
}

// takeLog takes up the settings of the log, and logs what changed: before, if the old level
// lets that through, or else under the new one.
func (r *reloader) takeLog(ctx context.Context, next config.Log, taken []config.Change) {
	said := r.log.Enabled(ctx, slog.LevelInfo)
	if !said {
		r.setLog(next)
	}
	sort.Slice(taken, func(i, j int) bool { return taken[i].Key < taken[j].Key })
	for _, c := range taken {
		r.log.Info("a setting changed", "key", c.Key, "old", c.Old, "new", c.New)
	}
	if said {
		r.setLog(next)
	}
	r.running.Log = next
}

// fixedPeers returns the peers of a configuration for the book.
func fixedPeers(l config.Loaded, self anode.Address) ([]overlay.Peer, error) {
	var list []overlay.Peer
	for i, p := range l.Peers {
		if p.Address.X() == self.X() {
			return nil, fmt.Errorf("%s: peers.address: %s: %w", l.PeerOrigin(i), p.Address, overlay.ErrSelf)
		}
		list = append(list, p.Entry())
	}
	return list, nil
}
