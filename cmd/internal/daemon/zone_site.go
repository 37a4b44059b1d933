package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
)

// ownSite is the zone file that this machine serves for its own zone. Whether it does depends
// on who has the zone's address:
//
//	zone.file is set, zone.serve says where,     certain: nobody else is asked for the file
//	or the address is this machine's
//	another machine may have the address,        the file is fetched; if there is none, or only
//	or a router that forwards it to this one     an earlier one of this machine's, one is offered
//
// It is owned by zones.run.
type ownSite struct {
	settings siteSettings
	certain  bool
	offered  *zone.File // nil: none
	web      zone.Site

	serving   *serving // nil: not served
	err       error    // why not
	pace      zone.Pace
	listenDue time.Time // when to try again; zero: no need
	failed    error     // of arrange, as it was logged
	missing   bool      // it was logged that the file does not name this machine
}

// siteSettings are the keys of the configuration for it.
type siteSettings struct {
	relay bool
	site  config.Site
}

func siteSettingsOf(c config.Config) siteSettings { return siteSettings{c.Relay.Zone, c.Site} }

// serves reports whether a file is to be served at all.
func (s siteSettings) serves() bool { return s.site.Serve.On && (s.relay || s.site.Path != "") }

// serving is a server that runs.
type serving struct {
	at   string
	node bool // the node has the connections, and takes packets in them
	stop context.CancelFunc
	done chan struct{} // closed when it has ended
}

// madeTTL is the TTL of a file that is made here. Its relay's address is that of the zone, so
// hardly anything in it ever changes.
const madeTTL = time.Hour

// mostIPs is how many addresses of this machine a zone file gets.
const mostIPs = 8

// mostProblems is how many problems of a zone file are logged.
const mostProblems = 10

func (w *ownSite) servedAt() string {
	if w.serving == nil {
		return ""
	}
	return w.serving.at
}

// arrange does what the settings and this machine's addresses ask for. Its error is that of
// zone.file; what was served stays.
func (s *zones) arrange(ctx context.Context) error {
	w, f := &s.site, s.list[s.own()]
	if f == nil {
		return nil
	}
	if !w.settings.serves() {
		s.fetchOwn(f)
		s.withdraw()
		return nil
	}
	if path := w.settings.site.Path; path != "" {
		file, modified, err := readZoneFile(path)
		if err != nil {
			return err
		}
		s.publish(ctx, f, file, path, modified)
		return nil
	}
	ip, usable := zone.IP(s.own())
	if !w.settings.site.Serve.At.IsValid() && !(usable && slices.Contains(s.addresses(), ip)) {
		s.fetchOwn(f)
		if w.offered == nil {
			s.withdraw()
		}
		return nil
	}
	file, err := s.make(ctx, f.copy.File)
	if err != nil {
		return err
	}
	s.publish(ctx, f, file, "", changedAt(file))
	return nil
}

// fetchOwn has the file fetched from now on, if it was this machine's before.
func (s *zones) fetchOwn(f *followed) {
	if s.site.certain {
		s.site.certain = false
		f.due = time.Now()
	}
}

// errZoneFile is the key of the file that a person wrote, in errors about it.
var errZoneFile = errors.New("zone.file")

// readZoneFile reads the file that a person wrote.
func readZoneFile(path string) (*zone.File, time.Time, error) {
	fail := func(err error) (*zone.File, time.Time, error) {
		var system *fs.PathError
		if errors.As(err, &system) {
			err = system.Err
		}
		return nil, time.Time{}, withTry(fmt.Errorf("%w: %s: %w", errZoneFile, path, err), "anode zone check "+path+", as the daemon's user; or no zone.file")
	}
	h, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil {
		return fail(err)
	}
	b, err := io.ReadAll(io.LimitReader(h, zone.MaxSize+1))
	if err != nil {
		return fail(err)
	}
	f, err := zone.Parse(b)
	if err == nil {
		err = f.Usable()
	}
	if err != nil {
		return fail(err)
	}
	return f, info.ModTime(), nil
}

