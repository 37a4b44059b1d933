package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

const ownZone = anode.Zone(0x09000302) // 9.0.3.2

// zoneWorld is everything around a zones. The test holds its lock from start to stop, except
// while it waits (pass, setting).
type zoneWorld struct {
	t       *testing.T
	zones   *zones
	journal *journal
	stop    func()

	mu        sync.Mutex
	web       map[anode.Zone]string // the files, by zone; none: it cannot be fetched
	asked     []anode.Zone          // what was fetched
	given     map[anode.Zone]string // what the engine has
	peers     []anode.Zone
	addresses []netip.Addr
	changed   func() // of the network; nil: nobody watches
	taken     error  // of listening
	lower     zone.Lower
	whole     bool // the last fetch was not conditional
	listening []string
}

// newZoneWorld makes a node in a zone, with a state directory.
func newZoneWorld(t *testing.T, own anode.Zone, dir string, s siteSettings) *zoneWorld {
	t.Helper()
	id, err := anode.NewIdentity(own)
	if err != nil {
		t.Fatal(err)
	}
	return newZoneWorldOf(t, id.Address(), dir, s)
}

func newZoneWorldOf(t *testing.T, self anode.Address, dir string, s siteSettings) *zoneWorld {
	w := &zoneWorld{t: t, journal: newJournal(), web: map[anode.Zone]string{}, given: map[anode.Zone]string{}}
	w.zones = newZones(zonesConfig{
		self: self, cache: zone.Cache{Dir: dir}, log: slog.New(slog.NewTextHandler(w.journal, nil)),
		fetch: w.fetch, set: w.set, listener: w.listen,
		peers:     func(z anode.Zone) bool { return locked(w, func() bool { return slices.Contains(w.peers, z) }) },
		addresses: func() []netip.Addr { return locked(w, func() []netip.Addr { return w.addresses }) },
		port:      func(context.Context) (uint16, error) { return 8737, nil },
		watch: func(ctx context.Context, changed func()) error {
			locked(w, func() bool { w.changed = changed; return true })
			<-ctx.Done()
			return nil
		},
	}, s)
	return w
}

// start runs it until stop, or the end of the test, and returns when it waits.
func (w *zoneWorld) start() *zoneWorld {
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	go func() { ended <- w.zones.run(ctx) }()
	w.stop = func() {
		w.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
	synctest.Wait()
	w.mu.Lock()
	return w
}

// locked calls f with the lock of the world.
func locked[T any](w *zoneWorld, f func() T) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f()
}

// setting takes up other settings.
func (w *zoneWorld) setting(s siteSettings) error {
	w.mu.Unlock()
	defer w.mu.Lock()
	err := w.zones.Set(w.t.Context(), s)
	synctest.Wait()
	return err
}

// pass lets time pass.
func (w *zoneWorld) pass(d time.Duration) {
	w.mu.Unlock()
	defer w.mu.Lock()
	time.Sleep(d)
	synctest.Wait()
}

func (w *zoneWorld) fetch(_ context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, z)
	text, ok := w.web[z]
	if !ok {
		return known, errors.New("no such host")
	}
	w.whole = known.Whole.IsZero()
	f, err := zone.Parse([]byte(text))
	if err == nil && known.File != nil && f.Revision() < known.File.Revision() && w.lower.Times < 3 {
		w.lower.Times++
		known.Lower = w.lower
		return known, zone.ErrOlder
	}
	return zone.Copy{File: f, Source: "http://web/z", Whole: time.Now()}, err
}

func (w *zoneWorld) set(_ context.Context, z anode.Zone, f *zone.File) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f == nil {
		delete(w.given, z)
		return nil
	}
	w.given[z] = string(f.Bytes())
	return nil
}

func (w *zoneWorld) listen(_ context.Context, at string) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taken != nil {
		return nil, w.taken
	}
	w.listening = append(w.listening, at)
	return &silentListener{done: make(chan struct{}), closed: func() { locked(w, func() bool { w.listening = nil; return true }) }}, nil
}

// silentListener is one to which nobody connects.
type silentListener struct {
	done   chan struct{}
	closed func()
}

