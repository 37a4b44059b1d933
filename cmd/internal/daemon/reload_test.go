package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"anodenet/cmd/internal/chat"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/info2"
	"anodenet/overlay/store"
)

// hangUp reloads with another configuration.
func (m *machine) hangUp(t *testing.T, text string) {
	t.Helper()
	m.configure(t, text)
	m.hangup <- syscall.SIGHUP
}

func TestReload(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, "log.level = \"info\"")
	m.start(t)
	file := m.options.Source.File

	// Every error is logged, and the old configuration stays.
	m.hangUp(t, "log.level = \"loud\"\nlisten.port = \"x\"\n")
	m.log.wait(file + `:2:13: log.level: want one of debug, info, warn, error`)
	m.log.wait(file + `:3:15: listen.port: want a number from 0 to 65535`)
	m.log.wait("the configuration was not reloaded; the old one stays")

	m.hangUp(t, "log.level = \"info\"")
	m.log.wait("the configuration was reloaded; nothing changed")

	// What changes is named, with both values.
	m.hangUp(t, "policy.open = true\nrelay.enabled = false")
	m.log.wait(`msg="a setting changed" key=policy.open old=false new=true`)
	m.log.wait(`msg="a setting changed" key=relay.enabled old=true new=false`)
	m.log.wait(`msg="the configuration was reloaded" settings=2 peers=0`)

	// A proxy is another one at once, unless its credentials cannot be read.
	m.hangUp(t, "policy.open = true\nrelay.enabled = false\nproxy = \"none\"")
	m.log.wait(`msg="a setting changed" key=proxy old="\"env\"" new="\"none\""`)
	m.hangUp(t, "policy.open = true\nrelay.enabled = false\nproxy_credentials = \"file:/nowhere/proxy\"")
	m.log.wait("proxy_credentials: /nowhere/proxy: no such file or directory")

	// The file with them is read again, also where the configuration names the same one.
	credentials := filepath.Join(t.TempDir(), "proxy")
	put := func(text string) {
		if err := os.WriteFile(credentials, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m.hangUp(t, "policy.open = true\nrelay.enabled = false\nproxy_credentials = \"file:"+credentials+"\"")
	}
	put("me:swordfish")
	m.log.wait(`msg="a setting changed" key=proxy_credentials`)
	put("me:herring")
	m.log.wait(`msg="the proxy's credentials changed" file=` + credentials)
	put("nonsense")
	if log := m.log.wait("does not hold one line USER:PASSWORD"); strings.Contains(log, "swordfish") || strings.Contains(log, "herring") {
		t.Errorf("the log is\n%s", log)
	}

	// What needs a restart is said each time until then; of a secret, only its file.
	const restart = "policy.open = true\nrelay.enabled = false\nlisten.port = 1\nsecret = \"file:/etc/secret\"\n"
	for range 2 {
		m.hangUp(t, restart)
		m.log.wait(`msg="a setting needs a restart" key=secret running="\"\"" configured="\"file:/etc/secret\""`)
		m.log.wait(`msg="a setting needs a restart" key=listen.port running=8737 configured=1`)
		m.log.wait(`msg="some changes need a restart" keys="[secret listen.port]"`)
	}

	// The level is the new one at once: what is logged at info is not there.
	m.hangUp(t, "policy.open = true\nrelay.enabled = false\nlog.level = \"error\"")
	m.log.wait(`key=log.level old="\"info\"" new="\"error\""`)
	m.hangUp(t, "nonsense = 1")
	if log := m.log.wait("the old one stays"); strings.Contains(log, "level=INFO") {
		t.Errorf("the log is\n%s", log)
	}
	m.hangUp(t, "log.level = \"info\"")
	m.log.wait(`key=log.level old="\"error\"" new="\"info\""`)
}

