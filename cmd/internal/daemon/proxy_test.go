package daemon

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"anodenet/cmd/internal/config"
)

// The proxy is that of the configuration.
func TestProxies(t *testing.T) {
	var p proxies
	for _, test := range []struct{ proxy, url, want string }{
		{"env", "http://127.0.0.1/", ""}, // whatever the environment says
		{"none", "http://198.51.100.1/", ""},
		{"http://one.example:8080", "http://198.51.100.1/", "http://one.example:8080"},
		{"http://one.example:8080", "https://192.0.2.1:8737", "http://one.example:8080"},
	} {
		c, err := config.Source{Set: []string{"proxy=" + test.proxy}}.Load()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.set(c); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.proxyOf(u)
		if err != nil || got == nil && test.want != "" || got != nil && got.String() != test.want {
			t.Errorf("%+v: %v, %v", test, got, err)
		}
		if user, password := p.credentials("one.example:8080"); user+password != "" {
			t.Errorf("%q, %q", user, password)
		}
	}
}

// Credentials that cannot be read change nothing.
func TestProxyCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy")
	var p proxies
	set := func(text string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Source{Set: []string{"proxy_credentials=file:" + path}}.Load()
		if err != nil {
			t.Fatal(err)
		}
		return p.set(c)
	}
	want := func(name, secret string) {
		t.Helper()
		if user, password := p.credentials(""); user != name || password != secret {
			t.Errorf("%q, %q", user, password)
		}
	}
	if err := set("me:swordfish\n"); err != nil {
		t.Fatal(err)
	}
	want("me", "swordfish")
	if set("nonsense") == nil {
		t.Error("taken")
	}
	want("me", "swordfish")
	if err := set("you:herring"); err != nil {
		t.Fatal(err)
	}
	want("you", "herring")
}