func (l *silentListener) Accept() (net.Conn, error) {
	<-l.done
	return nil, net.ErrClosed
}

func (l *silentListener) Close() error {
	select {
	case <-l.done:
	default:
		l.closed()
		close(l.done)
	}
	return nil
}

func (l *silentListener) Addr() net.Addr { return &net.TCPAddr{} }

// own is the status of the own zone.
func (w *zoneWorld) own() control.ZoneFile {
	w.t.Helper()
	list := w.zones.Files()
	if len(list) == 0 || !list[0].Own {
		w.t.Fatalf("the own zone is not there: %v", list)
	}
	return list[0]
}

func (w *zoneWorld) logged(text string) int {
	w.journal.mu.Lock()
	defer w.journal.mu.Unlock()
	return strings.Count(w.journal.text.String(), text)
}

func file(r int) string { return fmt.Sprintf("n=Demo\nr=%d\nttl=3600\n", r) }

// bubble is a test in virtual time with a directory.
func bubble(t *testing.T, f func(t *testing.T, dir string)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { f(t, dir) })
}

// Without a zone nothing happens, and nobody watches the network.
func TestZonesNone(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, 0, dir, siteSettings{site: config.Site{Serve: config.Serve{On: true}}}).start()
		w.pass(48 * time.Hour)
		if len(w.asked) != 0 || w.changed != nil || len(w.zones.Files()) != 0 {
			t.Errorf("asked %v, watches %v, files %v", w.asked, w.changed != nil, w.zones.Files())
		}
		w.stop()
	})
}

// The file is fetched at the start and by its TTL, kept, and there at the next start before
// anything is fetched.
func TestZonesFetch(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, siteSettings{})
		w.web[ownZone] = file(5)
		w.start()
		if w.given[ownZone] != file(5) {
			t.Errorf("the engine has %q", w.given[ownZone])
		}
		if f := w.own(); f.Revision != 5 || f.Name != "Demo" || f.Source != "http://web/z" || f.Error != "" || f.Checked == nil {
			t.Errorf("got %+v", f)
		}
		w.pass(time.Hour - time.Second)
		if len(w.asked) != 1 {
			t.Errorf("asked %d times before the TTL has passed", len(w.asked))
		}
		w.web[ownZone] = file(6)
		w.pass(10 * time.Minute)
		if len(w.asked) != 2 || w.given[ownZone] != file(6) {
			t.Errorf("asked %d times, the engine has %q", len(w.asked), w.given[ownZone])
		}
		w.pass(24 * time.Hour)
		if n := w.logged("the zone file has changed"); n != 2 {
			t.Errorf("%d lines for two files", n)
		}
		w.stop()

		next := newZoneWorldOf(t, w.zones.self, dir, siteSettings{}).start()
		if next.given[ownZone] != file(6) {
			t.Errorf("after the start the engine has %q", next.given[ownZone])
		}
		if f := next.own(); f.Revision != 6 || f.Checked == nil || !strings.Contains(f.Error, "no such host") {
			t.Errorf("got %+v", f)
		}
		next.pass(24 * time.Hour) // 1, 2, 4 ... 60 minutes, and up to a tenth more
		if n := len(next.asked); n < 25 || n > 31 {
			t.Errorf("%d tries on a day on which all fail", n)
		}
		if n := next.logged("the zone file cannot be fetched; the copy is used"); n != 1 {
			t.Errorf("%d warnings", n)
		}
		next.web[ownZone] = file(6)
		next.pass(2 * time.Hour)
		if n := next.logged("can be fetched again"); n != 1 || next.own().Error != "" {
			t.Errorf("%d lines, %+v", n, next.own())
		}
		next.stop()
	})
}

