package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/names"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// fakeNode keeps peers in a list, and answers pings at once.
type fakeNode struct {
	self anode.Address

	mu    sync.Mutex
	peers []overlay.PeerStatus
	added []overlay.Peer

	endpoints map[anode.Address][]wire.Endpoint
	hosts     map[anode.Address][]book.Host

	ping func(ctx context.Context, a anode.Address, size int) (overlay.PingReply, error)
	ula  map[anode.ULA]anode.Address // what the network knows
}

func (f *fakeNode) Status(context.Context) (overlay.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return overlay.Status{
		Schema: 1, Address: f.self, ID: f.self.ID(), ULA: f.self.ULA(), Version: "test",
		Listen: []string{"udp:[::]:8737"}, Peers: append([]overlay.PeerStatus{}, f.peers...),
	}, nil
}

// verb does what a node does: by a book of its peers.
func (f *fakeNode) verb(do func(*book.Book) (book.Change, error)) (book.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var entries []book.Entry
	for _, p := range f.peers {
		if p.Allowed || p.Blocked {
			entries = append(entries, book.Entry{Address: p.Address, Name: p.Name, Added: true, Blocked: p.Blocked, Endpoints: f.endpoints[p.Address], Hosts: f.hosts[p.Address]})
		}
	}
	b, _, err := book.Open(f.self, book.NewMemory(entries...), nil)
	if err != nil {
		return book.Change{}, err
	}
	c, err := do(b)
	if err != nil {
		return c, err
	}
	e := c.After
	if f.endpoints == nil {
		f.endpoints, f.hosts = map[anode.Address][]wire.Endpoint{}, map[anode.Address][]book.Host{}
	}
	f.endpoints[e.Address], f.hosts[e.Address] = e.Endpoints, e.Hosts
	k := slices.IndexFunc(f.peers, func(p overlay.PeerStatus) bool { return p.Address == e.Address })
	switch {
	case !e.Added && !e.Blocked && k >= 0:
		f.peers = slices.Delete(f.peers, k, k+1)
		return c, nil
	case k < 0:
		f.peers = append(f.peers, overlay.PeerStatus{Address: e.Address, ID: e.Address.ID(), ULA: e.Address.ULA(),
			State: overlay.StateIdle, Path: overlay.PathStatus{Kind: overlay.PathNone}})
		k = len(f.peers) - 1
	}
	p := &f.peers[k]
	p.Name, p.Allowed, p.Blocked = e.Name, e.Standing() == book.Added, e.Blocked
	return c, nil
}

func (f *fakeNode) AddPeer(_ context.Context, p overlay.Peer) (book.Change, error) {
	f.mu.Lock()
	f.added = append(f.added, p)
	f.mu.Unlock()
	return f.verb(func(b *book.Book) (book.Change, error) { return b.AddEntry(p, time.Now()) })
}

func (f *fakeNode) RemovePeer(_ context.Context, a anode.Address) (book.Change, error) {
	return f.verb(func(b *book.Book) (book.Change, error) { return b.Remove(a, time.Now()) })
}

func (f *fakeNode) RenamePeer(_ context.Context, a anode.Address, name string) (book.Change, error) {
	return f.verb(func(b *book.Book) (book.Change, error) { return b.Rename(a, name) })
}

func (f *fakeNode) SetLAN(_ context.Context, a anode.Address, on bool) (book.Change, error) {
	return f.verb(func(b *book.Book) (book.Change, error) { return b.SetLAN(a, on) })
}

func (f *fakeNode) BlockPeer(_ context.Context, a anode.Address, blocked bool) (book.Change, error) {
	return f.verb(func(b *book.Book) (book.Change, error) {
		if blocked {
			return b.Block(a)
		}
		return b.Unblock(a)
	})
}

func (f *fakeNode) AddEndpoints(_ context.Context, a anode.Address, es []book.Place) (book.Change, error) {
	return f.verb(func(b *book.Book) (book.Change, error) { return b.AddEndpoints(a, es) })
}

