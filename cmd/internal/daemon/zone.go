package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/link"
)

// zones gets the zone files that the node uses: of its own zone, of those of added peers, and
// of those in which somebody looks for an address. It hands each to the node as soon as there
// is one, first of all the copy in the state directory. Where this machine is the one with
// the zone's file, it also serves that (ownSite).
//
//	engine ── WantZone ──> wants ──> run ── begin ──> fetch, a goroutine each
//	       <── SetZone ──────────────  ^ ── results ──'
//
// While no zone is used, nothing of it wakes up.
type zones struct {
	zonesConfig
	site ownSite

	wants    chan anode.Zone
	passed   atomic.Uint64 // wants for which there was no room
	networks chan struct{} // holds one
	settings chan newSettings
	results  chan fetched
	ended    chan struct{} // closed when run ends

	mu    sync.Mutex
	shown []control.ZoneFile

	// Owned by run.
	list     map[anode.Zone]*followed
	fetching int
	running  sync.WaitGroup
	watches  bool
}

// zonesConfig is what zones needs of others.
type zonesConfig struct {
	self  anode.Address
	cache zone.Cache
	log   *slog.Logger
	fetch func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error)
	set   func(ctx context.Context, z anode.Zone, f *zone.File) error
	// peers reports whether an added peer is in a zone.
	peers func(z anode.Zone) bool
	// watch calls changed when the system's network changes, until ctx ends.
	watch func(ctx context.Context, changed func()) error
	// addresses lists this machine's IP addresses.
	addresses func() []netip.Addr
	listener  func(ctx context.Context, at string) (net.Listener, error)
	// tcpPorts are those on which the node takes connections, at every address, and serves the
	// file as well; share has it take those of a listener too. Both may be nil.
	tcpPorts func() []uint16
	share    func(l net.Listener) error
	// port is the UDP port of the node.
	port func(ctx context.Context) (uint16, error)
}

const (
	wantsWaiting = 64
	mostFetches  = 4              // at a time
	wantFor      = 24 * time.Hour // how long a zone is followed after somebody looked for an address in it
	retryAfter   = time.Second    // after the network has changed
	retryEvery   = 5 * time.Second
	recheckEvery = time.Hour       // of what was fetched in another network
	firstPause   = 2 * time.Second // after the first failure, if there is no copy of the own zone's file
)

// followed is a zone whose file is wanted.
type followed struct {
	copy    zone.Copy
	checked time.Time // when copy was found to be current
	pace    zone.Pace
	err     error     // of the last fetch
	wanted  time.Time // when the engine last asked for it
	due     time.Time // of the next fetch; zero: none
	began   time.Time // the last fetch
	busy    bool      // a fetch is under way
}

// fetched is what came of a fetch.
type fetched struct {
	zone anode.Zone
	copy zone.Copy
	err  error
}

func newZones(c zonesConfig, s siteSettings) *zones {
	return &zones{
		zonesConfig: c, site: ownSite{settings: s},
		wants: make(chan anode.Zone, wantsWaiting), networks: make(chan struct{}, 1),
		settings: make(chan newSettings), results: make(chan fetched, mostFetches), ended: make(chan struct{}),
		list: map[anode.Zone]*followed{},
	}
}

// own is the zone of this node.
func (s *zones) own() anode.Zone { return s.self.Zone() }

// Want is told by the engine that it wants a zone's file. It does not wait: a zone for which
// there is no room is asked for again.
func (s *zones) Want(z anode.Zone) {
	select {
	case s.wants <- z:
	default:
		s.passed.Add(1)
	}
}

// count adds the counters.
func (s *zones) count(c map[string]uint64) {
	c["drop_zone_wanted"] = s.passed.Load()
	c["drop_zone_connection"] = s.site.web.Refused()
}

// Files returns the zone files that are followed.
func (s *zones) Files() []control.ZoneFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.shown)
}