// After a change of the network, what failed is tried again within seconds, and what did not
// fail is left alone.
func TestZonesNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, siteSettings{}).start()
		w.pass(10 * time.Second)
		w.web[ownZone] = file(1)
		w.changed()
		w.pass(2 * time.Second)
		if w.given[ownZone] != file(1) {
			t.Errorf("the engine has %q", w.given[ownZone])
		}
		asked := len(w.asked)
		for range 100 {
			w.changed()
			w.pass(time.Second)
		}
		if len(w.asked) != asked {
			t.Errorf("%d more for 100 changes", len(w.asked)-asked)
		}
		delete(w.web, ownZone)
		w.pass(2 * time.Hour)
		asked = len(w.asked)
		for range 100 {
			w.changed()
			w.pass(100 * time.Millisecond)
		}
		if n := len(w.asked) - asked; n < 1 || n > 3 {
			t.Errorf("%d tries in 10 s of changes", n)
		}
		w.stop()
	})
}

// The network where a file was fetched may have forged it: in another one it is fetched again,
// whole, but not each time that something changes.
func TestZonesOtherNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, siteSettings{})
		w.web[ownZone] = "n=Forged\nr=9\nttl=604800\n"
		w.start()
		w.web[ownZone] = file(9)
		w.pass(90 * time.Minute)
		if len(w.asked) != 1 || w.given[ownZone] == file(9) {
			t.Errorf("asked %d times", len(w.asked))
		}
		w.changed()
		w.pass(2 * time.Second)
		if len(w.asked) != 2 || w.given[ownZone] != file(9) || !w.whole {
			t.Errorf("asked %d times, the engine has %q, whole: %v", len(w.asked), w.given[ownZone], w.whole)
		}
		for range 59 {
			w.changed()
			w.pass(time.Minute)
		}
		if len(w.asked) != 2 {
			t.Errorf("asked %d times for an hour of changes", len(w.asked))
		}
		w.stop()
	})
}

// How long the web has had only lower revisions is kept over a restart, and what comes of it is
// used and logged.
func TestZonesLower(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, siteSettings{})
		w.web[ownZone] = "n=Forged\nr=18446744073709551615\nttl=60\n"
		w.start()
		checked := w.own().Checked
		w.lower.Since = time.Now()
		w.web[ownZone] = file(9)
		w.pass(70 * time.Second)
		if c, at, err := w.zones.cache.Load(ownZone); err != nil || c.Lower.Times != 1 || !at.Equal(checked.Truncate(0)) {
			t.Errorf("kept %+v of %v, %v", c, at, err)
		}
		w.stop()
		next := newZoneWorldOf(t, w.zones.self, dir, siteSettings{})
		next.web, next.lower = w.web, w.lower
		next.start()
		if f := next.zones.list[ownZone]; f.copy.Lower.Times != 2 {
			t.Errorf("after a restart: %+v", f.copy.Lower)
		}
		next.pass(10 * time.Minute)
		if next.given[ownZone] != file(9) || next.logged("it is used now") != 1 || next.logged("before=18446744073709551615") != 1 {
			t.Errorf("the engine has %q", next.given[ownZone])
		}
		if c, _, err := next.zones.cache.Load(ownZone); err != nil || c.Lower != (zone.Lower{}) {
			t.Errorf("kept %+v, %v", c, err)
		}
		next.stop()
	})
}

// Without a copy, the file of the own zone is looked for more often at first: its relay may
// just be starting.
func TestZonesFirst(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, siteSettings{}).start()
		w.pass(10 * time.Second)
		if len(w.asked) != 3 {
			t.Errorf("asked %d times in 10 s, want at 0, 2 and 6 s", len(w.asked))
		}
		w.pass(24 * time.Hour)
		if n := len(w.asked); n > 36 {
			t.Errorf("%d tries on a day on which all fail", n)
		}
		w.stop()
	})
}

