package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"anodenet/anode"
	"anodenet/cmd/internal/dns"
	"anodenet/overlay/book"
)

func newAddress(t testing.TB) anode.Address {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id.Address()
}

func endpoint(t testing.TB, text string) book.Place {
	t.Helper()
	e, err := book.ParsePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "anode.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExampleIsTheDefault(t *testing.T) {
	c, err := Parse([]byte(Example()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, Default()) {
		t.Errorf("the example parses to\n%+v, the default is\n%+v", c, Default())
	}
}

// TestKeysAreComplete walks the structs, so that no field can be without a key, and
// thereby without a variable, a place in the example and a check for changes.
func TestKeysAreComplete(t *testing.T) {
	var fields []string
	for f := range reflect.TypeFor[Config]().Fields() {
		tag := f.Tag.Get("toml")
		if f.Type.Kind() != reflect.Struct || reflect.PointerTo(f.Type).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
			fields = append(fields, tag)
			continue
		}
		for g := range f.Type.Fields() {
			fields = append(fields, tag+"."+g.Tag.Get("toml"))
		}
	}
	keys := []string{"peers", "services"}
	c := Default()
	for _, k := range c.keys() {
		keys = append(keys, k.name)
	}
	slices.Sort(fields)
	slices.Sort(keys)
	if !slices.Equal(fields, keys) {
		t.Errorf("fields %q\nkeys   %q", fields, keys)
	}
}