// run follows zones until ctx ends.
func (s *zones) run(ctx context.Context) error {
	defer close(s.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer s.running.Wait()
	defer cancel()
	if s.own() != 0 {
		s.follow(ctx, s.own())
		if text := zone.Caveat(s.own()); text != "" {
			s.log.Info("not everybody can use this machine's zone", "zone", zone.Label(s.own()), "why", text)
		}
		s.rearrange(ctx)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.begin(ctx)
		s.show()
		timer.Stop()
		if next := s.next(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			s.relisten(ctx)
		case z := <-s.wants:
			s.follow(ctx, z)
		case r := <-s.results:
			s.fetching--
			s.take(ctx, r)
		case <-s.networks:
			s.networkChanged(ctx)
		case n := <-s.settings:
			s.site.settings = n.settings
			n.done <- s.arrange(ctx)
		}
	}
}

// next returns when something is to be done, zero for never.
func (s *zones) next() (next time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if s.fetching < mostFetches {
		for _, f := range s.list {
			if !f.busy {
				earlier(f.due)
			}
		}
	}
	earlier(s.site.listenDue)
	return next
}

// follow begins to follow a zone, with the copy that is kept of its file.
func (s *zones) follow(ctx context.Context, z anode.Zone) {
	if z == 0 {
		return
	}
	now := time.Now()
	if f := s.list[z]; f != nil {
		f.wanted = now
		return
	}
	if len(s.list) >= overlay.MaxZones && !s.makeRoom(ctx) {
		s.log.Debug("a zone is not followed: too many are", "zone", z)
		return
	}
	f := &followed{wanted: now, due: now}
	s.list[z] = f
	var err error
	if f.copy, f.checked, err = s.cache.Load(z); err != nil {
		s.log.Warn("the copy of a zone file cannot be read", "zone", z, "err", err)
	}
	switch {
	case f.copy.File != nil:
		s.give(ctx, z, f)
	case z == s.own():
		f.pace.First = firstPause // its relay may just be starting
	}
	if !s.watches {
		s.watches = true
		s.running.Go(func() {
			err := s.watch(ctx, func() {
				select {
				case s.networks <- struct{}{}:
				default:
				}
			})
			if err != nil {
				s.log.Warn("a change of the network will not be noticed: zone files are fetched at their time", "err", err)
			}
		})
	}
}

// needed reports whether a zone is still followed for a reason.
func (s *zones) needed(z anode.Zone, f *followed, now time.Time) bool {
	return z == s.own() || s.peers(z) || now.Sub(f.wanted) < wantFor
}

// makeRoom gives up the zone for which there is the weakest reason: nobody's peer is in it,
// and it was looked for least lately.
func (s *zones) makeRoom(ctx context.Context) bool {
	var oldest anode.Zone
	for z, f := range s.list {
		if z != s.own() && !f.busy && !s.peers(z) && (oldest == 0 || f.wanted.Before(s.list[oldest].wanted)) {
			oldest = z
		}
	}
	if oldest != 0 {
		s.drop(ctx, oldest)
	}
	return oldest != 0
}

// drop gives up a zone. Its copy stays in the state directory.
func (s *zones) drop(ctx context.Context, z anode.Zone) {
	delete(s.list, z)
	if err := s.set(ctx, z, nil); err != nil && ctx.Err() == nil {
		s.log.Warn("a zone was not given up", "zone", z, "err", err)
	}
}

// begin starts the fetches that are due.
func (s *zones) begin(ctx context.Context) {
	now := time.Now()
	for z, f := range s.list {
		if f.busy || f.due.IsZero() || f.due.After(now) {
			continue
		}
		if !s.needed(z, f, now) {
			s.drop(ctx, z)
			continue
		}
		if s.fetching >= mostFetches {
			return
		}
		f.busy, f.began = true, now
		s.fetching++
		known := f.copy
		s.running.Go(func() {
			c, err := s.fetch(ctx, z, known)
			s.results <- fetched{z, c, err} // it has room
		})
	}
}

// take takes what came of a fetch.
func (s *zones) take(ctx context.Context, r fetched) {
	f := s.list[r.zone]
	if f == nil || ctx.Err() != nil {
		return
	}
	f.busy = false
	if r.zone == s.own() && s.site.certain {
		return // it was begun before this machine knew that the file is its own
	}
	now := time.Now()
	if r.err != nil {
		s.doubt(r.zone, f, r.copy.Lower)
		f.due = now.Add(f.pace.Failed(rand.Float64()))
		s.failed(ctx, r.zone, f, r.err)
		return
	}
	if f.copy.File != nil && r.copy.File.Revision() < f.copy.File.Revision() {
		s.log.Warn("the zone file has a lower revision than before, and there has been no other for hours: it is used now",
			"zone", zone.Label(r.zone), "before", f.copy.File.Revision())
	}
	changed := f.copy.File == nil || !bytes.Equal(f.copy.File.Bytes(), r.copy.File.Bytes())
	again, doubted := f.err != nil, f.copy.Lower != (zone.Lower{})
	f.copy, f.checked, f.err, f.pace.First = r.copy, now, nil, 0
	f.due = now.Add(f.pace.Found(f.copy.File.TTL(), rand.Float64()))
	s.keep(r.zone, f, changed || doubted)
	switch {
	case changed:
		s.give(ctx, r.zone, f)
		s.log.Info("the zone file has changed", s.facts(r.zone, f)...)
	case again:
		s.log.Info("the zone file can be fetched again", s.facts(r.zone, f)...)
	}
	if r.zone == s.own() {
		s.foundOwn(ctx, f, changed)
	}
}

// doubt keeps for how long there have been only files with a lower revision, also for the next
// start: a machine may never run for as long as that takes to count.
func (s *zones) doubt(z anode.Zone, f *followed, l zone.Lower) {
	if l == f.copy.Lower {
		return
	}
	f.copy.Lower = l
	s.keep(z, f, true)
}

// keep writes the copy into the state directory.
func (s *zones) keep(z anode.Zone, f *followed, changed bool) {
	err := s.cache.Touch(z, f.checked)
	if changed || err != nil {
		err = errors.Join(s.cache.Save(z, f.copy), s.cache.Touch(z, f.checked))
	}
	if err != nil {
		s.log.Warn("the copy of a zone file cannot be kept", "zone", z, "err", err)
	}
}

// give hands a zone's file to the engine.
func (s *zones) give(ctx context.Context, z anode.Zone, f *followed) {
	if err := s.set(ctx, z, f.copy.File); err != nil && ctx.Err() == nil {
		s.log.Warn("a zone cannot be used", "zone", z, "err", err)
	}
}

// facts describes a zone file for the log.
func (s *zones) facts(z anode.Zone, f *followed) []any {
	return []any{"zone", zone.Label(z), "name", f.copy.File.Name(), "revision", f.copy.File.Revision(),
		"relays", f.copy.File.Relays(), "from", f.copy.Source}
}

// failed logs that a fetch failed, once until one succeeds, and begins to serve a file of our
// own where it may be that nobody else has one.
func (s *zones) failed(ctx context.Context, z anode.Zone, f *followed, err error) {
	first := f.err == nil
	f.err = err
	if z == s.own() && s.offer(ctx, f) {
		return
	}
	if !first {
		return
	}
	level := slog.LevelInfo
	if z == s.own() {
		level = slog.LevelWarn
	}
	what := "the zone file cannot be fetched; until it can, this machine has no relay of its zone"
	more := []any{"zone", zone.Label(z), "err", withTry(err, "on the machine with that address: anode up --relay --zone "+zone.Label(z)+", and TCP port 80 open in its firewall")}
	switch {
	case f.copy.File != nil:
		what = "the zone file cannot be fetched; the copy is used"
		more = append(more, "revision", f.copy.File.Revision(), "copy of", f.checked.UTC().Format(time.RFC3339))
	case z != s.own():
		what = "the file of a peer's zone cannot be fetched"
	}
	s.log.Log(ctx, level, what, more...)
}

// networkChanged has what failed tried again soon, and what did not fail once an hour at most:
// the network where it was fetched may have forged it. So its validators do not count either.
func (s *zones) networkChanged(ctx context.Context) {
	now := time.Now()
	for _, f := range s.list {
		if f.due.IsZero() {
			continue // it is this machine's
		}
		f.copy.Whole = time.Time{}
		switch {
		case f.busy:
		case f.err == nil:
			f.due = earlier(f.due, later(now.Add(retryAfter), f.began.Add(recheckEvery)))
		default:
			f.due = earlier(f.due, later(now.Add(retryAfter+rand.N(retryAfter)), f.began.Add(retryEvery)))
		}
	}
	if s.own() != 0 {
		s.rearrange(ctx)
	}
}

// rearrange is arrange where nobody asks for the error. It logs each once.
func (s *zones) rearrange(ctx context.Context) {
	err := s.arrange(ctx)
	if err != nil && (s.site.failed == nil || s.site.failed.Error() != err.Error()) {
		s.log.Error("the zone file of this machine cannot be used", "err", err)
	}
	s.site.failed = err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// show publishes the state for Files.
func (s *zones) show() {
	list := make([]control.ZoneFile, 0, len(s.list))
	for z, f := range s.list {
		list = append(list, s.shownFile(z, f))
	}
	sort.Slice(list, func(i, j int) bool { // one's own first
		a, b := &list[i], &list[j]
		if a.Own != b.Own {
			return a.Own
		}
		return a.Zone < b.Zone
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = list
}

func (s *zones) shownFile(z anode.Zone, f *followed) control.ZoneFile {
	v := control.ZoneFile{Zone: z, Own: z == s.own(), Source: f.copy.Source}
	file, err := f.copy.File, f.err
	if v.Own {
		v.Served = s.site.servedAt()
		if s.site.offered != nil {
			file, err, v.Source = s.site.offered, nil, ""
		}
		err = cmp.Or(s.site.err, s.site.failed, err)
	}
	if file != nil {
		v.Name, v.Revision, v.Relays = file.Name(), file.Revision(), file.Relays()
		v.Listed = names(file, s.self)
		v.Source = cmp.Or(v.Source, control.SourceSelf)
	}
	if !f.checked.IsZero() {
		v.Checked = new(f.checked)
	}
	if err != nil {
		v.Error, v.Try, _ = strings.Cut(err.Error(), "; try: ")
		v.Problem, v.Gate = zoneProblem(err), gateOf(err)
		var listen *listenError
		if errors.As(err, &listen) {
			v.Try = listen.try()
		}
	}
	return v
}

// gateOf returns what keeps a zone file from being fetched, if it is on the way and not at its end.
func gateOf(err error) overlay.Reason {
	t, said := errors.AsType[*link.Trouble](err)
	switch {
	case errors.Is(err, zone.ErrPage), errors.Is(err, zone.ErrPortal), said && t.Kind == link.CaptivePortal:
		return overlay.ReasonCaptivePortal
	case said && t.Kind == link.ProxyAuth:
		return overlay.ReasonProxyAuth
	case said && t.Kind == link.ProxyRefused:
		return overlay.ReasonProxyRefused
	}
	return overlay.NoReason
}

// zoneProblem returns the kind of an error of a zone file.
func zoneProblem(err error) control.ZoneProblem {
	var listen *listenError
	served := errors.As(err, &listen)
	switch {
	case served && errors.Is(err, syscall.EADDRINUSE):
		return control.ZonePortTaken
	case served && errors.Is(err, fs.ErrPermission):
		return control.ZonePortDenied
	case served:
		return control.ZoneNotServed
	case errors.Is(err, errZoneFile):
		return control.ZoneUnreadable
	case errors.Is(err, zone.ErrOlder):
		return control.ZoneOlder
	case errors.Is(err, zone.ErrInvalid), errors.Is(err, zone.ErrSize), errors.Is(err, zone.ErrNUL):
		return control.ZoneNoFile
	}
	return control.ZoneUnreachable
}

// Set takes up other settings.
func (s *zones) Set(ctx context.Context, settings siteSettings) error {
	done := make(chan error, 1)
	select {
	case s.settings <- newSettings{settings, done}:
		return <-done
	case <-s.ended:
		return errors.New("the daemon is stopping")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newSettings asks for other settings.
type newSettings struct {
	settings siteSettings
	done     chan error // has room
}