func (f *fakeNode) RemoveEndpoint(_ context.Context, a anode.Address, e book.Place) (book.Change, error) {
	return f.verb(func(b *book.Book) (book.Change, error) { return b.RemoveEndpoint(a, e) })
}

func (f *fakeNode) Entries() (list []overlay.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.peers {
		if p.Allowed || p.Blocked {
			list = append(list, overlay.Peer{Address: p.Address, Name: p.Name, Added: true, Blocked: p.Blocked, Endpoints: f.endpoints[p.Address], Hosts: f.hosts[p.Address]})
		}
	}
	return list
}

// Learned is where the node is connected to a peer.
func (f *fakeNode) Learned(a anode.Address) (list []wire.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.peers {
		if e, err := wire.EndpointFromText(p.Path.Endpoint); err == nil && p.Address == a && p.Path.Via == nil {
			list = append(list, e)
		}
	}
	return list
}

func (f *fakeNode) Ping(ctx context.Context, a anode.Address, size int) (overlay.PingReply, error) {
	return f.ping(ctx, a, size)
}

func (f *fakeNode) ResolveULA(_ context.Context, u anode.ULA) (anode.Address, error) {
	if a, ok := f.ula[u]; ok {
		return a, nil
	}
	return anode.Address{}, overlay.ErrUnknownPeer
}

func (f *fakeNode) ResolveID(context.Context, anode.ID) (anode.Address, error) {
	return anode.Address{}, overlay.ErrUnreachable
}

func newAddress(t *testing.T) anode.Address {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id.Address()
}

// serve runs a server on a socket of its own until the test ends.
func serve(t *testing.T, node Node, stop func()) *Client {
	t.Helper()
	return serveTalk(t, node, &fakeTalk{}, stop)
}

// serveTalk is serve with a text network.
func serveTalk(t *testing.T, node Node, talk Info2, stop func()) *Client {
	t.Helper()
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	server := NewServer(node, talk, stop, slog.New(slog.DiscardHandler))
	server.SetHosts(func(h book.Host) Host {
		return Host{Endpoint: h, State: HostFound, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
	})
	go func() { served <- server.Serve(ctx, l) }()
	c := NewClient(path)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket stays: %v", err)
		}
	})
	return c
}

// socketPath is short enough for a socket wherever the tests' directory is.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "anode")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "anode.sock")
}

func wantCode(t *testing.T, err error, code Code, words string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, words) {
		t.Errorf("got %v, want %s with %q", err, code, words)
	}
}

