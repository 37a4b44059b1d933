package chat

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/info2"
	"anodenet/overlay/store"
)

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestCircle has connections with a peer that is added, and then no longer.
func TestCircle(t *testing.T) {
	c := newCircle()
	own := netip.MustParseAddr("::1")
	system := FromULA(own, func() int { return 0 })
	l, err := c.listen(system.Listen)(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if _, err := c.dial(system.Dial)(t.Context(), at); !errors.Is(err, errOutside) {
		t.Errorf("a stranger is dialled: %v", err)
	}

	// The listener has a stranger waiting, and turns it away.
	added := make(chan struct{})
	accepted := make(chan net.Conn, 1)
	go func() {
		<-added
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	if list := c.set([]Peer{{ULA: own, Name: "self"}}); !slices.Equal(list, []netip.Addr{own}) || c.name(own) != "self" || !c.has(own) {
		t.Errorf("%v", list)
	}
	close(added)
	out, err := c.dial(system.Dial)(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	in := <-accepted
	c.set(nil)
	for _, conn := range []net.Conn{in, out} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection goes on")
		}
		conn.Close()
	}
	if len(c.conns) != 0 {
		t.Errorf("%d connections are remembered", len(c.conns))
	}
}

func TestHosts(t *testing.T) {
	book := hostBook{newStore(t)}
	hosts, err := book.load()
	if err != nil || hosts != nil {
		t.Errorf("%v, %v", hosts, err)
	}
	for i := range hostsMax + 5 {
		if err := book.remember(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	first, last := netip.MustParseAddr("10.0.0.68"), netip.MustParseAddr("10.0.0.50")
	if err := book.remember(last); err != nil {
		t.Fatal(err)
	}
	hosts, err = book.load()
	if err != nil || len(hosts) != hostsMax || hosts[0] != last || hosts[1] != first || slices.Index(hosts[1:], last) >= 0 {
		t.Errorf("%v, %v", hosts, err)
	}
}

// TestRefuses is what people are told about networks that are off or failed.
func TestRefuses(t *testing.T) {
	ctx := t.Context()
	ula := netip.MustParseAddr("fd00::1")
	say := func(talk *Chat, network control.Network) error {
		_, err := talk.Say(ctx, control.SayRequest{Network: network, Text: "x"})
		return err
	}
	c := config.Default().Info2
	off, err := New(Config{Settings: c, Store: newStore(t), Log: quietLog()})
	if err != nil || len(off.networks) != 0 {
		t.Fatalf("%+v, %v", off, err)
	}
	for network, words := range map[control.Network]string{"": "Info2 is off", "adapter": "Info2 is off", "bare": "the bare network is off", "x": "no network named"} {
		if err := say(off, network); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", network, err)
		}
	}
	if s, err := off.Status(ctx); err != nil || s.Networks == nil || len(s.Networks) != 0 {
		t.Errorf("%+v, %v", s, err)
	}

	// What was meant for peers does not go to strangers when the adapter's network fails.
	c.Bare = true
	both, err := New(Config{
		Settings: c, ULA: ula, Node: &fakeNode{}, Store: newStore(t), Log: quietLog(),
		Adapter: FromULA(ula, func() int { return 0 }), Bare: FromIPv4(),
	})
	if err != nil || len(both.networks) != 2 {
		t.Fatalf("%+v, %v", both, err)
	}
	n := both.find(control.NetworkAdapter)
	n.failed = fmt.Errorf("%w: by a test", info2.ErrPortTaken)
	if err := say(both, ""); err == nil || !strings.Contains(err.Error(), "by a test") {
		t.Errorf("got %v", err)
	}
	if _, err := both.Connect(ctx, ula); err == nil || !strings.Contains(err.Error(), "by a test") {
		t.Errorf("got %v", err)
	}
}