// make makes a zone file with this machine as the relay. Its revision is that of known if
// nothing has changed since, else the time, but more than that of known: members drop a file
// with a lower one.
func (s *zones) make(ctx context.Context, known *zone.File) (*zone.File, error) {
	port, err := s.port(ctx)
	if err != nil {
		return nil, err
	}
	relay := zone.Relay{IPs: relayIPs(s.own(), s.self, s.addresses()), UDP: port, Addresses: []anode.Address{s.self}}
	if s.tcpPorts != nil {
		if ports := s.tcpPorts(); len(ports) > 0 {
			relay.TCP = ports[0]
		}
	}
	draft := zone.Draft{
		Name: "Anode zone " + zone.Label(s.own()), Description: "Made by anode for the relay of the zone",
		Contact: "postmaster@[" + zone.Label(s.own()) + "]", TTL: madeTTL, Relays: []zone.Relay{relay},
	}
	if known != nil {
		draft.Revision = known.Revision()
		if bytes.Equal(draft.Append(nil), known.Bytes()) {
			return known, nil
		}
	}
	now := time.Now()
	draft.Revision = max(uint64(now.Unix()), zone.NextRevision(draft.Revision, now))
	return zone.Parse(draft.Append(nil))
}

// changedAt is when a file that was made here was changed: its revision is the time.
func changedAt(f *zone.File) time.Time {
	return time.Unix(int64(min(f.Revision(), uint64(time.Now().Unix()))), 0)
}

// relayIPs are the addresses of this machine that belong into its zone's file: the zone's
// own first, whoever has it, and the IPv6 addresses that others can reach. Those of private
// networks count only if the zone's is one too.
func relayIPs(z anode.Zone, self anode.Address, addresses []netip.Addr) (list []netip.Addr) {
	ip, usable := zone.IP(z)
	if usable {
		list = append(list, ip)
	}
	for _, a := range addresses {
		switch {
		case len(list) == mostIPs:
			return list
		case !a.Is6() || a == self.ULA().Addr() || !a.IsGlobalUnicast():
		case zone.Public(a), isDocumentation(a), a.IsPrivate() && usable && !zone.Public(ip):
			list = append(list, a)
		}
	}
	return list
}

// RelayIPs returns the addresses of this machine that belong into the file of its zone.
func RelayIPs(self anode.Address) []netip.Addr {
	return relayIPs(self.Zone(), self, localAddresses())
}

// isDocumentation reports whether an IPv6 address is one of those in manuals, which
// laboratories use.
func isDocumentation(a netip.Addr) bool {
	return netip.MustParsePrefix("2001:db8::/32").Contains(a) || netip.MustParsePrefix("3fff::/20").Contains(a)
}

// publish serves a file that is certainly this machine's, and uses it itself.
func (s *zones) publish(ctx context.Context, f *followed, file *zone.File, path string, modified time.Time) {
	w := &s.site
	before := f.copy.File
	changed := before == nil || !bytes.Equal(before.Bytes(), file.Bytes()) || f.copy.Source != path
	first := !w.certain
	w.certain, w.offered = true, nil
	f.copy, f.checked, f.err, f.due = zone.Copy{File: file, Source: path}, time.Now(), nil, time.Time{}
	w.web.Set(file, modified)
	if changed {
		s.keep(s.own(), f, true)
		s.warn(file, before)
	}
	if changed || first {
		s.give(ctx, s.own(), f)
		s.log.Info("this machine has the zone file", s.facts(s.own(), f)...)
	}
	s.listen(ctx)
}

// warn logs what is wrong with a file that a person wrote.
func (s *zones) warn(file, before *zone.File) {
	problems := file.Problems()
	for _, p := range problems[:min(len(problems), mostProblems)] {
		s.log.Warn("the zone file has a mistake", "err", p)
	}
	if before != nil && file.Revision() < before.Revision() {
		err := fmt.Errorf("r=%d after r=%d", file.Revision(), before.Revision())
		s.log.Warn("members of the zone drop its file for some hours, since the revision is lower than before", "err", withTry(err, fmt.Sprintf("r=%d", zone.NextRevision(before.Revision(), time.Now()))))
	}
	s.checkListed(file)
}