func TestPeers(t *testing.T) {
	ctx := t.Context()
	node := &fakeNode{self: newAddress(t)}
	c := serve(t, node, nil)
	north, south := newAddress(t), newAddress(t)
	endpoint, err := wire.EndpointFromText("udp:192.0.2.1:8737")
	if err != nil {
		t.Fatal(err)
	}

	add := func(r AddRequest) error {
		_, err := c.Add(ctx, r)
		return err
	}
	if got, err := c.Add(ctx, AddRequest{north, "north", []book.Place{{Endpoint: endpoint}}, false}); err != nil || got != (Added{DidAdd, "north", ""}) {
		t.Fatal(got, err)
	}
	if len(node.added) != 1 || node.added[0].Endpoints[0] != endpoint {
		t.Errorf("the node got %+v", node.added)
	}
	wantCode(t, add(AddRequest{Address: south, Name: "north"}), CodeTaken, "another peer has that name")
	wantCode(t, add(AddRequest{Address: south, Name: "a b"}), CodeInvalid, "not a name")
	wantCode(t, add(AddRequest{Address: node.self}), CodeRefused, "own address")
	wantCode(t, add(AddRequest{}), CodeInvalid, "not an Anode address")
	wantCode(t, add(AddRequest{Address: south, Endpoints: []book.Place{{Endpoint: wire.Endpoint{Kind: wire.Ethernet}}}}), CodeInvalid, "set link.ethernet")
	if err := add(AddRequest{Address: south}); err != nil {
		t.Fatal(err)
	}

	if got, err := c.Add(ctx, AddRequest{Address: south}); err != nil || got != (Added{DidNothing, "", ""}) {
		t.Error(got, err)
	}
	if got, err := c.Add(ctx, AddRequest{Address: south, Name: "s"}); err != nil || got != (Added{DidRename, "s", ""}) {
		t.Error(got, err)
	}
	if got, err := c.Add(ctx, AddRequest{Address: south, Endpoints: []book.Place{{Endpoint: endpoint}}}); err != nil || got != (Added{DidChange, "s", ""}) {
		t.Error(got, err)
	}

	wantCode(t, c.Rename(ctx, RenameRequest{south, "north"}), CodeTaken, "another peer has that name")
	if err := c.Rename(ctx, RenameRequest{south, "south"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Block(ctx, BlockRequest{south, true}); err != nil {
		t.Fatal(err)
	}
	status, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, add(AddRequest{Address: south}), CodeRefused, "blocked")
	if len(status.Peers) != 2 || status.Peers[1].Name != "south" || !status.Peers[1].Blocked || status.Peers[0].ULA != north.ULA() {
		t.Errorf("status: %+v", status)
	}

	if err := c.Remove(ctx, RemoveRequest{north}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.Remove(ctx, RemoveRequest{north}), CodeUnknownPeer, "no such peer")
}

func TestResolve(t *testing.T) {
	ctx := t.Context()
	far, unknown := newAddress(t), newAddress(t)
	node := &fakeNode{self: newAddress(t), ula: map[anode.ULA]anode.Address{far.ULA(): far}}
	c := serve(t, node, nil)
	north := newAddress(t)
	if _, err := c.Add(ctx, AddRequest{Address: north, Name: "north"}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		text string
		want Resolved
	}{
		{"north", Resolve(names.Peer{Address: north, Name: "north"}, true)},
		{"no", Resolve(names.Peer{Address: north, Name: "north"}, true)},
		{unknown.String(), Resolve(names.Peer{Address: unknown}, false)},
		{far.ULA().String(), Resolve(names.Peer{Address: far}, false)},
		{node.self.String(), ResolveSelf(node.self)},
		{node.self.ULA().String(), ResolveSelf(node.self)},
		{node.self.ID().String(), ResolveSelf(node.self)},
		{"self", ResolveSelf(node.self)},
		{"self.anode.internal", ResolveSelf(node.self)},
	} {
		if got, err := c.Resolve(ctx, test.text); err != nil || got != test.want {
			t.Errorf("%q: %+v, %v; want %+v", test.text, got, err, test.want)
		}
	}
	_, err := c.Resolve(ctx, "east")
	wantCode(t, err, CodeUnknownPeer, `"east"`)
	_, err = c.Resolve(ctx, unknown.ULA().String())
	wantCode(t, err, CodeUnknownPeer, "no such peer")
	_, err = c.Resolve(ctx, unknown.ID().String())
	wantCode(t, err, CodeUnreachable, "cannot be reached")
	if _, err := c.Add(ctx, AddRequest{Address: far, Name: "no-one"}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Resolve(ctx, "no")
	wantCode(t, err, CodeUnknownPeer, "no-one ("+far.ID().String()+")")
}

func TestPing(t *testing.T) {
	ctx := t.Context()
	a := newAddress(t)
	node := &fakeNode{self: newAddress(t)}
	c := serve(t, node, nil)
	want := overlay.PingReply{Address: a, Size: 40, RTT: 420 * time.Microsecond, Sealed: true,
		Path: overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "udp:10.0.0.2:8737"}}
	node.ping = func(_ context.Context, got anode.Address, size int) (overlay.PingReply, error) {
		if got != a || size != 40 {
			t.Errorf("the node was asked for %v, %d", got, size)
		}
		return want, nil
	}
	if got, err := c.Ping(ctx, PingRequest{a, 40, 1000}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}

	node.ping = func(ctx context.Context, _ anode.Address, _ int) (overlay.PingReply, error) {
		<-ctx.Done() // the request's own timeout ends it
		return overlay.PingReply{}, fmt.Errorf("%w: no answer in time", overlay.ErrUnreachable)
	}
	_, err := c.Ping(ctx, PingRequest{a, 40, 1})
	wantCode(t, err, CodeUnreachable, "no answer in time")

	for _, r := range []PingRequest{{a, -1, 1}, {a, 0, 0}, {a, 0, -1}, {a, 0, 61000}} {
		_, err := c.Ping(ctx, r)
		wantCode(t, err, CodeInvalid, "want ")
	}

	canceled, cancel := context.WithCancel(ctx)
	node.ping = func(ctx context.Context, _ anode.Address, _ int) (overlay.PingReply, error) {
		cancel()
		<-ctx.Done() // the client's going away ends it
		return overlay.PingReply{}, ctx.Err()
	}
	if _, err := c.Ping(canceled, PingRequest{a, 40, 60000}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestStop(t *testing.T) {
	stopped := make(chan struct{})
	c := serve(t, &fakeNode{self: newAddress(t)}, func() { close(stopped) })
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-stopped
}

// TestRequests sends what no client of ours does.
func TestRequests(t *testing.T) {
	c := serve(t, &fakeNode{self: newAddress(t)}, nil)
	for _, test := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"no such path", "POST", "/v1/none", "{}", 400},
		{"wrong method", "GET", "/v1/ping", "", 400},
		{"no body", "POST", "/v1/resolve", "", 400},
		{"no JSON", "POST", "/v1/resolve", "peer=x", 400},
		{"unknown field", "POST", "/v1/resolve", `{"per": "x"}`, 400},
		{"two values", "POST", "/v1/resolve", `{"peer": "x"} {}`, 400},
		{"too long", "POST", "/v1/resolve", `{"peer": "` + strings.Repeat("x", maxBody) + `"}`, 400},
		{"bad address", "POST", "/v1/peers/add", `{"address": "x"}`, 400},
		{"add: no address", "POST", "/v1/peers/add", `{"name": "x"}`, 400},
		{"add: null", "POST", "/v1/peers/add", `{"address": null}`, 400},
		{"block: no address", "POST", "/v1/peers/block", `{"blocked": true}`, 400},
		{"block: zero address", "POST", "/v1/peers/block", `{"blocked": true, "address": "` + anode.Address{}.String() + `"}`, 400},
		{"remove: no address", "POST", "/v1/peers/remove", `{}`, 400},
		{"rename: no address", "POST", "/v1/peers/rename", `{"name": "x"}`, 400},
		{"ping: no address", "POST", "/v1/ping", `{"timeout_ms": 100, "size": 10}`, 400},
		{"right", "GET", "/v1/status", "", 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), test.method, "http://anode"+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := c.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != test.want {
				t.Errorf("%s %s, %v", response.Status, body, err)
			}
			if test.want != 200 && !strings.Contains(string(body), `"code":"invalid"`) {
				t.Errorf("the body is %s", body)
			}
		})
	}
}

