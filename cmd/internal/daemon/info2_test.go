package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/info2"
	"anodenet/overlay"
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

func texts(entries []control.Entry) string {
	var list []string
	for _, e := range entries {
		list = append(list, e.Text)
	}
	return strings.Join(list, ",")
}

func TestHistory(t *testing.T) {
	store := newStore(t)
	h := newHistory(store, quietLog())
	north := netip.MustParseAddr("fd00::1")
	for i, m := range []info2.Message{
		{Text: "one", From: north, Name: "north"}, {Text: "two", Own: true}, {Text: "bridged", Bridged: true},
	} {
		if err := (recorder{h, control.NetworkAdapter}).Append(m); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := (recorder{h, control.NetworkBare}).Append(info2.Message{Text: "three"}); err != nil {
		t.Fatal(err)
	}
	if err := store.AppendLog(historyLog, [][]byte{[]byte("of another version")}, historyMax); err != nil {
		t.Fatal(err)
	}
	past, _, _, err := h.read(10, false)
	if err != nil || texts(past) != "one,two,three" {
		t.Errorf("%s, %v", texts(past), err)
	}
	if e := past[0]; e.From != north || e.Name != "north" || e.Own || e.Network != control.NetworkAdapter || !past[1].Own {
		t.Errorf("%+v", past)
	}
	own, err := recorder{h, control.NetworkAdapter}.Recent(1)
	if err != nil || len(own) != 1 || own[0].Text != "two" || !own[0].Own {
		t.Errorf("%+v, %v", own, err)
	}
}

// TestFollowers: past and present meet without a gap, who does not read loses and is
// told how much, and the end is told too.
func TestFollowers(t *testing.T) {
	h := newHistory(newStore(t), quietLog())
	say := func(text string) {
		t.Helper()
		if err := h.append(control.Entry{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	say("before")
	past, next, stop, err := h.read(10, true)
	if err != nil || texts(past) != "before" {
		t.Fatalf("%s, %v", texts(past), err)
	}
	defer stop()
	_, gone, leave, err := h.read(0, true)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	for i := range followerMax + 3 {
		say(fmt.Sprint(i))
	}
	if len(gone) != 0 {
		t.Error("one who has left still gets texts")
	}
	for i := range followerMax {
		if e := <-next; e.Text != fmt.Sprint(i) || e.Lost != 0 {
			t.Fatalf("%d: %+v", i, e)
		}
	}
	say("after")
	if e := <-next; e.Text != "after" || e.Lost != 3 {
		t.Errorf("%+v", e)
	}
	h.close()
	if e, ok := <-next; ok {
		t.Errorf("%+v", e)
	}
	if _, next, _, err = h.read(0, true); err != nil {
		t.Error(err)
	}
	if _, ok := <-next; ok {
		t.Error("after the end nothing comes")
	}
}

// TestCircle has connections with a peer that is added, and then no longer.
func TestCircle(t *testing.T) {
	c := newCircle()
	own := netip.MustParseAddr("::1")
	l, err := c.listen(own)(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if _, err := c.dial(own)(t.Context(), at); !errors.Is(err, errOutside) {
		t.Errorf("a stranger is dialled: %v", err)
	}

	// The listener has a stranger waiting, whom it turns away.
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
	peer := func(allowed bool) []overlay.PeerStatus {
		p := overlay.PeerStatus{Allowed: allowed, Name: "self"}
		p.ULA = own.As16()
		return []overlay.PeerStatus{p}
	}
	if list := c.set(peer(true)); !slices.Equal(list, []netip.Addr{own}) || c.name(own) != "self" || !c.has(own) {
		t.Errorf("%v", list)
	}
	close(added)
	out, err := c.dial(own)(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	in := <-accepted
	c.set(peer(false))
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
	store := newStore(t)
	hosts, err := loadHosts(store)
	if err != nil || hosts != nil {
		t.Errorf("%v, %v", hosts, err)
	}
	for i := range hostsMax + 5 {
		if err := rememberHosts(store, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	first, last := netip.MustParseAddr("10.0.0.68"), netip.MustParseAddr("10.0.0.50")
	if err := rememberHosts(store, last); err != nil {
		t.Fatal(err)
	}
	hosts, err = loadHosts(store)
	if err != nil || len(hosts) != hostsMax || hosts[0] != last || hosts[1] != first || slices.Index(hosts[1:], last) >= 0 {
		t.Errorf("%v, %v", hosts, err)
	}
}

// TestTalkRefuses is what people are told about networks that are off or failed.
func TestTalkRefuses(t *testing.T) {
	ctx := t.Context()
	ula := netip.MustParseAddr("fd00::1")
	say := func(talk *talk, network control.Network) error {
		_, err := talk.Say(ctx, control.SayRequest{Network: network, Text: "x"})
		return err
	}
	c := config.Default().Info2
	off, err := newTalk(c, netip.Addr{}, newStore(t), quietLog())
	if err != nil || len(off.networks) != 0 {
		t.Fatalf("%+v, %v", off, err)
	}
	for network, words := range map[control.Network]string{"": "Info2 is off", "adapter": "Info2 is off", "bare": "the bare network is off", "x": "there is no network"} {
		if err := say(off, network); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", network, err)
		}
	}
	if s, err := off.Status(ctx); err != nil || s.Networks == nil || len(s.Networks) != 0 {
		t.Errorf("%+v, %v", s, err)
	}

	// What was meant for peers does not go to strangers when the adapter's network fails.
	c.Bare = true
	both, err := newTalk(c, ula, newStore(t), quietLog())
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

// TestPortTaken: the rest of the daemon goes on, and says so.
func TestPortTaken(t *testing.T) {
	l, err := listenBare(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, fmt.Sprintf("info2 = {bare = true, port = %d}", l.Addr().(*net.TCPAddr).Port))
	m.start(t)
	m.log.wait("clear text")
	m.log.wait("Info2 does not run; the rest does")
	s, err := m.client.Info2(t.Context())
	if err != nil || len(s.Networks) != 1 || !strings.Contains(s.Networks[0].Failed, "in use by another program") || s.Networks[0].Encrypted {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := m.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBareDaemon joins a daemon's bare network as a stranger, by hand.
func TestBareDaemon(t *testing.T) {
	free, err := listenBare(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, fmt.Sprintf("info2 = {bare = true, port = %d}", port))
	m.start(t)
	m.log.wait("info2 started")
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "INFO2 CONNECT/0.6\n\n"); err != nil {
		t.Fatal(err)
	}
	ok := make([]byte, len("INFO2 OK\n\n"))
	if _, err := io.ReadFull(conn, ok); err != nil || string(ok) != "INFO2 OK\n\n" {
		t.Fatalf("%q, %v", ok, err)
	}
	if _, err := io.WriteString(conn, "SEND 123456 hello \x1b[2J\n\n"); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = m.client.Log(ctx, control.LogRequest{Last: 10, Follow: true}, func(e control.Entry) error {
		if e.Text != "hello ␛[2J" || e.Network != control.NetworkBare || e.From.String() != "127.0.0.1" || e.MID.String() != "123456" || e.Own {
			t.Errorf("%+v", e)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
	// The daemon ends although somebody follows.
	ended := make(chan error, 1)
	go func() {
		ended <- m.client.Log(ctx, control.LogRequest{Follow: true}, func(control.Entry) error { return nil })
	}()
	said, err := m.client.Say(ctx, control.SayRequest{Text: "bye"})
	if err != nil || said.Network != control.NetworkBare {
		t.Errorf("%+v, %v", said, err)
	}
	m.stop()
	if err := <-ended; !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}