func TestParse(t *testing.T) {
	a := newAddress(t)
	c, err := Parse([]byte(`
zone = "1f"
secret = "file:/etc/anode/secret"
portmap = false
portmap_off = ["eth0", "192.168.7.0/24"]
proxy = "http://proxy.example.org:3128"
proxy_credentials = "file:/etc/anode/proxy"
[listen]
port = 0
tcp = [443, 80]
[tun]
name = "none"
mtu = 1280
queues = 2
offload = "off"
[local]
socks = "unix:/run/anode/socks"
http = "0.0.0.0:8118"
anywhere = true
forward = ["8080=north:80", "udp:5353=north:53"]
expose = ["22@north"]
[files]
trust = ["north", "055b413c40ef750d"]
dir = "~/Downloads"
[lan]
peers = "all"
ip4 = "198.18.0.0/15"
games = true
[people]
requests = "introduced"
name = "north"
[names]
enabled = false
suffix = "Home.Example."
search = true
port = 5353
manage = "off"
[discovery]
interfaces = ["eth0"]
announce = "off"
quiet = ["wlan0", "192.168.44.0/24"]
[link]
rung = "plain"
standard_aes = true
ethernet = ["eth1"]
[policy]
open = true
[relay]
enabled = false
client_rate = "100Mbit"
total_rate = 1000
[info2]
enabled = true
bare = true
bridge = true
port = 26001
[log]
level = "debug"
format = "json"
[[peers]]
address = "` + a.String() + `"
name = "north"
endpoints = ["udp:192.0.2.1:8737", "home.example.org", "udp:[2001:db8::1]:1"]
lan = true
[[services]]
name = "web"
port = 8080
type = "http"
txt = ["path=/"]
[[services]]
port = 53
proto = "udp"
type = "dns"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Zone: Zone{0x1f}, Secret: Secret{"/etc/anode/secret"}, PortmapOff: []string{"eth0", "192.168.7.0/24"},
		Proxy: Proxy{url: "http://proxy.example.org:3128"}, Credentials: Credentials{"/etc/anode/proxy"},
		Listen:    Listen{TCP: Ports{true, []uint16{443, 80}}},
		Tun:       Tun{Name: "none", MTU: 1280, Queues: 2, Offload: OffloadOff},
		Local:     Local{"unix:/run/anode/socks", "0.0.0.0:8118", true, []string{"8080=north:80", "udp:5353=north:53"}, []string{"22@north"}},
		Files:     Files{[]string{"north", "055b413c40ef750d"}, "~/Downloads"},
		LAN:       LAN{LANAll, Range{netip.MustParsePrefix("198.18.0.0/15")}, true},
		People:    People{RequestsIntroduced, "north"},
		Names:     Names{false, "home.example", true, 5353, ManageOff},
		Discovery: Discovery{[]string{"eth0"}, AnnounceOff, []string{"wlan0", "192.168.44.0/24"}},
		Link:      Link{RungPlain, true, []string{"eth1"}},
		Policy:    Policy{Open: true},
		Site:      Site{Serve: Serve{On: true}},
		Relay:     Relay{ClientRate: Rate{12_500_000}, TotalRate: Rate{1000}},
		Info2:     Info2{Enabled: true, Bare: true, Bridge: true, Port: 26001},
		Log:       Log{slog.LevelDebug, FormatJSON},
		Peers: []Peer{{a, "north", []book.Place{
			endpoint(t, "udp:192.0.2.1:8737"), endpoint(t, "udp:home.example.org:8737"), endpoint(t, "udp:[2001:db8::1]:1"),
		}, true}},
		Services: []dns.Service{{Port: 8080, Proto: "tcp", Type: "http", Name: "web", TXT: []string{"path=/"}}, {Port: 53, Proto: "udp", Type: "dns"}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, want\n%+v", c, want)
	}
}

// TestProblems has each kind of mistake in a file; the errors are everything that is said.
func TestProblems(t *testing.T) {
	a, b := newAddress(t).String(), newAddress(t).String()
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"key", "[listen]\nprot = 1\n", []string{`2:1: unknown key "listen.prot"; did you mean "listen.port"?`}},
		{"key of another section", "[tun]\nport = 1\n", []string{`2:1: unknown key "tun.port"; did you mean "listen.port" or "names.port" or "info2.port"?`}},
		{"key without its section", "mtu = 1400\n", []string{`1:1: unknown key "mtu"; did you mean "tun.mtu"?`}},
		{"capital", "[listen]\nPort = 1\n", []string{`2:1: unknown key "listen.Port"; did you mean "listen.port"?`}},
		{"section", "\n\n[lsten]\nport = 1\n", []string{`3:2: unknown section "lsten"; did you mean "listen"?`}},
		{"capital section", "[Listen]\nport = 1\n", []string{`1:2: unknown section "Listen"; did you mean "listen"?`}},
		{"top", "zoom = 1\n", []string{`1:1: unknown key "zoom"; did you mean "zone"?`}},
		{"far", "[metrics]\naddress = 1\n", []string{`1:2: unknown section "metrics"`}},
		{"section as a key", "tun = 1\n", []string{`1:1: "tun" is a section; its keys are tun.name, tun.mtu, tun.queues, tun.offload`}},
		{"key as a section", "[zone]\na = 1\n", []string{`2:1: unknown key "zone.a"; did you mean "zone.id"?`}},
		{"near key of a zone", "[zone]\nserv = true\n", []string{`2:1: unknown key "zone.serv"; did you mean "zone.serve"?`}},
		{"list of zones", "[[zone]]\nserve = true\n", []string{`1:3: zone: want an IPv4 address`}},
		{"zone twice", "zone = \"1\"\n[zone]\nserve = true\n", []string{`2:2: not TOML: `}},
		{"serve", "[zone]\nserve = \"80\"\n", []string{`2:9: zone.serve: want true, false or "IP:PORT", not the text "80"`}},
		{"serve as a number", "[zone]\nserve = 80\n", []string{`2:9: zone.serve: want true, false or "IP:PORT", not 80`}},
		{"suffix", "[names]\nsuffix = \"local\"\n", []string{`2:10: names.suffix: want a domain such as "anode.internal"`}},
		{"suffixes", "[names]\nsuffix = \"-a.b\"\nport = 0\nmanage = \"yes\"\n", []string{`2:10: names.suffix: `, `3:8: names.port: want a number from 1 to 65535, not 0`, `4:10: names.manage: want one of auto, off`}},
		{"service", "[[services]]\nport = 0\ntype = \"http\"\n[[services]]\nport = 1\n[[services]]\nport = 1\ntype = \"a\"\nproto = \"sctp\"\n", []string{`2:8: services.port: want a number from 1 to 65535, not 0`, `4:3: services.type: want 1 to 15`, `6:3: services.proto: want tcp or udp`}},
		{"service key", "[[services]]\nport = 1\ntype = \"http\"\nports = 2\n", []string{`4:1: unknown key "services.ports"; did you mean "services.port"?`}},
		{"one service", "[services]\nport = 1\n", []string{`1:2: services: want [[services]]`}},
		{"service twice", "[[services]]\nport = 1\ntype = \"http\"\n[[services]]\nport = 2\ntype = \"http\"\n", []string{`4:3: services.name: two services of type http have the same name`}},
		{"texts", "[[services]]\nport = 1\ntype = \"a\"\ntxt = [" + strings.Repeat("\"x\",", 9) + "]\n[[services]]\nport = 2\ntype = \"b\"\ntxt = [\" x\"]\n[[services]]\nport = 2\ntype = \"b\"\ntxt = [\"a\u202eb\"]\n",
			[]string{`1:3: services.txt: more than 8`, `5:3: services.txt: want texts`, `9:3: services.txt: want texts`}},
		{"much to tell", manyTexts(), []string{`1:3: services: names, types and texts have 4`}},
		{"services", strings.Repeat("[[services]]\nport = 1\ntype = \"http\"\n", 17), []string{`1:3: services: 17 are more than the 16`}},
		{"rate", "[relay]\nclient_rate = \"fast\"\n", []string{`2:15: relay.client_rate: want a rate of at least 1kB a second, such as "100Mbit" or "12MB", or 0, not the text "fast"`}},
		{"negative rate", "[relay]\ntotal_rate = -1\n", []string{`2:14: relay.total_rate: want a rate of at least 1kB a second, such as "100Mbit" or "12MB", or 0, not -1`}},
		{"place", "[local]\nsocks = \"socks\"\n", []string{`2:9: local.socks: want a PORT, "IP:PORT" or "unix:/PATH", not the text "socks"`}},
		{"place that others reach", "[local]\nsocks = \"0.0.0.0:1080\"\nforward = [\"80=north:80\", \"192.0.2.1:80=north:80\"]\n", []string{
			`2:9: local.socks: 0.0.0.0:1080 is no loopback address: everybody`, `3:1: local.forward: 192.0.2.1:80=north:80 is no loopback address: everybody`}},
		{"forward", "[local]\nforward = [\"8080=north:80\", \"8080\"]\n", []string{`2:1: local.forward: want a list such as ["8080=north:80", "udp:5353=north:53"], not the text "8080"`}},
		{"expose", "[local]\nexpose = [\"x\"]\n", []string{`2:1: local.expose: want a list such as ["8080", "80=127.0.0.1:8080@north+south"], not the text "x"`}},
		{"trust", "[files]\ntrust = [\"north\", \"a b\"]\n", []string{`2:1: files.trust: want a list of peers, such as ["laptop", "north"], not the text "a b"`}},
		{"trust in nobody", "[files]\ntrust = [\"\"]\n", []string{`2:1: files.trust: want a list of peers`}},
		{"directory", "[files]\ndir = \"in\"\n", []string{`2:7: files.dir: want a path from the root, or one that begins with ~/, not the text "in"`}},
		{"relay for the zone alone", "[relay]\nenabled = false\nzone = true\n", []string{`3:8: relay.zone: needs relay.enabled as well`}},
		{"list of sections", "[[tun]]\nmtu = 1400\n", []string{`1:3: "tun" appears once: write [tun]`}},
		{"quoted", "\"listen.port\" = 1\n", []string{`1:1: unknown key "listen.port"; write it without quotes`}},
		{"dotted", "tun.mtu = 9\nlisten.prot = 1\n", []string{
			`1:11: tun.mtu: want a number from 1280 to 65535, not 9`, `2:8: unknown key "listen.prot"; did you mean "listen.port"?`}},
		{"inline", "tun = { mtu = 9, nam = 1 }\n", []string{
			`1:15: tun.mtu: want a number from 1280 to 65535, not 9`, `1:18: unknown key "tun.nam"; did you mean "tun.name"?`}},
		{"text for a number", "[listen]\nport = \"1\"\n", []string{`2:8: listen.port: want a number from 0 to 65535, not the text "1"`}},
		{"range", "[listen]\nport = 65536\n", []string{`2:8: listen.port: want a number from 0 to 65535, not 65536`}},
		{"fraction", "[listen]\nport = 1.5\n", []string{`2:8: listen.port: want a number from 0 to 65535, not 1.5`}},
		{"list", "[listen]\nport = [1]\n", []string{`2:1: listen.port: want a number from 0 to 65535, not a list of 1`}},
		{"date", "[listen]\nport = 2026-01-01\n", []string{`2:8: listen.port: want a number from 0 to 65535, not a date or time`}},
		{"truth", "[policy]\nopen = \"yes\"\n", []string{`2:8: policy.open: want true or false, not the text "yes"`}},
		{"word", "[link]\nrung = \"fast\"\n", []string{`2:8: link.rung: want one of auto, gso, batch, plain, not the text "fast"`}},
		{"level", "[log]\nlevel = \"Warn+2\"\n", []string{`2:9: log.level: want one of debug, info, warn, error, not the text "Warn+2"`}},
		{"level as a number", "[log]\nlevel = 4\n", []string{`2:9: log.level: want one of debug, info, warn, error, in quotes, not 4`}},
		{"secret is not shown", "secret = \"swordfish\"\n", []string{`1:10: secret: want "file:PATH", the name of a file that holds it`}},
		{"network", "portmap_off = [\"eth0\", \"10.0.0.0/33\"]\n", []string{`1:1: portmap_off: want a list of interfaces and networks, such as ["eth0", "192.168.7.0/24"], not the text "10.0.0.0/33"`}},
		{"server", "stun = [\"udp:a:1\", \"b\"]\n", []string{`1:1: stun: want a list of at most 2 servers, each "udp:HOST:PORT", not the text "b"`}},
		{"networks as a text", "portmap_off = \"eth0\"\n", []string{`1:15: portmap_off: want a list of interfaces and networks, such as ["eth0", "192.168.7.0/24"], not the text "eth0"`}},
		{"networks as numbers", "portmap_off = [1]\n", []string{`1:1: portmap_off: want a list of interfaces and networks, such as ["eth0", "192.168.7.0/24"], not 1`}},
		{"zone", "zone = \"xyz\"\n", []string{`1:8: zone: want an IPv4 address that other machines can reach, up to 8 hex digits, or a name such as a--c0000201.net, not the text "xyz"`}},
		{"zone as a number", "zone = 12\n", []string{`1:8: zone: want an IPv4 address that other machines can reach, up to 8 hex digits, or a name such as a--c0000201.net, in quotes, not 12`}},
		{"TCP port", "[listen]\ntcp = 443\n", []string{`2:7: listen.tcp: want a list of at most 8 TCP ports from 1 to 65535, such as [8737, 443] ([]: none), or "auto", not 443`}},
		{"TCP ports", "[listen]\ntcp = [8737, 0]\n", []string{`2:1: listen.tcp: want a list of at most 8 TCP ports from 1 to 65535, such as [8737, 443] ([]: none), or "auto", not 0`}},
		{"TCP port as a text", "[listen]\ntcp = [\"443\"]\n", []string{`2:1: listen.tcp: want a list of at most 8 TCP ports from 1 to 65535, such as [8737, 443] ([]: none), or "auto", not the text "443"`}},
		{"TCP word", "[listen]\ntcp = \"none\"\n", []string{`2:7: listen.tcp: want a list of at most 8 TCP ports from 1 to 65535, such as [8737, 443] ([]: none), or "auto", not the text "none"`}},
		{"Ethernet", "[link]\nethernet = \"eth0\"\n", []string{`2:12: link.ethernet: want a list of interface names, such as ["eth0"], not the text "eth0"`}},
		{"Ethernet address", "[link]\nethernet = [\"eth0\", \"02:00:00:00:00:01\"]\n", []string{`2:1: link.ethernet: want a list of interface names, such as ["eth0"], not the text "02:00:00:00:00:01"`}},
		{"Ethernet at an IP address", "[link]\nethernet = [\"192.0.2.1\"]\n", []string{`2:1: link.ethernet: want a list of interface names, such as ["eth0"], not the text "192.0.2.1"`}},
		{"proxy with a password is not shown", "proxy = \"http://me:swordfish@proxy.example.org\"\n", []string{`1:9: proxy: want "env", "none" or the URL of an HTTP proxy, such as "http://proxy.example.org:3128" (a user name and password go into the file of proxy_credentials)`}},
		{"proxy without http", "proxy = \"proxy.example.org:3128\"\n", []string{`1:9: proxy: want "env", "none" or the URL of an HTTP proxy`}},
		{"SOCKS", "proxy = \"socks5://192.0.2.1\"\n", []string{`1:9: proxy: want "env", "none" or the URL of an HTTP proxy`}},
		{"proxy with a path", "proxy = \"http://192.0.2.1/x\"\n", []string{`1:9: proxy: want "env", "none" or the URL of an HTTP proxy`}},
		{"proxy as a truth", "proxy = false\n", []string{`1:9: proxy: want "env", "none" or the URL of an HTTP proxy, such as "http://proxy.example.org:3128" (a user name and password go into the file of proxy_credentials), in quotes, not false`}},
		{"credentials are not shown", "proxy_credentials = \"me:swordfish\"\n", []string{`1:21: proxy_credentials: want "file:PATH", the name of a file that holds USER:PASSWORD`}},
		{"twice", "[tun]\nmtu = 1400\nmtu = 1400\n", []string{"3:1: not TOML: key mtu is already defined"}},
		{"grammar", "[tun\n", []string{"1:5: not TOML: "}},
		{"two on a line", "[tun]\nmtu = 1400 queues = 1\n", []string{"2:12: not TOML: expected newline but got 'q'"}},
		{"long number", "[tun]\nmtu = 99999999999999999999\n", []string{"2:7: not TOML: decimal number is too large"}},
		{"info2 port", "[info2]\nport = 0\n", []string{`2:8: info2.port: want a number from 1 to 65535, not 0`}},
		{"bridge", "[info2]\nbridge = true\n", []string{"2:10: info2.bridge: a bridge has two ends: set info2.enabled and info2.bare as well"}},
		{"interface", "[tun]\nname = \"a/b\"\n", []string{`2:8: tun.name: want an interface name: 1 to 15 characters without / : % and blanks, not the text "a/b"`}},
		{"address", "[[peers]]\naddress = \"aeaa\"\n", []string{`2:11: peers.address: want an address of 64 characters, as shown by "anode id", not "aeaa"`}},
		{"mistyped address", "[[peers]]\naddress = \"" + a[:63] + "\"\n", []string{`2:11: peers.address: "` + a[:12] + `…` + a[57:63] + `" is not a valid address: 63 characters`}},
		{"no address", "[[peers]]\nname = \"n\"\n", []string{"1:3: peers.address: it is missing"}},
		{"peers with one bracket", "[peers]\nname = \"n\"\n", []string{"1:2: peers: want [[peers]], with two brackets, before each peer"}},
		{"peers as texts", "peers = [\"" + a + "\"]\n", []string{"1:10: peers: want an address, a name and endpoints, not the text "}},
		{"key of a peer", "[[peers]]\naddress = \"" + a + "\"\nendpoint = []\n", []string{`3:1: unknown key "peers.endpoint"; did you mean "peers.endpoints"?`}},
		{"peer's name", "[[peers]]\naddress = \"" + a + "\"\nname = \"North Pole\"\n", []string{`3:8: peers.name: not a name for a peer: "North Pole"`}},
		{"endpoints", "[[peers]]\naddress = \"" + a + "\"\nendpoints = [\"udp:1.2.3.4:5\",\n \"udp:here\",\n 1]\n", []string{
			`4:2: peers.endpoints: not a usable endpoint: "udp:here"`, `5:2: peers.endpoints: want an endpoint such as "udp:192.0.2.1:8737", not 1`}},
		{"a mistyped address", "[[peers]]\naddress = \"" + a + "\"\nendpoints = [\"udp:10.0.0.300:1\"]\n", []string{`3:14: peers.endpoints: not a usable endpoint: "udp:10.0.0.300:1": the IP address is not valid`}},
		{"too many names", "[[peers]]\naddress = \"" + a + "\"\nendpoints = [" + strings.Repeat("\"a.example:5\",", 5) + "]\n", []string{`2:11: peers.endpoints: 5 host names are more than the 4 that a peer can have`}},
		{"endpoints as a text", "[[peers]]\naddress = \"" + a + "\"\nendpoints = \"udp:1.2.3.4:5\"\n", []string{`3:13: peers.endpoints: want a list such as ["udp:192.0.2.1:8737"], not the text "udp:1.2.3.4:5"`}},
		{"too many endpoints", "[[peers]]\naddress = \"" + a + "\"\nendpoints = [" + strings.Repeat("\"udp:1.2.3.4:5\",", 17) + "]\n", []string{`2:11: peers.endpoints: 17 are more than the 16 that a peer can have`}},
		{"same peer", strings.Repeat("[[peers]]\naddress = \""+a+"\"\n", 2), []string{"4:11: peers.address: " + a + " appears twice, first in line 2"}},
		{"same name", "[[peers]]\naddress = \"" + a + "\"\nname = \"n\"\n[[peers]]\naddress = \"" + b + "\"\nname = \"n\"\n",
			[]string{`6:8: peers.name: two peers are named "n", the other is ` + a}},
		{"all at once, by line", "zone = 1\n[tun]\nmtu = 1\nqueues = 99\n[info2]\nbridge = true\nbare = 1\n[listen]\nport = \"x\"\n", []string{
			"1:8: zone: ", "3:7: tun.mtu: ", "4:10: tun.queues: ", "7:8: info2.bare: ", "9:8: listen.port: "}},
		{"byte order mark", "\ufeffzone = 1\n", []string{"1:8: zone: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]byte(test.text))
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("got %q, want %q", lines, test.want)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], "configuration:"+want) {
					t.Errorf("got %q, want %q", lines[i], want)
				}
			}
		})
	}
}

func TestOrder(t *testing.T) {
	file := write(t, "[listen]\nport = 1\n[tun]\nmtu = 1401\n[log]\nlevel = \"debug\"\n")
	c, err := Source{
		File: file,
		Env:  []string{"ANODE_LISTEN_PORT=2", "ANODE_TUN_MTU=1402"},
		Set:  []string{"listen.port = 4", "listen.port=3"},
	}.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen.Port = 3             // the last flag
	want.Tun.MTU = 1402              // the environment
	want.Log.Level = slog.LevelDebug // the file
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, want\n%+v", c, want)
	}
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct{ variable, want string }{
		{"ANODE_LISTEN_PORT=-1", `want a number from 0 to 65535, not "-1"`},
		{"ANODE_LISTEN_PORT=99999", `want a number from 0 to 65535, not "99999"`},
		{"ANODE_TUN_MTU=big", `want a number from 1280 to 65535, not "big"`},
		{"ANODE_POLICY_OPEN=maybe", `want true or false, not "maybe"`},
		{"ANODE_LINK_RUNG=fast", `want one of auto, gso, batch, plain, not "fast"`},
		{"ANODE_ZONE=xyz", `want an IPv4 address that other machines can reach, up to 8 hex digits, or a name such as a--c0000201.net, not "xyz"`},
		{"ANODE_ZONE_SERVE=1.2.3.4", `want true, false or "IP:PORT", not "1.2.3.4"`},
		{"ANODE_ZONE_ID=1", "unknown variable"},
		{"ANODE_RELAY_TOTAL_RATE=100Mbit", ""},
		{"ANODE_SECRET=swordfish", `want "file:PATH", the name of a file that holds it`},
		{"ANODE_PEERS=north", `want [NAME=]ADDRESS[@udp:IP:PORT], not "north"`},
		{"ANODE_LISTEN_PRT=1", "unknown variable; did you mean ANODE_LISTEN_PORT?"},
		{"ANODE_LISTENPORT=1", "unknown variable; did you mean ANODE_LISTEN_PORT?"},
		{"ANODE_PEER=1", "unknown variable; did you mean ANODE_PEERS?"},
		{"ANODE_STAT=/x", "unknown variable; did you mean ANODE_STATE?"},
		{"ANODE_POLICY=1", "unknown variable; did you mean ANODE_POLICY_OPEN?"},
		{"ANODE_SOMETHING_ELSE=1", "unknown variable"},
		{"ANODE_PORTMAP_OFF=eth0,10.0.0.0/33", `want a list of interfaces and networks, such as ["eth0", "192.168.7.0/24"], not "eth0,10.0.0.0/33"`},
		{"ANODE_PORTMAP_OFF=eth0 wlan0,10.0.0.0/8", ""},
		{"ANODE_LISTEN_PORT=", ""},
		{"ANODE_LISTEN_PRT=", ""},
		{"ANODE_STATE=/x", ""},
		{"ANODE_SOCKET=/x", ""},
		{"ANODE_CONFIG=/x", ""},
		{"ANODE_TEXT=hello", ""},
		{"ANODEX=1", ""},
	} {
		_, err := Source{File: write(t, ""), Env: []string{"PATH=/bin", test.variable}}.Load()
		name, _, _ := strings.Cut(test.variable, "=")
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.variable, err)
		case test.want != "" && (!errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), "environment "+name+": "+test.want)):
			t.Errorf("%s: %v", test.variable, err)
		}
	}
}

func TestSetErrors(t *testing.T) {
	for assignment, want := range map[string]string{
		"listen.prot=1":    `--set: unknown key "listen.prot"; did you mean "listen.port"?`,
		"TUN.MTU=1400":     `--set: unknown key "TUN.MTU"; did you mean "tun.mtu"?`,
		"port=1":           `--set: unknown key "port"; did you mean "listen.port" or "names.port" or "info2.port"?`,
		"foo=1":            `--set: unknown key "foo"`,
		"=1":               `--set: unknown key ""`,
		"tun=1":            `--set: "tun" is a section; its keys are tun.name, tun.mtu, tun.queues, tun.offload`,
		"peers.0.name=x":   "--set: peers have a flag of their own: --peer [NAME=]ADDRESS[@udp:IP:PORT]",
		"peers=x":          "--set: peers have a flag of their own: --peer [NAME=]ADDRESS[@udp:IP:PORT]",
		"listen.port":      `--set: want KEY=VALUE, not "listen.port"`,
		"listen.port=x":    `--set: listen.port: want a number from 0 to 65535, not "x"`,
		"secret=swordfish": `--set: secret: want "file:PATH", the name of a file that holds it`,
		"listen.port= 1":   "",
	} {
		_, err := Source{File: write(t, ""), Set: []string{assignment}}.Load()
		switch {
		case want == "" && err != nil:
			t.Errorf("--set %s: %v", assignment, err)
		case want != "" && (!errors.Is(err, ErrInvalid) || err.Error() != want):
			t.Errorf("--set %s: got %v, want %s", assignment, err, want)
		}
	}
}

// TestEveryProblem collects from all sources: the file by line, the environment, flags.
func TestEveryProblem(t *testing.T) {
	file := write(t, "[listen]\nport = \"x\"\n[tun]\nmtu = 1\n")
	s := Source{
		File: file, Env: []string{"ANODE_TUN_MTUU=1", "ANODE_LOG_LEVEL=loud"},
		Set: []string{"nonsense=1"}, Flags: []Flag{{"--port", "listen.port", "99999"}},
	}
	_, err := s.Load()
	want := file + `:2:8: listen.port: want a number from 0 to 65535, not the text "x"
` + file + `:4:7: tun.mtu: want a number from 1280 to 65535, not 1
environment ANODE_LOG_LEVEL: want one of debug, info, warn, error, not "loud"
environment ANODE_TUN_MTUU: unknown variable; did you mean ANODE_TUN_MTU?
--port: want a number from 0 to 65535, not "99999"
--set: unknown key "nonsense"`
	var problems Problems
	if !errors.As(err, &problems) || err.Error() != want || !problems.Usage() {
		t.Errorf("got\n%v, want\n%s", err, want)
	}
	s.Set, s.Flags = nil, nil
	if _, err := s.Load(); !errors.As(err, &problems) || problems.Usage() {
		t.Errorf("without flags: %v", err)
	}
}

// TestOrigins reads what TOML writes, with the same values.
func TestOrigins(t *testing.T) {
	a, b := newAddress(t), newAddress(t)
	file := write(t, "zone = \"1f\"\n[tun]\nmtu = 1400\nname = \"a#b\"\n[[peers]]\nname = \"north\"\naddress = \""+a.String()+"\"\nendpoints = [\"udp:192.0.2.1:1\"]\n[[services]]\nport = 80\ntype = \"http\"\ntxt = [\"a=\\\"b\"]\n")
	l, err := Source{
		File: file, Env: []string{"ANODE_LISTEN_PORT=2", "ANODE_POLICY_OPEN=true"},
		Set: []string{"policy.open=false"}, Flags: []Flag{{"--info2-bare", "info2.bare", "true"},
			{"--peer", "peers", "south=" + b.String()}, {"--peer", "peers", a.String()}},
	}.Read()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"zone": file + ":1", "tun.mtu": file + ":3", "tun.queues": "default", "listen.port": "environment ANODE_LISTEN_PORT",
		"policy.open": "--set", "info2.bare": "--info2-bare",
	} {
		if got := l.Origin(key).String(); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if got := []string{l.PeerOrigin(0).String(), l.PeerOrigin(1).String()}; !slices.Equal(got, []string{file + ":7", "--peer"}) {
		t.Errorf("peers: %q", got)
	}
	text := l.TOML()
	for _, want := range []string{"mtu = 1400  # " + file + ":3\n", "queues = 0  # default\n", "[[peers]]  # --peer\n", "[[services]]  # " + file + ":"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	again, err := Parse([]byte(text))
	if err != nil || !reflect.DeepEqual(again, l.Config) {
		t.Errorf("%v: got\n%+v, want\n%+v", err, again, l.Config)
	}
	if n := len(l.Settings()); n != len(l.keys()) {
		t.Errorf("%d settings", n)
	}
}

func TestPeersAreJoined(t *testing.T) {
	a, b := newAddress(t), newAddress(t)
	file := write(t, "[[peers]]\naddress = \""+a.String()+"\"\nname = \"north\"\nendpoints = [\"udp:192.0.2.1:1\"]\n")
	flags := []Flag{{"--peer", "peers", a.String() + "@udp:192.0.2.2:2@home.example.org:3"}}
	s := Source{File: file, Flags: flags, Env: []string{"ANODE_PEERS=east=" + b.String() + ", " + a.String()}}
	for range 2 { // a second Load sees the same
		c, err := s.Load()
		if err != nil {
			t.Fatal(err)
		}
		want := []Peer{{a, "north", []book.Place{
			endpoint(t, "udp:192.0.2.1:1"), endpoint(t, "udp:192.0.2.2:2"), endpoint(t, "udp:home.example.org:3"),
		}, false}, {Address: b, Name: "east"}}
		if !reflect.DeepEqual(c.Peers, want) {
			t.Errorf("got\n%v, want\n%v", c.Peers, want)
		}
	}
}

func TestParsePeerErrors(t *testing.T) {
	a := newAddress(t).String()
	for _, text := range []string{"", "@", "north", a + "@", a + "@udp:1.2.3.4", a + "@@udp:1.2.3.4:5", a[1:], "=" + a, "North=" + a, "north=", "a=b=" + a} {
		if p, err := ParsePeer(text); err == nil {
			t.Errorf("%q: %v", text, p)
		}
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Source{File: filepath.Join(t.TempDir(), "none.toml")}.Load()
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named must be there: %v", err)
	}
	base := func() Config { c := Default(); c.Log.Level = slog.LevelWarn; return c }
	c, err := Source{Base: base, File: filepath.Join(t.TempDir(), "none.toml"), Maybe: true}.Load()
	if err != nil || !reflect.DeepEqual(c, base()) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestChanges(t *testing.T) {
	a, b := Default(), Default()
	b.Log.Level = slog.LevelWarn
	b.Policy.Open = true
	b.Peers = []Peer{{Address: newAddress(t)}}
	if got, want := Changes(a, b), []Change{{"policy.open", "false", "true"}, {"log.level", `"info"`, `"warn"`}}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Changes(a, a); got != nil {
		t.Errorf("nothing changed, but %q", got)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	put := func(text string, mode os.FileMode) {
		t.Helper()
		os.Remove(path)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	hex := strings.Repeat("0a", 32)
	put(hex+"\n", 0o600)
	secret, err := Secret{path}.Load()
	if err != nil || secret[0] != 10 || secret[31] != 10 {
		t.Errorf("%x, %v", secret, err)
	}
	put(hex, 0o640)
	if _, err := (Secret{path}).Load(); !errors.Is(err, ErrInvalid) {
		t.Errorf("others can read it: %v", err)
	}
	for _, bad := range []string{"", hex[2:], hex + "00", "zz" + hex[2:], strings.Repeat("0", 64), hex + strings.Repeat("\n", 1024)} {
		put(bad, 0o600)
		if _, err := (Secret{path}).Load(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	put(hex, 0o600)
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := (Secret{link}).Load(); !errors.Is(err, ErrInvalid) {
		t.Errorf("a symbolic link: %v", err)
	}
	if _, err := (Secret{path + "-missing"}).Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if secret, err := (Secret{}).Load(); err != nil || secret != [SecretSize]byte{} {
		t.Errorf("none: %x, %v", secret, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Example()))
	f.Add([]byte("[[peers]]\naddress = \"" + newAddress(f).String() + "\"\nendpoints = [\"udp:1.2.3.4:5\"]\n"))
	f.Add([]byte("[listen]\nprot = 1\n"))
	f.Add([]byte("a.b.c = [[1, {x = 2}]]\n[peers]\n"))
	f.Add([]byte("zone = 1\n[tun]\nmtu = 1\n[[peers]]\n[peers.x]\ny = 1\n[[tun.z]]\n"))
	f.Add([]byte("peers = [{address = 1, \n endpoints = [[], 2]}]\n\"\" = 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			checkPlaces(t, b, err)
			return
		}
		// What was read is written as it would be in a file, and reads the same.
		l := Loaded{Config: c, peers: make([]Origin, len(c.Peers))}
		again, err := Parse([]byte(l.TOML()))
		if err != nil {
			t.Fatalf("%s\n%v", l.TOML(), err)
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("got\n%+v, want\n%+v", again, c)
		}
	})
}

// checkPlaces demands that each problem has its own place, within the file.
func checkPlaces(t *testing.T, b []byte, err error) {
	t.Helper()
	var problems Problems
	if !errors.As(err, &problems) || !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	lines := bytes.Split(b, []byte("\n"))
	for i, p := range problems {
		o := p.Origin
		if o.Kind != FromFile || o.Line < 1 || o.Line > len(lines) || o.Column < 1 || o.Column > len(lines[o.Line-1])+1 {
			t.Errorf("%q is outside the file", p)
		}
		if i > 0 && o.Line < problems[i-1].Origin.Line {
			t.Errorf("%q is after %q", p, problems[i-1])
		}
	}
}

// STUN servers are a list in the file, and separated by commas elsewhere.
func TestServers(t *testing.T) {
	for text, want := range map[string]string{
		`stun = ["udp:stun.example.org:3478"]`:      `["udp:stun.example.org:3478"]`,
		`stun = ["udp:[2001:db8::1]:1", "udp:a:2"]`: `["udp:[2001:db8::1]:1", "udp:a:2"]`,
		`stun = []`: `[]`,
	} {
		c, err := Parse([]byte(text))
		if got := (servers{&c.STUN}).format(); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{`stun = "udp:a:1"`, `stun = ["a:1"]`, `stun = ["udp:a"]`, `stun = ["udp:a:0"]`, `stun = ["udp::1"]`, `stun = [1]`, `stun = ["udp:a:1","udp:b:1","udp:c:1"]`} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "udp:HOST:PORT") {
			t.Errorf("%s: %v", text, err)
		}
	}
	c, err := Source{Env: []string{"ANODE_STUN=udp:a:1,udp:b:2"}}.Load()
	if err != nil || len(c.STUN) != 2 {
		t.Fatalf("%v, %v", c.STUN, err)
	}
	if host, port := c.STUN[1].HostPort(); host != "b" || port != 2 {
		t.Errorf("%q, %d", host, port)
	}
}

func TestLocalSpecs(t *testing.T) {
	c, err := Source{Env: []string{"ANODE_LOCAL_SOCKS=1080", "ANODE_LOCAL_FORWARD=8080=north:80 udp:53=north:53", "ANODE_LOCAL_EXPOSE=80=127.0.0.1:8080@north+south,22"}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range c.Local.Specs() {
		got = append(got, string(s.Kind())+" "+s.String())
	}
	want := []string{"socks 127.0.0.1:1080", "forward 127.0.0.1:8080=north:80", "forward udp:127.0.0.1:53=north:53", "expose 80=127.0.0.1:8080@north+south", "expose 22=127.0.0.1:22"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestFolder: a directory in the home is that of who asks.
func TestFolder(t *testing.T) {
	home := func() (string, error) { return "/home/ada", nil }
	for dir, want := range map[string]string{"": "", "/srv/in": "/srv/in", "~/in/box": "/home/ada/in/box"} {
		if got, err := (Files{Dir: dir}).Folder(home); err != nil || filepath.ToSlash(got) != want {
			t.Errorf("%q: %q, %v", dir, got, err)
		}
	}
	if _, err := (Files{Dir: "~/in"}).Folder(func() (string, error) { return "", fs.ErrNotExist }); err == nil {
		t.Error("a user without a home has one")
	}
}

// What the virtual LAN and the discovery refuse.
func TestLANProblems(t *testing.T) {
	for text, want := range map[string]string{
		"[lan]\nip4 = \"8.0.0.0/8\"":                                             "lan.ip4: want a private IPv4 range",
		"[lan]\nip4 = \"100.64.1.0/10\"":                                         "lan.ip4: want a private IPv4 range",
		"[lan]\npeers = \"some\"":                                                "lan.peers: want",
		"[lan]\ngames = 1":                                                       "lan.games: want true or false",
		"[discovery]\nquiet = [\"10.0.0.0/99\"]":                                 "discovery.quiet: want a list of interfaces and networks",
		"[discovery]\nannounce = \"friend\"":                                     "discovery.announce: want",
		"[[peers]]\naddress = \"" + newAddress(t).String() + "\"\nlan = \"yes\"": "peers.lan: want true or false",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]Announce{"all": AnnounceAll, "friends": AnnounceFriends, "off": AnnounceOff} {
		if c, err := Parse([]byte("[discovery]\nannounce = \"" + text + "\"")); err != nil || c.Discovery.Announce != want {
			t.Errorf("%s: %v, %v", text, c.Discovery.Announce, err)
		}
	}
	c, err := Parse([]byte("[lan]\nip4 = \"off\""))
	if err != nil || c.LAN.IP4.IsValid() {
		t.Errorf("off: %v, %v", c.LAN.IP4, err)
	}
}

// manyTexts is services of which each may be told, and not all of them.
func manyTexts() (text string) {
	for i := range 12 {
		text += fmt.Sprintf("[[services]]\nport = %d\ntype = \"a%d\"\ntxt = [\"%s\", \"%s\"]\n", i+1, i, strings.Repeat("x", 199), strings.Repeat("y", 199))
	}
	return text
}