// Zones are bounded: those of peers stay, and those that somebody looked into go, the oldest
// first, and after a day.
func TestZonesBound(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, siteSettings{})
		w.web[ownZone] = file(1)
		w.peers = []anode.Zone{0x08000001}
		w.start()
		for z := anode.Zone(0x08000001); z <= 0x08000001+2*overlay.MaxZones; z++ {
			w.web[z] = file(int(z))
			w.zones.Want(z)
			w.pass(time.Second)
		}
		has := func() (list []anode.Zone) {
			for _, f := range w.zones.Files() {
				list = append(list, f.Zone)
			}
			return list
		}
		list := has()
		if len(list) != overlay.MaxZones || list[0] != ownZone || list[1] != w.peers[0] || list[len(list)-1] != 0x08000001+2*overlay.MaxZones {
			t.Errorf("%d zones: %v", len(list), list)
		}
		if len(w.given) != overlay.MaxZones {
			t.Errorf("the engine has %d", len(w.given))
		}
		w.pass(26 * time.Hour)
		if list := has(); !slices.Equal(list, []anode.Zone{ownZone, w.peers[0]}) || len(w.given) != 2 {
			t.Errorf("after a day: %v, the engine has %d", list, len(w.given))
		}
		w.peers = nil
		w.pass(2 * time.Hour)
		if list := has(); !slices.Equal(list, []anode.Zone{ownZone}) {
			t.Errorf("without the peer: %v", list)
		}
		w.zones.Want(0)
		w.pass(time.Second)
		if len(has()) != 1 {
			t.Error("zone 0 is followed")
		}
		w.stop()
	})
}

// A place that anybody can ask for again and again never makes more than a few fetches.
func TestZonesWantAgain(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, 0, dir, siteSettings{}).start()
		for range 10 * wantsWaiting {
			w.zones.Want(0x08000001)
		}
		w.pass(time.Second)
		counted := map[string]uint64{}
		w.zones.count(counted)
		if len(w.asked) != 1 || counted["drop_zone_wanted"] == 0 {
			t.Errorf("asked %d times, counted %v", len(w.asked), counted)
		}
		w.stop()
	})
}

var serveOn = siteSettings{relay: true, site: config.Site{Serve: config.Serve{On: true}}}

func parsed(t *testing.T, text string) *zone.File {
	t.Helper()
	f, err := zone.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The machine with the zone's address makes the file, serves it, and asks nobody. Its
// revision rises when something in it changes, and only then.
func TestZonesMade(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		ip := netip.MustParseAddr("9.0.3.2")
		w := newZoneWorld(t, ownZone, dir, serveOn)
		w.addresses = []netip.Addr{ip}
		w.start()
		f := parsed(t, w.given[ownZone])
		if problems := f.Problems(); len(problems) > 0 {
			t.Error(problems)
		}
		r, err := f.Relay(0)
		if err != nil || f.Relays() != 1 || !slices.Equal(r.IPs, []netip.Addr{ip}) || r.UDP != 8737 || r.TCP != 0 || r.Addresses[0] != w.zones.self {
			t.Errorf("the relay is %+v, %v", r, err)
		}
		if f.Revision() != uint64(time.Now().Unix()) {
			t.Errorf("the revision is %d", f.Revision())
		}
		if !slices.Equal(w.listening, []string{"9.0.3.2:80"}) || w.own().Served != "9.0.3.2:80" || w.own().Source != control.SourceSelf {
			t.Errorf("listens on %v, %+v", w.listening, w.own())
		}
		w.pass(48 * time.Hour)
		if len(w.asked) != 0 {
			t.Errorf("asked %d times", len(w.asked))
		}
		w.stop()
		if len(w.listening) != 0 {
			t.Error("it still listens")
		}

		again := newZoneWorldOf(t, w.zones.self, dir, serveOn)
		again.addresses = w.addresses
		again.start()
		if again.given[ownZone] != w.given[ownZone] {
			t.Errorf("after a restart %q, before %q", again.given[ownZone], w.given[ownZone])
		}
		again.addresses = append(again.addresses, netip.MustParseAddr("2001:db8::1"))
		again.changed()
		again.pass(time.Second)
		g := parsed(t, again.given[ownZone])
		if r, err := g.Relay(0); err != nil || len(r.IPs) != 2 || g.Revision() <= f.Revision() {
			t.Errorf("with another address: %+v, %v, revision %d after %d", r, err, g.Revision(), f.Revision())
		}
		again.stop()

		// A clock that was set back does not lower the revision.
		third := newZoneWorldOf(t, w.zones.self, dir, serveOn)
		future := strings.Replace(again.given[ownZone], fmt.Sprintf("r=%d", g.Revision()), "r=99999999999", 1)
		if err := (zone.Cache{Dir: dir}).Save(ownZone, zone.Copy{File: parsed(t, future)}); err != nil {
			t.Fatal(err)
		}
		third.addresses = w.addresses
		third.start()
		if f := parsed(t, third.given[ownZone]); f.Revision() != 100000000000 {
			t.Errorf("the revision is %d", f.Revision())
		}
		third.stop()
	})
}