// TestReloadPeers adds, renames and removes peers of the configuration, and leaves those
// of people as they are.
func TestReloadPeers(t *testing.T) {
	host, _ := lan(t)
	ctx := t.Context()
	one, two, own := newAddress(t), newAddress(t), newAddress(t)
	entry := func(address, name string) string {
		return "[[peers]]\naddress = \"" + address + "\"\nname = \"" + name + "\"\nendpoints = [\"udp:10.0.0.9:1\"]\n"
	}
	m := newMachine(t, host)
	m.configure(t, entry(one.String(), "one"))
	m.start(t)
	if _, err := m.client.Add(ctx, control.AddRequest{Address: own, Name: "own"}); err != nil {
		t.Fatal(err)
	}
	m.log.wait(`msg="peer added" peer="own (` + own.ID().String())
	peers := func() string {
		status, err := m.client.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		names := ""
		for _, p := range status.Peers {
			if p.Allowed {
				names += p.Name + " "
			}
		}
		return names
	}

	m.hangUp(t, entry(one.String(), "uno")+entry(two.String(), "two"))
	m.log.wait(`msg="the configuration was reloaded" settings=0 peers=2`)
	if got := peers(); !sameWords(got, "own two uno") {
		t.Errorf("got %q", got)
	}
	if err := m.client.Rename(ctx, control.RenameRequest{Address: own, Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	m.hangUp(t, entry(two.String(), "two"))
	m.log.wait(`msg="peer removed" peer=` + one.ID().String())
	m.log.wait(`by="the configuration" name=uno`)
	m.log.wait("was reloaded")
	if got := peers(); !sameWords(got, "mine two") {
		t.Errorf("got %q", got)
	}

	// A name that people gave somebody else is passed over, and said.
	m.hangUp(t, entry(two.String(), "mine"))
	m.log.wait("another peer has that name")
	m.log.wait("was reloaded")
	if got := peers(); !sameWords(got, "mine") {
		t.Errorf("got %q", got)
	}
	// This node's own address makes the configuration one that cannot be used.
	m.hangUp(t, entry(m.identity(t).String(), "me"))
	m.log.wait("the old one stays")
	m.log.wait(m.options.Source.File + ":3: peers.address: ")
	if got := peers(); !sameWords(got, "mine") {
		t.Errorf("got %q", got)
	}
}

func sameWords(a, b string) bool {
	count := map[string]int{}
	for _, w := range strings.Fields(a) {
		count[w]++
	}
	for _, w := range strings.Fields(b) {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestReloadInfo2 switches the bare network on and off.
func TestReloadInfo2(t *testing.T) {
	host, _ := lan(t)
	ctx := t.Context()
	m := newMachine(t, host).start(t)
	networks := func() int {
		t.Helper()
		status, err := m.client.Info2(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return len(status.Networks)
	}
	if n := networks(); n != 0 {
		t.Errorf("%d networks", n)
	}
	m.hangUp(t, "info2.bare = true\ninfo2.port = 26123")
	m.log.wait("key=info2.bare old=false new=true")
	m.log.wait("key=info2.port old=26000 new=26123")
	if n := networks(); n != 1 {
		t.Errorf("%d networks", n)
	}
	m.hangUp(t, "")
	m.log.wait("key=info2.bare old=true new=false")
	if n := networks(); n != 0 {
		t.Errorf("%d networks", n)
	}
}

// TestTalk follows the history while the networks become others: it goes on until the end.
func TestTalk(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	network := lonely{}
	talk, err := newTalk(chat.Config{
		Store: s, Log: slog.New(slog.DiscardHandler), Bare: chat.Transport{Dial: network.dial, Listen: network.listen},
		Watch: func(ctx context.Context, _ func()) error { <-ctx.Done(); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- talk.Run(ctx) }()
	_, next, unfollow, err := talk.Log(ctx, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer unfollow()
	for _, bare := range []bool{true, false, true} {
		if err := talk.Set(ctx, config.Info2{Bare: bare, Port: 26000}); err != nil {
			t.Fatal(err)
		}
		status, err := talk.Status(ctx)
		if err != nil || (len(status.Networks) == 1) != bare {
			t.Errorf("bare %v: %+v, %v", bare, status, err)
		}
	}
	if _, err := talk.Say(ctx, control.SayRequest{Text: "anybody there", Network: control.NetworkBare}); !errors.Is(err, info2.ErrNobody) {
		t.Errorf("the last network runs, without neighbours: %v", err)
	}
	select {
	case e, open := <-next:
		t.Errorf("got %v, %v", e, open)
	default:
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if e, open := <-next; open {
		t.Errorf("got %v after the end", e)
	}
	if err := talk.Set(t.Context(), config.Info2{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// lonely is a network with nobody else.
type lonely struct{}

func (lonely) dial(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, syscall.ECONNREFUSED
}

func (lonely) listen(context.Context, uint16) (net.Listener, error) {
	return net.Listen("tcp", "127.0.0.1:0")
}

// TestReloadFormat changes the form of the log, also of a logger that was derived before.
func TestReloadFormat(t *testing.T) {
	var out strings.Builder
	log, settings := newLogger(&out, config.Log{Format: config.FormatText}, nil)
	derived := log.With("part", "x").WithGroup("g")
	for _, test := range []struct {
		format config.Format
		want   string
	}{
		{config.FormatText, `msg=hello part=x g.n=1`},
		{config.FormatJSON, `"msg":"hello","part":"x","g":{"n":1}}`},
		{config.FormatText, `msg=hello part=x g.n=1`},
	} {
		out.Reset()
		settings.set(config.Log{Format: test.format})
		derived.Info("hello", "n", 1)
		if !strings.Contains(out.String(), test.want) {
			t.Errorf("%v: got %s, want %s", test.format, out.String(), test.want)
		}
	}
	settings.set(config.Log{Level: slog.LevelWarn})
	if derived.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("the level is not the new one")
	}
}