// TestFullDisk: who reads that the disk of the daemon is full reads what to do.
func TestFullDisk(t *testing.T) {
	e := AsError(fmt.Errorf("the state was not written: %w", &fs.PathError{Op: "write", Path: "state.db", Err: syscall.ENOSPC}))
	if e.Code != CodeInternal || !strings.HasPrefix(e.Try, "free some space") {
		t.Errorf("%+v", e)
	}
}

func TestNoDaemon(t *testing.T) {
	path := socketPath(t)
	c := NewClient(path)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("no socket: %v", err)
	}
	leaveStale(t, path)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("a dead socket: %v", err)
	}
}

// leaveStale leaves a socket as a daemon does that was killed.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestListen(t *testing.T) {
	path := socketPath(t)
	leaveStale(t, path)
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("a dead socket is replaced: %v", err)
	}
	want := fs.FileMode(0o600)
	if _, ok := GroupID(); ok && os.Getuid() == 0 {
		want = 0o660
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != want {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Lstat(path + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock stays: %v", err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a live one is not: %v", err)
	}
	l.Close()

	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

// TestListenRace starts many at once beside a dead socket: one of them wins.
func TestListenRace(t *testing.T) {
	path := socketPath(t)
	leaveStale(t, path)
	const many = 20
	results := make(chan net.Listener, many)
	for range many {
		go func() {
			l, err := Listen(path)
			if err != nil && !errors.Is(err, ErrInUse) {
				t.Error(err)
			}
			results <- l
		}()
	}
	winners := 0
	for range many {
		if l := <-results; l != nil {
			winners++
			defer l.Close()
		}
	}
	if winners != 1 {
		t.Errorf("%d have the socket", winners)
	}
}

func TestEndpoints(t *testing.T) {
	ctx := t.Context()
	node := &fakeNode{self: newAddress(t)}
	c := serve(t, node, nil)
	north := newAddress(t)
	var places []book.Place
	for _, text := range []string{"udp:192.0.2.1:8737", "udp:[2001:db8::1]:8737", "home.example.org"} {
		p, err := book.ParsePlace(text)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	list, _ := book.Split(places)
	one, two, home := list[0], list[1], places[2].Host
	ask := func(add, remove []book.Place) (Endpoints, error) {
		return c.Endpoints(ctx, EndpointsRequest{Address: north, Add: add, Remove: remove})
	}
	var failed *Error
	if _, err := ask(places[:1], nil); !errors.As(err, &failed) || failed.Code != CodeUnknownPeer {
		t.Errorf("of a stranger: %v", err)
	}
	if _, err := c.Add(ctx, AddRequest{Address: north, Name: "north", Endpoints: places[:1]}); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(nil, nil); err != nil || !slices.Equal(got.Given, list[:1]) || got.Learned == nil || got.Hosts == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ask(places[:2], nil); err != nil || !slices.Equal(got.Given, list) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ask(places[:1], places[:1]); err != nil || !slices.Equal(got.Given, []wire.Endpoint{two, one}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ask(nil, []book.Place{{Endpoint: wire.UDP(netip.MustParseAddrPort("192.0.2.9:1"))}}); !errors.As(err, &failed) || failed.Code != CodeInvalid {
		t.Errorf("one that it does not have: %v", err)
	}
	b, err := c.Book(ctx)
	if err != nil || len(b.Peers) != 1 || b.Peers[0].Name != "north" || !b.Peers[0].Added || !slices.Equal(b.Peers[0].Given, []wire.Endpoint{two, one}) {
		t.Errorf("%+v, %v", b, err)
	}
	found := Host{Endpoint: home, State: HostFound, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
	if got, err := ask(places[2:], places[1:2]); err != nil || !slices.Equal(got.Given, list[:1]) || !reflect.DeepEqual(got.Hosts, []Host{found}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ask(nil, places[2:]); err != nil || len(got.Hosts) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ask(nil, places[2:]); !errors.As(err, &failed) || failed.Code != CodeInvalid {
		t.Errorf("a name that it does not have: %v", err)
	}
}

// TestEndpointTexts sends endpoints as other programs write them.
func TestEndpointTexts(t *testing.T) {
	a := newAddress(t)
	for text, want := range map[string]string{
		`"udp:192.0.2.1:8737"`: "", `"udp:home.example.org:8737"`: "", `"home.example.org"`: "",
		`"10.0.0.300"`: "the IP address is not valid", `"here"`: "want udp:IP:PORT", `7`: "a JSON value of another kind is wanted, not: number",
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{"address": "`+a.String()+`", "endpoints": [`+text+`]}`))
		var request AddRequest
		if err := decode(w, r, &request); want == "" && (err != nil || len(request.Endpoints) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, %v", text, request.Endpoints, err)
		}
	}
}
