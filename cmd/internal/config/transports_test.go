package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Ports are a list in the file; outside, those who write it as there are understood.
func TestPorts(t *testing.T) {
	for text, want := range map[string][]uint16{
		"auto": {8738}, "": {}, "[]": {}, "443": {443}, "443,80": {443, 80}, "[443, 80]": {443, 80}, " 8737  443 443 ": {8737, 443},
	} {
		c, err := Source{Set: []string{"listen.tcp=" + text}}.Load()
		if got := c.Listen.TCP.For(8738); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "65536", "-1", "http", "443;80", "[443", "Auto", "1,2,3,4,5,6,7,8,9"} {
		if _, err := (Source{Set: []string{"listen.tcp=" + text}}).Load(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	c, err := Source{Env: []string{"ANODE_LISTEN_TCP=80", "ANODE_LINK_ETHERNET=eth0,eth1"}}.Load()
	if err != nil || !slices.Equal(c.Listen.TCP.For(1), []uint16{80}) || !slices.Equal(c.Link.Ethernet, []string{"eth0", "eth1"}) {
		t.Errorf("%+v, %v", c, err)
	}
	if got := Default().Listen.TCP.For(0); !slices.Equal(got, []uint16{0}) {
		t.Errorf("the port that the system chose: %v", got)
	}
}

func TestProxy(t *testing.T) {
	for text, want := range map[string]string{
		"env": "env", "none": "none", "http://proxy.example.org:3128": "http://proxy.example.org:3128",
		"http://Proxy.example.org/": "http://proxy.example.org", "https://192.0.2.1": "https://192.0.2.1", "http://[2001:db8::1]:3128": "http://[2001:db8::1]:3128",
	} {
		c, err := Source{Set: []string{"proxy=" + text}}.Load()
		if err != nil || c.Proxy.String() != want || c.Proxy.None() != (text == "none") {
			t.Errorf("%q: %v, %v", text, c.Proxy, err)
		}
	}
	for _, text := range []string{"", "off", "proxy:3128", "http://", "http://me:swordfish@proxy", "http://me@proxy", "socks5://proxy:1080", "tcp:192.0.2.1:3128", "http://proxy/x", "http://proxy/?", "http://proxy:0"} {
		_, err := Source{Set: []string{"proxy=" + text}}.Load()
		if !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy")
	put := func(text string, mode os.FileMode) {
		t.Helper()
		os.Remove(path)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string][2]string{"me:swordfish\n": {"me", "swordfish"}, "me:a:b c\r\n": {"me", "a:b c"}, "me:": {"me", ""}} {
		put(text, 0o600)
		if user, password, err := (Credentials{path}).Load(); err != nil || [2]string{user, password} != want {
			t.Errorf("%q: %q, %q, %v", text, user, password, err)
		}
	}
	for _, text := range []string{"", "swordfish", ":swordfish", "me:sword\nfish", "me:\x00"} {
		put(text, 0o600)
		if _, _, err := (Credentials{path}).Load(); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "fish") {
			t.Errorf("%q: %v", text, err)
		}
	}
	put("me:swordfish", 0o644)
	if _, _, err := (Credentials{path}).Load(); !errors.Is(err, ErrInvalid) {
		t.Errorf("others can read it: %v", err)
	}
	if _, _, err := (Credentials{path + "-missing"}).Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if user, password, err := (Credentials{}).Load(); err != nil || user+password != "" {
		t.Errorf("none: %v", err)
	}
}

// TestPortOfInfo2 refuses a TCP port for packets that Info2 listens on.
func TestPortOfInfo2(t *testing.T) {
	for text, fits := range map[string]bool{
		"[listen]\ntcp = [8737, 26000]\n":                                                      false,
		"[listen]\nport = 26000\n":                                                             false,
		"[listen]\nport = 26000\ntcp = [443]\n":                                                true,
		"[listen]\ntcp = [8737, 26000]\n[info2]\nport = 26001\n":                               true,
		"[listen]\ntcp = [8737, 26000]\n[info2]\nenabled = false\n":                            true,
		"[listen]\ntcp = [8737, 26000]\n[info2]\nenabled = false\nbare = true\nport = 26000\n": false,
	} {
		if _, err := Parse([]byte(text)); (err == nil) != fits || !fits && !strings.Contains(err.Error(), "port 26000 is that of info2.port; try: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