// A machine that does not have the zone's address itself offers a file only if nobody else
// has one, and never keeps it as if it were the zone's.
func TestZonesOffered(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, serveOn)
		w.addresses = []netip.Addr{netip.MustParseAddr("10.0.0.7")}
		w.start()
		offered := w.given[ownZone]
		if f := parsed(t, offered); f.Relays() != 1 || !slices.Equal(w.listening, []string{":80"}) || w.own().Error != "" {
			t.Errorf("offered %q on %v: %+v", offered, w.listening, w.own())
		}
		if c, _, err := w.zones.cache.Load(ownZone); c.File != nil || err != nil {
			t.Errorf("it is kept: %v", err)
		}
		w.web[ownZone] = offered // from outside, by the router
		w.pass(time.Hour)
		if w.given[ownZone] != offered || len(w.listening) != 1 {
			t.Errorf("the engine has %q, listens on %v", w.given[ownZone], w.listening)
		}
		w.stop()

		// At the next start the copy is its own, which nobody else serves.
		w = newZoneWorldOf(t, w.zones.self, dir, serveOn)
		w.addresses = []netip.Addr{netip.MustParseAddr("10.0.0.7")}
		w.start()
		if len(w.listening) != 1 || w.given[ownZone] != offered {
			t.Errorf("listens on %v, the engine has %q", w.listening, w.given[ownZone])
		}
		// Another machine has the file after all.
		w.web[ownZone] = strings.Replace(file(1), "r=1", "r=9999999999", 1)
		w.pass(time.Hour)
		if len(w.listening) != 0 || w.given[ownZone] != w.web[ownZone] || w.own().Served != "" {
			t.Errorf("listens on %v, the engine has %q", w.listening, w.given[ownZone])
		}
		if w.logged("the zone file does not name it; try: in the zone file, zr.0=IP:PORT::"+w.zones.self.String()) != 1 {
			t.Error("it is not said that the file does not name this machine")
		}
		w.stop()
	})
}

// A port that is taken is a warning with a remedy, and tried again.
func TestZonesPortTaken(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		w := newZoneWorld(t, ownZone, dir, serveOn)
		w.addresses = []netip.Addr{netip.MustParseAddr("9.0.3.2")}
		w.taken = os.NewSyscallError("bind", syscall.EADDRINUSE)
		w.start()
		w.pass(30 * time.Minute)
		if n := w.logged("9.0.3.2:80: address already in use; try: stop the program"); n != 1 || w.given[ownZone] == "" {
			t.Errorf("%d warnings, the engine has %q", n, w.given[ownZone])
		}
		if f := w.own(); f.Error != "9.0.3.2:80: address already in use" || f.Served != "" || f.Problem != control.ZonePortTaken || f.Try == "" || !f.Listed {
			t.Errorf("got %+v", f)
		}
		w.taken = nil
		w.pass(70 * time.Minute)
		if f := w.own(); f.Error != "" || f.Served != "9.0.3.2:80" {
			t.Errorf("got %+v", f)
		}
		w.stop()
	})
}

// A file that cannot be used is said once, at the start too.
func TestZonesPathUnusable(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		settings := serveOn
		settings.site.Path = filepath.Join(dir, "zone.html")
		if err := os.WriteFile(settings.site.Path, []byte("<html>\nr=5\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w := newZoneWorld(t, ownZone, dir, settings).start()
		if w.logged("it is a web page") != 1 || w.logged("; try: anode zone check") != 1 || len(w.listening) != 0 {
			t.Errorf("listens on %v", w.listening)
		}
		if f := w.own(); f.Problem != control.ZoneUnreadable || !strings.Contains(f.Error, "zone.html: zone file: it is a web page") || !strings.HasPrefix(f.Try, "anode zone check ") {
			t.Errorf("got %+v", f)
		}
		w.changed()
		w.pass(time.Minute)
		if w.logged("it is a web page") != 1 {
			t.Error("it is said again")
		}
		w.stop()
	})
}

