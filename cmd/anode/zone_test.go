package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

func TestZoneFacts(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	checked := now.Add(-3 * time.Minute)
	a := &app{now: func() time.Time { return now }}
	facts := func(s overlay.Status, files ...control.ZoneFile) (list []string) {
		for _, f := range a.zoneFacts(s, files) {
			list = append(list, f[0]+": "+f[1])
		}
		return list
	}
	for want, got := range map[string][]string{
		"":               facts(overlay.Status{}),
		"zone: c0000201": facts(overlay.Status{Zone: 0xc0000201}),
		"zone: 192.0.2.1, no zone file yet": facts(overlay.Status{Zone: 0xc0000201},
			control.ZoneFile{Zone: 0xc0000201, Own: true, Error: "no answer"}),
		"zone: 192.0.2.1 (Home?[2J), revision 7, 1 relay, from http://192.0.2.1/z, checked 3 min ago": facts(overlay.Status{Zone: 0xc0000201},
			control.ZoneFile{Zone: 0xc0000201, Own: true, Name: "Home\x1b[2J", Revision: 7, Relays: 1, Source: "http://192.0.2.1/z", Checked: &checked}),
		"zone: 192.0.2.1, revision 7, 2 relays, from this machine, served at 192.0.2.1:80": facts(overlay.Status{Zone: 0xc0000201},
			control.ZoneFile{Zone: 0xc0000201, Own: true, Revision: 7, Relays: 2, Source: control.SourceSelf, Checked: &checked, Served: "192.0.2.1:80"}),
		"peers' zone: 192.0.2.9, no zone file yet": facts(overlay.Status{}, control.ZoneFile{Zone: 0xc0000209}),
	} {
		if strings.Join(got, "|") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	warnings := zoneWarnings([]control.ZoneFile{{Zone: 0xc0000201, Own: true, Error: "no\nanswer"}, {Zone: 1, Error: "x"}})
	if strings.Join(warnings, "|") != "the file of zone 192.0.2.1: no?answer" {
		t.Errorf("warnings %q", warnings)
	}
}

// What a zone file of strangers says cannot do anything to a terminal.
func TestPrintZone(t *testing.T) {
	self, other := selfAddress, northAddress
	d := zone.Draft{Name: "Evil\x1b]0;x\a", Description: "d", Contact: "c", Revision: 3, TTL: time.Hour, Relays: []zone.Relay{
		{UDP: 8737, Addresses: []anode.Address{other}}, {UDP: 8737, Addresses: []anode.Address{self}},
	}}
	for i := range d.Relays {
		d.Relays[i].IPs = append(d.Relays[i].IPs, mustIP(t, "192.0.2.1"))
	}
	text := append(d.Append(nil), "zr.5=x\n"...)
	f, err := zone.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{out: &out, now: time.Now}
	answer := answerZone(self.Zone(), zone.Copy{File: f, Source: "http://192.0.2.1/z"}, self)
	a.printZone(answer, f, self)
	for _, want := range []string{"Evil?]0;x?", "udp:192.0.2.1:8737", "this machine", "cannot be used: it is missing", "mistakes (1)", other.ID().String()} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.ContainsRune(out.String(), 0x1b) {
		t.Errorf("an escape sequence in\n%q", out.String())
	}
	if answer.Own == nil || *answer.Own != int(self.Sum()%3) {
		t.Errorf("the own relay is %v", answer.Own)
	}
	if far := answerZone(self.Zone()+1, zone.Copy{File: f}, self); far.Own != nil {
		t.Error("a relay of another zone is taken for the own one")
	}
}

// zone serve works without a daemon, and ends when it is told to.
func TestZoneServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zone.txt")
	text := zone.Draft{Name: "n", Description: "d", Contact: "c", Revision: 3, TTL: time.Hour}.Append(nil)
	writeFile(t, path, text)
	in, out := io.Pipe()
	a := &app{err: out}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.serveZone(ctx, path, "127.0.0.1:0") }()
	line := make([]byte, 500)
	n, err := in.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	_, url, ok := strings.Cut(strings.TrimSpace(string(line[:n])), " at ")
	if !ok {
		t.Fatalf("got %q", line[:n])
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, text) {
		t.Errorf("got %q, %v", b, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func mustIP(t *testing.T, s string) netip.Addr {
	t.Helper()
	ip, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return ip
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
