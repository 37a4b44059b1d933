package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

func newAddress(t testing.TB) anode.Address {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id.Address()
}

func endpoint(t testing.TB, text string) wire.Endpoint {
	t.Helper()
	e, err := wire.EndpointFromText(text)
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
	keys := []string{"peers"}
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
[listen]
port = 0
[tun]
name = "none"
mtu = 1280
queues = 2
offload = "off"
[link]
rung = "plain"
standard_aes = true
[policy]
open = true
[relay]
enabled = false
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
endpoints = ["udp:192.0.2.1:8737", "udp:[2001:db8::1]:1"]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Zone: Zone{0x1f}, Secret: Secret{"/etc/anode/secret"},
		Tun:    Tun{Name: "none", MTU: 1280, Queues: 2, Offload: OffloadOff},
		Link:   Link{RungPlain, true},
		Policy: Policy{Open: true},
		Info2:  Info2{Enabled: true, Bare: true, Bridge: true, Port: 26001},
		Log:    Log{slog.LevelDebug, FormatJSON},
		Peers: []Peer{{a, "north", []wire.Endpoint{
			endpoint(t, "udp:192.0.2.1:8737"), endpoint(t, "udp:[2001:db8::1]:1"),
		}}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, want\n%+v", c, want)
	}
}

func TestStrict(t *testing.T) {
	a := newAddress(t).String()
	for _, test := range []struct{ name, text, want string }{
		{"key", "[listen]\nprot = 1\n", `line 2: the configuration is not valid: unknown key "listen.prot"; did you mean "listen.port"?`},
		{"section", "\n\n[lsten]\nport = 1\n", `line 3: the configuration is not valid: unknown key "lsten"; did you mean "listen"?`},
		{"top", "zoom = 1\n", `line 1: the configuration is not valid: unknown key "zoom"; did you mean "zone"?`},
		{"far", "[metrics]\naddress = 1\n", `line 1: the configuration is not valid: unknown key "metrics"`},
		{"peer", "[[peers]]\naddress = \"" + a + "\"\nendpoint = []\n", `line 3: the configuration is not valid: unknown key "peers.endpoint"; did you mean "peers.endpoints"?`},
		{"type", "[listen]\nport = \"1\"\n", "line 2, column 8: the configuration is not valid: "},
		{"range", "[listen]\nport = 65536\n", "line 2, column 8: "},
		{"word", "[link]\nrung = \"fast\"\n", `line 2, column 8: the configuration is not valid: "fast" is not one of auto, gso, batch, plain`},
		{"secret", "secret = \"swordfish\"\n", "line 1, column 10: "},
		{"zone", "zone = \"xyz\"\n", "line 1, column 8: "},
		{"twice", "[tun]\nmtu = 1400\nmtu = 1400\n", "line 3, column 1: "},
		{"grammar", "[tun\n", "line 1, column 5: "},
		{"info2 port", "[info2]\nport = 0\n", "info2.port: 0 is not a port"},
		{"bridge", "[info2]\nbridge = true\n", "a bridge has two ends"},
		{"mtu", "[tun]\nmtu = 1279\n", "the configuration is not valid: tun.mtu: 1279 is not between 1280 and 65535"},
		{"interface", "[tun]\nname = \"a/b\"\n", `the configuration is not valid: tun.name: "a/b" is not a valid`},
		{"address", "[[peers]]\naddress = \"aeaa\"\n", "line 2, column 11: "},
		{"no address", "[[peers]]\nname = \"n\"\n", "peers: entry 1 has no address"},
		{"peer's name", "[[peers]]\naddress = \"" + a + "\"\nname = \"North Pole\"\n", "not a name for a peer"},
		{"endpoint", "[[peers]]\naddress = \"" + a + "\"\nendpoints = [\"udp:here\"]\n", "line 3, column 14: "},
		{"same peer", strings.Repeat("[[peers]]\naddress = \""+a+"\"\n", 2), "appears twice"},
		{"same name", "[[peers]]\naddress = \"" + a + "\"\nname = \"n\"\n[[peers]]\naddress = \"" + newAddress(t).String() + "\"\nname = \"n\"\n", `two are named "n"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]byte(test.text))
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	file := write(t, "[listen]\nport = 1\n[tun]\nmtu = 1401\n[log]\nlevel = \"debug\"\n")
	env := map[string]string{"ANODE_LISTEN_PORT": "2", "ANODE_TUN_MTU": "1402"}
	c, err := Source{
		File: file,
		Env:  func(name string) (string, bool) { v, ok := env[name]; return v, ok },
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

func TestEnvErrors(t *testing.T) {
	for name, value := range map[string]string{
		"ANODE_LISTEN_PORT": "-1", "ANODE_TUN_MTU": "big", "ANODE_POLICY_OPEN": "maybe",
		"ANODE_LINK_RUNG": "fast", "ANODE_PEERS": "north",
	} {
		_, err := Source{File: write(t, ""), Env: func(n string) (string, bool) { return value, n == name }}.Load()
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestSetErrors(t *testing.T) {
	for assignment, want := range map[string]string{
		"listen.prot=1":  `did you mean "listen.port"?`,
		"listen.port":    "want KEY=VALUE",
		"listen.port=x":  "listen.port: ",
		"listen.port= 1": "",
	} {
		_, err := Source{File: write(t, ""), Set: []string{assignment}}.Load()
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("--set %s: %v", assignment, err)
		}
	}
}

func TestPeersAreJoined(t *testing.T) {
	a, b := newAddress(t), newAddress(t)
	file := write(t, "[[peers]]\naddress = \""+a.String()+"\"\nname = \"north\"\nendpoints = [\"udp:192.0.2.1:1\"]\n")
	p, err := ParsePeer(a.String() + "@udp:192.0.2.2:2@udp:192.0.2.3:3")
	if err != nil {
		t.Fatal(err)
	}
	s := Source{File: file, Peers: []Peer{p}, Env: func(name string) (string, bool) {
		return b.String() + ", " + a.String(), name == "ANODE_PEERS"
	}}
	for range 2 { // a second Load sees the same
		c, err := s.Load()
		if err != nil {
			t.Fatal(err)
		}
		want := []Peer{{a, "north", []wire.Endpoint{
			endpoint(t, "udp:192.0.2.1:1"), endpoint(t, "udp:192.0.2.2:2"), endpoint(t, "udp:192.0.2.3:3"),
		}}, {Address: b}}
		if !reflect.DeepEqual(c.Peers, want) {
			t.Errorf("got\n%v, want\n%v", c.Peers, want)
		}
	}
}

func TestParsePeerErrors(t *testing.T) {
	a := newAddress(t).String()
	for _, text := range []string{"", "@", "north", a + "@", a + "@udp:1.2.3.4", a + "@@udp:1.2.3.4:5", a[1:]} {
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
	if got, want := Changes(a, b), []string{"policy.open", "log.level", "peers"}; !slices.Equal(got, want) {
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
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v does not wrap ErrInvalid", err)
			}
			return
		}
		// What was read is written as it would be in a file, and reads the same.
		text := ""
		for _, k := range c.keys() {
			text += k.name + " = " + format(k.value) + "\n"
		}
		again, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		again.Peers = c.Peers
		if !reflect.DeepEqual(c, again) {
			t.Errorf("got\n%+v, want\n%+v", again, c)
		}
	})
}