// A file that a person wrote is served as it is; what is wrong with it is said.
func TestZonesPath(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, "zone.txt")
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		settings := serveOn
		settings.site.Path = path
		w := newZoneWorld(t, ownZone, dir, settings)
		write("n=Mine\nwhat\nr=5\n")
		w.start()
		if w.given[ownZone] != "n=Mine\nwhat\nr=5\n" || w.own().Source != path || !slices.Equal(w.listening, []string{":80"}) {
			t.Errorf("the engine has %q, %+v, listens on %v", w.given[ownZone], w.own(), w.listening)
		}
		if w.logged("line 2: no entry: want KEY=VALUE") != 1 || w.logged("d (its description) is missing") != 1 {
			t.Error("its mistakes are not logged")
		}
		write("n=Mine\nr=4\n")
		if err := w.setting(settings); err != nil {
			t.Error(err)
		}
		if w.logged("r=4 after r=5; try: r=6") != 1 || w.given[ownZone] != "n=Mine\nr=4\n" {
			t.Errorf("the engine has %q", w.given[ownZone])
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := w.setting(settings); err == nil || !strings.HasPrefix(err.Error(), "zone.file: "+path+": ") {
			t.Errorf("got %v", err)
		}
		if w.given[ownZone] != "n=Mine\nr=4\n" || len(w.listening) != 1 {
			t.Error("what was served does not stay")
		}
		// Somewhere else, and then not at all.
		settings.site = config.Site{Serve: config.Serve{On: true, At: netip.MustParseAddrPort("127.0.0.1:8780")}}
		if err := w.setting(settings); err != nil || !slices.Equal(w.listening, []string{"127.0.0.1:8780"}) {
			t.Errorf("%v, listens on %v", err, w.listening)
		}
		w.web[ownZone] = strings.Replace(file(1), "r=1", "r=9999999999", 1)
		if err := w.setting(siteSettings{relay: true}); err != nil {
			t.Error(err)
		}
		w.pass(time.Second)
		if len(w.listening) != 0 || w.given[ownZone] != w.web[ownZone] {
			t.Errorf("listens on %v, the engine has %q", w.listening, w.given[ownZone])
		}
		w.stop()
		if err := w.zones.Set(t.Context(), settings); err == nil {
			t.Error("settings are taken after the end")
		}
	})
}

func TestZoneProblem(t *testing.T) {
	for want, err := range map[control.ZoneProblem]error{
		control.ZoneUnreachable: &zone.FetchError{Attempts: []*zone.Attempt{{URI: "x", Err: errors.New("no answer")}}},
		control.ZoneOlder:       &zone.FetchError{Attempts: []*zone.Attempt{{URI: "x", Err: zone.ErrOlder}}},
		control.ZoneNoFile:      &zone.FetchError{Attempts: []*zone.Attempt{{URI: "x", Err: zone.ErrPage}}},
		control.ZonePortDenied:  &listenError{":80", os.NewSyscallError("bind", syscall.EACCES)},
		control.ZonePortTaken:   &listenError{":80", os.NewSyscallError("bind", syscall.EADDRINUSE)},
		control.ZoneNotServed:   &listenError{":80", os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)},
	} {
		if got := zoneProblem(err); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}