// checkListed logs once that a zone file does not name this machine, which relays for the
// zone.
func (s *zones) checkListed(file *zone.File) {
	missing := s.site.settings.relay && !names(file, s.self)
	if missing && !s.site.missing {
		try := fmt.Sprintf("in the zone file, zr.%x=IP:PORT::%s and a greater r", file.Relays(), s.self)
		s.log.Warn("nobody uses this machine as a relay", "err", withTry(errUnlisted, try))
	}
	s.site.missing = missing
}

var errUnlisted = errors.New("the zone file does not name it")

// withTry adds what to do about an error, unless it says so itself.
func withTry(err error, try string) error {
	if strings.Contains(err.Error(), "; try: ") {
		return err
	}
	return fmt.Errorf("%w; try: %s", err, try)
}

// names reports whether a zone file has a relay with an address.
func names(file *zone.File, a anode.Address) bool {
	for i := range file.Relays() {
		if r, err := file.Relay(uint32(i)); err == nil && slices.Contains(r.Addresses, a) {
			return true
		}
	}
	return false
}

// offer serves a file of this machine's own if nobody else has one, and reports whether it
// does. The zone's address is then this machine's by a router that forwards it, as many data
// centers have it. The file is not kept as a copy: it may prove that another machine has one. Where a
// person wrote a file that cannot be read, none is offered: its revision, the time, would be
// above that of the person's.
func (s *zones) offer(ctx context.Context, f *followed) bool {
	w := &s.site
	known := f.copy.File
	if !w.settings.serves() || w.settings.site.Path != "" || known != nil && !(known.Relays() == 1 && names(known, s.self)) {
		return false
	}
	if w.offered != nil {
		return true
	}
	file, err := s.make(ctx, known)
	if err == nil {
		err = s.set(ctx, s.own(), file)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("no zone file can be offered", "err", err)
		}
		return false
	}
	w.offered = file
	w.web.Set(file, changedAt(file))
	s.log.Info("nobody serves the zone file, so this machine does: the zone's address has to lead here",
		"zone", zone.Label(s.own()), "ports", "TCP 80 and the UDP port")
	s.listen(ctx)
	return true
}

// foundOwn looks at the file of the own zone that was fetched.
func (s *zones) foundOwn(ctx context.Context, f *followed, changed bool) {
	w := &s.site
	if w.offered != nil && !bytes.Equal(w.offered.Bytes(), f.copy.File.Bytes()) && !(f.copy.File.Relays() == 1 && names(f.copy.File, s.self)) {
		s.log.Info("another machine serves the zone file, so this one does not", "zone", zone.Label(s.own()))
		s.withdraw()
		s.give(ctx, s.own(), f)
	}
	if changed {
		s.checkListed(f.copy.File)
	}
}

// withdraw ends the serving.
func (s *zones) withdraw() {
	w := &s.site
	w.offered, w.err, w.listenDue, w.pace = nil, nil, time.Time{}, zone.Pace{}
	w.web.Clear() // the node's TCP ports have it too
	s.close()
}

func (s *zones) close() {
	if w := &s.site; w.serving != nil {
		w.serving.stop()
		<-w.serving.done
		w.serving = nil
	}
}

// relisten tries again to listen, if it is time to.
func (s *zones) relisten(ctx context.Context) {
	if due := s.site.listenDue; !due.IsZero() && !due.After(time.Now()) {
		s.listen(ctx)
	}
}

// place is where the file is to be served.
func (s *zones) place() string {
	if at := s.site.settings.site.Serve.At; at.IsValid() {
		return at.String()
	}
	if ip, usable := zone.IP(s.own()); usable && slices.Contains(s.addresses(), ip) {
		return netip.AddrPortFrom(ip, zonePort).String()
	}
	return fmt.Sprintf(":%d", zonePort)
}

// zonePort is the port of zone files (draft 2.1.1).
const zonePort = 80

