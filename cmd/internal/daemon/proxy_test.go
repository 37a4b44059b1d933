package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/overlay/link"
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

// Where only a proxy leads out, the own zone's file comes by it; those of other zones do not.
func TestZoneFileByProxy(t *testing.T) {
	const own, other = anode.Zone(0xc0000201), anode.Zone(0xc0000202)
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := parseBasic(r.Header.Get("Proxy-Authorization"))
		if user != "me" || password != "swordfish" {
			w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.URL.String() != "http://192.0.2.1/z" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		asked = append(asked, r.URL.String())
		fmt.Fprint(w, file(7))
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "proxy")
	if err := os.WriteFile(path, []byte("me:swordfish"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Source{Set: []string{"proxy=" + server.URL, "proxy_credentials=file:" + path}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	var p proxies
	if err := p.set(c); err != nil {
		t.Fatal(err)
	}
	blocked := errors.New("no way out")
	alone := 0
	fetch := p.fetcher(own, func(_ context.Context, _ anode.Zone, known zone.Copy) (zone.Copy, error) { return known, blocked },
		func(context.Context) { alone++ })
	if got, err := fetch(t.Context(), own, zone.Copy{}); err != nil || got.File == nil || got.File.Revision() != 7 || len(asked) != 1 || alone != 1 {
		t.Errorf("%v, %v, asked %v, said %d times that only the proxy has it", got, err, asked, alone)
	}
	if _, err := fetch(t.Context(), other, zone.Copy{}); !errors.Is(err, blocked) || len(asked) != 1 {
		t.Errorf("%v, asked %v", err, asked)
	}
	none, err := config.Source{Set: []string{"proxy=none"}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.set(none); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t.Context(), own, zone.Copy{}); !errors.Is(err, blocked) || len(asked) != 1 {
		t.Errorf("without a proxy: %v, asked %v", err, asked)
	}
}

func parseBasic(header string) (user, password string, ok bool) {
	return (&http.Request{Header: http.Header{"Authorization": {header}}}).BasicAuth()
}

// The proxy is asked when the direct way has said nothing for a moment, and what it says itself is
// the error.
func TestZoneFileByProxyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(ctx context.Context, _ anode.Zone, known zone.Copy) (zone.Copy, error) {
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
			}
			return known, errors.New("no answer")
		}
		has := func(context.Context, anode.Zone, zone.Copy) (zone.Copy, error) {
			return zone.Copy{File: parsed(t, file(7))}, nil
		}
		refuses := func(context.Context, anode.Zone, zone.Copy) (zone.Copy, error) {
			return zone.Copy{}, &link.Trouble{Kind: link.ProxyAuth, Err: errors.New("no")}
		}
		mute := func(context.Context, anode.Zone, zone.Copy) (zone.Copy, error) {
			return zone.Copy{}, errors.New("nothing there")
		}
		for name, c := range map[string]struct {
			direct, proxy zoneFetcher
			found         bool
			want          string
			most          time.Duration
		}{
			"only by the proxy":           {silent, has, true, "", directPatience},
			"directly":                    {has, silent, true, "", 0},
			"the proxy is slow":           {mute, silent, false, "nothing there", 10 * time.Second},
			"the proxy refuses":           {silent, refuses, false, "proxy: no", 10 * time.Second},
			"the proxy refuses at once":   {mute, refuses, false, "proxy: no", 0},
			"neither":                     {mute, mute, false, "nothing there", 0},
			"the direct way is only mute": {mute, has, true, "", 0},
		} {
			began := time.Now()
			got, err := fetchEither(t.Context(), 1, zone.Copy{}, c.direct, c.proxy)
			if (err == nil) != c.found || c.found != (got.File != nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, %v", name, got.File, err)
			}
			if took := time.Since(began); took > c.most {
				t.Errorf("%s: after %v", name, took)
			}
		}
	})
}

// What stands on the way to a zone file is told apart from what is at its end.
func TestZoneGate(t *testing.T) {
	for _, c := range []struct {
		err  error
		want overlay.Reason
	}{
		{&zone.FetchError{Attempts: []*zone.Attempt{{URI: "http://192.0.2.1/z", Err: errors.New("no answer")}, {URI: "http://192.0.2.1/z", Err: zone.ErrPage}}}, overlay.ReasonCaptivePortal},
		{fmt.Errorf("x: %w", zone.ErrPortal), overlay.ReasonCaptivePortal},
		{&link.Trouble{Kind: link.ProxyAuth, Err: errors.New("no")}, overlay.ReasonProxyAuth},
		{&link.Trouble{Kind: link.ProxyRefused, Err: errors.New("no")}, overlay.ReasonProxyRefused},
		{&link.Trouble{Kind: link.Unreachable, Err: errors.New("no")}, overlay.NoReason},
		{zone.ErrInvalid, overlay.NoReason},
	} {
		if got := gateOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