func TestRelayIPs(t *testing.T) {
	id, err := anode.NewIdentity(ownZone)
	if err != nil {
		t.Fatal(err)
	}
	self := id.Address()
	addresses := []netip.Addr{self.ULA().Addr()}
	for _, s := range []string{"10.0.0.1", "127.0.0.1", "::1", "fe80::1", "fd12::1", "2606:4700::1", "2001:db8::1", "2002:a00:1::1", "8.8.8.8"} {
		addresses = append(addresses, netip.MustParseAddr(s))
	}
	for z, want := range map[anode.Zone]string{
		0x09000302: "[9.0.3.2 2606:4700::1 2001:db8::1]",
		0x0a000001: "[10.0.0.1 fd12::1 2606:4700::1 2001:db8::1]",
		0xe0000001: "[2606:4700::1 2001:db8::1]",
	} {
		if got := fmt.Sprint(relayIPs(z, self, addresses)); got != want {
			t.Errorf("%v: got %v, want %v", z, got, want)
		}
	}
	many := slices.Repeat([]netip.Addr{netip.MustParseAddr("2606:4700::1")}, 2*mostIPs)
	if got := relayIPs(ownZone, self, many); len(got) != mostIPs {
		t.Errorf("%d addresses", len(got))
	}
}

// A relay's zone file and its packets share a port: the node takes the connections of the file's
// listener, or has the port already.
func TestZoneServedByNode(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:8780")
	for name, has := range map[string]bool{"its own listener": false, "a port that the node has": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				w := newZoneWorld(t, ownZone, dir, siteSettings{relay: true, site: config.Site{Serve: config.Serve{On: true, At: at}}})
				var taken []net.Listener
				w.zones.share = func(l net.Listener) error { taken = append(taken, l); return nil }
				w.zones.tcpPorts = func() []uint16 { return map[bool][]uint16{true: {8737, at.Port()}, false: {8737}}[has] }
				code := func() int {
					answer := httptest.NewRecorder()
					w.zones.site.web.ServeHTTP(answer, httptest.NewRequest("GET", "/z", nil))
					return answer.Code
				}
				w.start()
				want := []string{at.String()}
				if has {
					want = nil
				}
				if !slices.Equal(w.listening, want) || len(taken) != len(want) || code() != 200 || w.own().Served != at.String() {
					t.Errorf("listens at %v, the node took %d, GET %d, %+v", w.listening, len(taken), code(), w.own())
				}
				if !strings.Contains(w.given[ownZone], ":8737:8737:") {
					t.Errorf("the file does not name the TCP port:\n%s", w.given[ownZone])
				}
				if err := w.setting(siteSettings{}); err != nil {
					t.Fatal(err)
				}
				if w.listening != nil || code() != 404 || w.own().Served != "" {
					t.Errorf("after the end: listens at %v, GET %d, %+v", w.listening, code(), w.own())
				}
				w.stop()
			})
		})
	}
}

// A machine that stops relaying, and still serves a file, takes the listener back from the node.
func TestZoneServedWithoutRelay(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:8780")
	bubble(t, func(t *testing.T, dir string) {
		path := filepath.Join(t.TempDir(), "z")
		if err := os.WriteFile(path, []byte(file(7)), 0o644); err != nil {
			t.Fatal(err)
		}
		site := config.Site{Path: path, Serve: config.Serve{On: true, At: at}}
		w := newZoneWorld(t, ownZone, dir, siteSettings{relay: true, site: site})
		var taken []net.Listener
		w.zones.share = func(l net.Listener) error { taken = append(taken, l); return nil }
		w.start()
		for round, relay := range []bool{true, false, true} {
			if err := w.setting(siteSettings{relay: relay, site: site}); err != nil {
				t.Fatal(err)
			}
			if len(taken) != round/2+1 || !slices.Equal(w.listening, []string{at.String()}) || w.own().Served != at.String() {
				t.Errorf("relay %v: the node took %d, listening %v, %+v", relay, len(taken), w.listening, w.own())
			}
		}
		w.stop()
	})
}

// The connections of a listener that the node has end with it, and can do what those of TCP can.
func TestSharedListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newSharedListener(inner)
	dial := func() (net.Conn, net.Conn) {
		there, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		here, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return here, there
	}
	first, far := dial()
	if _, ok := first.(interface{ SetLinger(int) error }); !ok {
		t.Error("SetLinger is lost")
	}
	first.Close()
	far.Close()
	_, open := dial()
	defer open.Close()
	if len(l.open) != 1 {
		t.Errorf("%d are open", len(l.open))
	}
	l.end()
	if n, err := open.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("it goes on")
	}
}