// listen serves the file where it is to be served, unless that is so already. If it cannot,
// that is tried again later.
func (s *zones) listen(ctx context.Context) {
	w, at := &s.site, s.place()
	if w.serving != nil {
		select {
		case <-w.serving.done:
		default:
			if w.serving.at == at && w.serving.node == s.byNode(at) {
				return
			}
		}
		s.close()
	}
	if s.isShared(at) {
		w.err, w.listenDue, w.pace = nil, time.Time{}, zone.Pace{}
		w.serving = servedByNode(at, func() {})
		s.log.Info("serving the zone file", "at", at)
		return
	}
	l, err := s.listener(ctx, at)
	if err != nil {
		failed := &listenError{at, err}
		if w.err == nil || w.err.Error() != failed.Error() {
			s.log.Warn("the zone file is not served: others cannot find the relay of the zone", "err", withTry(failed, failed.try()))
		}
		w.err = failed
		w.listenDue = time.Now().Add(w.pace.Failed(0))
		return
	}
	w.err, w.listenDue, w.pace = nil, time.Time{}, zone.Pace{}
	if shared := newSharedListener(l); s.byNode(at) && s.share(shared) == nil {
		w.serving = servedByNode(at, shared.end)
		s.log.Info("serving the zone file, and taking packets by TCP and HTTP", "at", at)
		return
	}
	inner, stop := context.WithCancel(ctx)
	v := &serving{at: at, stop: stop, done: make(chan struct{})}
	w.serving = v
	s.running.Go(func() {
		defer stop()
		defer close(v.done)
		if err := w.web.Serve(inner, l, s.log); err != nil {
			s.log.Warn("the zone file is not served any more", "err", err)
		}
	})
	s.log.Info("serving the zone file", "at", at)
}

// byNode reports whether the node is to have the connections to a place.
func (s *zones) byNode(at string) bool {
	return s.isShared(at) || s.site.settings.relay && s.share != nil
}

// isShared reports whether the node has the port of a place anyway, at every address.
func (s *zones) isShared(at string) bool {
	_, text, err := net.SplitHostPort(at)
	port, wrong := strconv.ParseUint(text, 10, 16)
	return s.tcpPorts != nil && err == nil && wrong == nil && slices.Contains(s.tcpPorts(), uint16(port))
}

// servedByNode is serving where the node does it, until stop is called.
func servedByNode(at string, stop func()) *serving {
	v := &serving{at: at, node: true, done: make(chan struct{})}
	v.stop = sync.OnceFunc(func() {
		stop()
		close(v.done)
	})
	return v
}

// sharedListener is a listener that the node takes connections from. They end with it: who has
// one could go on sending packets by a port that takes none any more.
type sharedListener struct {
	net.Listener

	mu    sync.Mutex
	ended bool
	open  map[*sharedConn]struct{}
}

func newSharedListener(l net.Listener) *sharedListener {
	return &sharedListener{Listener: l, open: map[*sharedConn]struct{}{}}
}

// Accept implements net.Listener.
func (l *sharedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	c := &sharedConn{tcp, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		tcp.Close()
		return nil, net.ErrClosed
	}
	l.open[c] = struct{}{}
	return c, nil
}

// end closes the listener and its connections.
func (l *sharedListener) end() {
	l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for c := range l.open {
		c.TCPConn.Close()
	}
	clear(l.open)
}

// sharedConn is a connection of one. It keeps what a TCP connection can do beside net.Conn.
type sharedConn struct {
	*net.TCPConn
	of *sharedListener
}

// Close implements net.Conn.
func (c *sharedConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}

// listenTCP opens a listener.
func listenTCP(ctx context.Context, at string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", at)
}

// listenError is why the zone file is not served.
type listenError struct {
	at  string
	err error
}

func (e *listenError) Error() string {
	var errno syscall.Errno
	if errors.As(e.err, &errno) {
		return e.at + ": " + errno.Error()
	}
	return e.at + ": " + e.err.Error()
}

func (e *listenError) Unwrap() error { return e.err }

// try says what to do about it.
func (e *listenError) try() string {
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		return "stop the program that uses the port; or set zone.serve to \"127.0.0.1:8780\", and let that program, if it is a web server, pass /z to it"
	case errors.Is(e.err, fs.ErrPermission):
		return "CAP_NET_BIND_SERVICE for the daemon (in its systemd unit, add it to AmbientCapabilities= and CapabilityBoundingSet=); or set zone.serve to \"127.0.0.1:8780\", and let a web server pass /z to it"
	}
	return "another zone.serve, such as \"0.0.0.0:80\"; or zone.serve = false, and a web server that has the file"
}
