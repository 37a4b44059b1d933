package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/store"
	"anodenet/overlay/vnet"
)

// machine is a daemon on a host of a simulated network, without an adapter.
type machine struct {
	options Options
	hangup  chan os.Signal
	log     *journal
	client  *control.Client
	stop    context.CancelFunc
	ended   <-chan error // of Run
}

// newMachine makes a state directory; it is not the test's, whose name may be too
// long for a socket.
func newMachine(t *testing.T, network link.Network, peers ...config.Flag) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "anode")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{hangup: make(chan os.Signal), log: newJournal()}
	m.options = Options{
		State: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "anode.sock"),
		Source: config.Source{File: filepath.Join(dir, "anode.toml"), Flags: peers},
		Log:    m.log, Version: "test", Hangup: m.hangup, Network: network,
	}
	m.configure(t, "")
	return m
}

// peerFlag is --peer.
func peerFlag(text string) config.Flag { return config.Flag{Flag: "--peer", Key: "peers", Value: text} }

// configure writes the configuration file.
func (m *machine) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(m.options.Source.File, []byte("tun.name = \"none\"\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs the daemon until the test ends, and returns when it is ready.
func (m *machine) start(t *testing.T) *machine {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	m.options.Ready = func(context.Context, *overlay.Node) { close(ready) }
	m.stop, m.ended = cancel, ended
	m.client = control.NewClient(m.options.Socket)
	go func() {
		ended <- Run(ctx, m.options)
		close(ended)
	}()
	t.Cleanup(func() {
		m.client.Close()
		cancel()
		if err := <-ended; err != nil { // nil too if it was read already
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return m
}

// identity is the machine's, which is made if there is none.
func (m *machine) identity(t *testing.T) anode.Address {
	t.Helper()
	id, _, err := Identity(m.options.State, 0)
	if err != nil {
		t.Fatal(err)
	}
	return id.Address()
}

// journal is a log that can be waited for.
type journal struct {
	mu   sync.Mutex
	more *sync.Cond
	text strings.Builder
}

func newJournal() *journal {
	j := &journal{}
	j.more = sync.NewCond(&j.mu)
	return j
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.more.Broadcast()
	return j.text.Write(b)
}

// wait returns when the text was logged after what was waited for before. It panics if
// that does not happen. It returns what came before the text.
func (j *journal) wait(text string) (before string) {
	late := false
	limit := time.AfterFunc(30*time.Second, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		late = true
		j.more.Broadcast()
	})
	defer limit.Stop()
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		if before, rest, ok := strings.Cut(j.text.String(), text); ok {
			j.text.Reset()
			j.text.WriteString(rest)
			return before
		}
		if late {
			panic(fmt.Sprintf("%q was not logged; the log: %s", text, j.text.String()))
		}
		j.more.Wait()
	}
}

// lan is a world of two hosts on one segment.
func lan(t *testing.T) (a, b *vnet.Host) {
	t.Helper()
	w := vnet.New(vnet.Seed(t))
	t.Cleanup(w.Close)
	s := w.Segment("lan", vnet.Link{})
	a, b = w.Host("a"), w.Host("b")
	a.Attach(s, netip.MustParsePrefix("10.0.0.1/24"))
	b.Attach(s, netip.MustParsePrefix("10.0.0.2/24"))
	return a, b
}

func TestTwoDaemons(t *testing.T) {
	hostA, hostB := lan(t)
	b := newMachine(t, hostB)
	a := newMachine(t, hostA, peerFlag(b.identity(t).String()+"@udp:10.0.0.2:8737")).start(t)
	b.start(t)
	ctx := t.Context()
	if _, err := b.client.Add(ctx, control.AddRequest{Address: a.identity(t), Name: "first"}); err != nil {
		t.Fatal(err)
	}
	reply, err := a.client.Ping(ctx, control.PingRequest{Address: b.identity(t), Size: 100, TimeoutMS: 10_000})
	if err != nil || reply.Size != 100 || !reply.Sealed || reply.Address != b.identity(t) {
		t.Errorf("%+v, %v", reply, err)
	}
	r, err := b.client.Resolve(ctx, a.identity(t).ULA().String())
	if err != nil || r.Name != "first" || !r.Known {
		t.Errorf("%+v, %v", r, err)
	}
	status, err := a.client.Status(ctx)
	if err != nil || status.Version != "test" || status.Tun != nil || len(status.Peers) != 1 || !status.Peers[0].Allowed {
		t.Errorf("%+v, %v", status, err)
	}
}

// TestRestart keeps the identity and the peers that were added, and forgets those of
// the command line.
func TestRestart(t *testing.T) {
	host, _ := lan(t)
	ctx := t.Context()
	passing, kept := newAddress(t), newAddress(t)
	m := newMachine(t, host, peerFlag(passing.String())).start(t)
	if _, err := m.client.Add(ctx, control.AddRequest{Address: kept, Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	before, err := m.client.Status(ctx)
	if err != nil || len(before.Peers) != 2 {
		t.Fatalf("%+v, %v", before, err)
	}
	if err := m.client.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-m.ended; err != nil {
		t.Fatal(err)
	}
	if _, err := m.client.Status(ctx); !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("it was stopped: %v", err)
	}

	m.options.Source.Flags = nil
	m.start(t)
	after, err := m.client.Status(ctx)
	if err != nil || after.Address != before.Address || len(after.Peers) != 1 || after.Peers[0].Name != "kept" {
		t.Errorf("%+v, %v", after, err)
	}
}

func TestSecondDaemon(t *testing.T) {
	hostA, hostB := lan(t)
	m := newMachine(t, hostA).start(t)
	other := newMachine(t, hostB)

	o := m.options
	o.Socket = other.options.Socket
	if err := Run(t.Context(), o); !errors.Is(err, store.ErrStateBusy) {
		t.Errorf("on the same state: %v", err)
	}
	o = other.options
	o.Socket = m.options.Socket
	if err := Run(t.Context(), o); !errors.Is(err, control.ErrInUse) {
		t.Errorf("on the same socket: %v", err)
	}
	if _, err := m.client.Status(t.Context()); err != nil {
		t.Errorf("the first goes on: %v", err)
	}
	other.start(t) // what was refused has left nothing open
}

// TestRefused starts what cannot be, and then, with nothing left open, what can.
func TestRefused(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host)
	for _, test := range []struct {
		name, text string
		peers      []config.Flag
		want       error
	}{
		{"own address", "", []config.Flag{peerFlag(m.identity(t).String())}, overlay.ErrSelf},
		{"zone", "zone = \"1\"", nil, config.ErrInvalid},
		{"secret", "secret = \"file:" + m.options.State + "/none\"", nil, os.ErrNotExist},
		{"unknown key", "nonsense = 1", nil, config.ErrInvalid},
	} {
		m.configure(t, test.text)
		o := m.options
		o.Source.Flags = test.peers
		if err := Run(t.Context(), o); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	m.configure(t, "")
	m.start(t)
}

// TestService is what systemd hears, in order.
func TestService(t *testing.T) {
	path := filepath.Join(newMachine(t, nil).options.State + ".notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "10000")
	// next gives the next message that begins so, and passes over signs of life.
	next := func(want string) string {
		b := make([]byte, 1000)
		for {
			n, err := conn.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(b[:n]); strings.HasPrefix(got, want) {
				return got
			} else if got != "WATCHDOG=1" {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	host, _ := lan(t)
	m := newMachine(t, host).start(t)
	if got := next("READY=1"); !strings.Contains(got, m.identity(t).ULA().String()) {
		t.Errorf("got %q", got)
	}
	next("WATCHDOG=1")
	for _, reload := range []struct{ config, want string }{
		{"log.level = \"info\"", ""},
		{"log.level = 1\nnonsense = 2", m.options.Source.File + ":2:13: log.level: want one of debug, info, warn, error, in quotes, not 1 (and 1 more)"},
		{"log.level = \"info\"", ""},
	} {
		m.configure(t, reload.config)
		m.hangup <- syscall.SIGHUP
		if got := next("RELOADING=1"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
			t.Errorf("got %q", got)
		}
		want := "STATUS=running as " + m.identity(t).ULA().String()
		if reload.want != "" {
			want += "; the last reload failed: " + reload.want
		}
		if got := next("READY=1"); got != "READY=1\n"+want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	m.stop()
	next("STOPPING=1")
	newService("it").ready("one\nMAINPID=1")
	if got, want := next("READY=1"), "READY=1\nSTATUS=running as it; the last reload failed: one; MAINPID=1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWanted(t *testing.T) {
	peer := func(zone anode.Zone, added, blocked bool) book.Entry {
		id, err := anode.NewIdentity(zone)
		if err != nil {
			t.Fatal(err)
		}
		return book.Entry{Address: id.Address(), Added: added, Blocked: blocked}
	}
	entries := []book.Entry{peer(9, true, false), peer(7, true, false), peer(8, true, true), peer(6, false, false), peer(0, true, false), peer(9, true, false)}
	got := wanted(7, entries)
	if want := []netip.Prefix{anode.Zone(0).Prefix(), anode.Zone(7).Prefix(), anode.Zone(9).Prefix()}; !slices.Equal(got.Zones, want) {
		t.Errorf("zones %v, want %v", got.Zones, want)
	}
	for i, e := range entries {
		if has := slices.Contains(got.Peers, e.Address.ULA().Addr()); has != (e.Added && !e.Blocked) {
			t.Errorf("entry %d is wanted: %v", i, has)
		}
	}
}

func newAddress(t *testing.T) anode.Address {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id.Address()
}
