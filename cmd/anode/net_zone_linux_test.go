package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// zoneIP is the address of the zone's machine in these tests.
const zoneIP = "9.0.3.2"

// zoneLab is three machines without identities: r has a public address, a and b are behind a
// NAT, which lets nothing pass between them.
//
//	a ── 10.0.1.0/24 ── router ── 9.0.3.0/24 ── r
//	b ── 10.0.2.0/24 ──'
func zoneLab(t *testing.T) (a, b, r *host) {
	t.Helper()
	a, b, r = newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "r")
	router := newRouter(t, a, b, r)
	public(router, r, 3)
	a.ip("route add default via 10.0.1.1")
	b.ip("route add default via 10.0.2.1")
	router.nft(`table ip nat { chain out { type nat hook postrouting priority 100; oifname eth3 masquerade; } } table ip f { chain through { type filter hook forward priority 0; iifname eth1 oifname eth2 drop; iifname eth2 oifname eth1 drop; iifname eth3 ct state new drop; } }`)
	onlyIPv4(a, b, r)
	return a, b, r
}

// joinZone runs "anode up" as people do, and reads the identity that it makes.
func (h *host) joinZone(flags ...string) {
	h.t.Helper()
	h.node = h.start(append([]string{h.bin, "up", "--state", h.state(), "--socket", h.socket(), "--zone", zoneIP, "--set", "info2.enabled=false"}, flags...)...)
	h.ready()
	h.identify()
}

// zoneFile is what the daemon says of its own zone's file; zero if it follows none, as just after its start.
func (h *host) zoneFile() control.ZoneFile {
	h.t.Helper()
	var s struct {
		overlay.Status
		control.ZoneFiles
	}
	h.decode(h.anode("status", "--json"), &s)
	if len(s.Files) == 0 {
		return control.ZoneFile{}
	}
	return s.Files[0]
}

// TestNetZone: one machine with a public address and two commands make a network of machines
// behind NATs, which add each other by their addresses alone.
func TestNetZone(t *testing.T) {
	t.Parallel()
	a, b, r := zoneLab(t)
	b.joinZone() // before there is a relay
	r.joinZone("--relay")
	within(t, dialWait, "the zone file to be served", func() bool { return r.zoneFile().Served == zoneIP+":80" })
	a.joinZone()
	a.add(b)
	b.add(a)
	// b looks again after a pause, since there was no file.
	within(t, 30*time.Second, "b to have the zone file", func() bool { return b.zoneFile().Relays == 1 })
	for _, h := range []*host{a, b, r} {
		if z := h.address.Zone(); z != 0x09000302 {
			t.Fatalf("%s is in zone %v", h.name, z)
		}
	}
	took := a.meets(b)
	b.meets(a)
	if p := a.peer(b); p.Path.Kind != overlay.PathRelay || p.Path.Via == nil || *p.Path.Via != r.address {
		t.Errorf("a reaches b by %+v, want the relay %v", p.Path, r.address)
	}
	t.Logf("a reaches b %v after it was added", took)
	if f := a.zoneFile(); f.Source != "http://"+zoneIP+"/z" || f.Relays != 1 || f.Revision == 0 || f.Error != "" {
		t.Errorf("a has the zone file %+v", f)
	}
	if f := r.zoneFile(); f.Source != control.SourceSelf || f.Relays != 1 {
		t.Errorf("r has the zone file %+v", f)
	}

	step(t, "show", func(t *testing.T) { zoneShown(t, a, r) }, a, r)
	step(t, "without the web", func(t *testing.T) {
		revision := a.zoneFile().Revision
		a.down(syscall.SIGKILL)
		a.nft(`table ip web { chain out { type filter hook output priority 0; tcp dport 80 reject with tcp reset; } }`)
		if _, code := a.try(a.bin, "zone", "check", zoneIP); code != 5 {
			t.Errorf("the zone file can be fetched still: exit code %d", code)
		}
		a.joinZone()
		a.meets(b)
		if f := a.zoneFile(); f.Revision != revision || f.Checked == nil {
			t.Errorf("a has the zone file %+v, want the copy of revision %d", f, revision)
		}
	}, a, b, r)
	step(t, "another zone", func(t *testing.T) {
		b.down(syscall.SIGTERM)
		out, code := b.try(b.bin, "up", "--state", b.state(), "--socket", b.socket(), "--zone", "192.0.2.1")
		if code != 2 || !strings.Contains(out, "is in zone "+zoneIP+", not in zone 192.0.2.1") || !strings.Contains(out, "try: anode zone join 192.0.2.1 --state "+b.state()) {
			t.Errorf("exit code %d: %s", code, out)
		}
	}, b)
}

// zoneShown checks what "anode zone" says of the zone that r relays for.
func zoneShown(t *testing.T, a, r *host) {
	var z struct {
		Source string
		Relays []struct {
			Endpoints []string
			Addresses []anode.Address
		}
		Own      *int `json:"own_relay"`
		Problems []string
	}
	if err := json.Unmarshal([]byte(a.run(a.bin, "zone", "show", "--json", "--state", a.state())), &z); err != nil {
		t.Fatal(err)
	}
	if len(z.Relays) != 1 || z.Relays[0].Addresses[0] != r.address || z.Relays[0].Endpoints[0] != "udp:"+zoneIP+":8737" ||
		z.Own == nil || *z.Own != 0 || len(z.Problems) != 0 {
		t.Errorf("zone show: %+v", z)
	}
	if out := a.run(a.bin, "zone", "show", zoneIP, "--state", a.state()); !strings.Contains(out, "this machine's relay") {
		t.Errorf("zone show: %s", out)
	}
	a.run(a.bin, "zone", "check", zoneIP)
}

// TestNetZonePortTaken: another web server on the zone's address is said clearly, and
// everything else works; it can serve the file as well.
func TestNetZonePortTaken(t *testing.T) {
	t.Parallel()
	a, b, r := zoneLab(t)
	file := filepath.Join(r.dir, "zone.txt")
	r.run(r.bin, "zone", "join", zoneIP, "--state", r.state())
	r.run(r.bin, "zone", "init", file, "--state", r.state())
	r.run(r.bin, "zone", "check", file)
	web := r.start(r.bin, "zone", "serve", file)
	within(t, dialWait, "the zone file to be served", func() bool {
		_, code := a.try(a.bin, "zone", "check", zoneIP)
		return code == 0
	})
	r.joinZone("--relay", "--set", "zone.file="+file)
	within(t, dialWait, "a warning that the port is taken", func() bool {
		out := r.node.output()
		return strings.Contains(out, zoneIP+":80: address already in use") && strings.Contains(out, "try: stop the program that uses the port")
	})
	a.joinZone()
	b.joinZone()
	a.add(b)
	b.add(a)
	a.meets(b)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out := a.run(a.bin, "zone", "show", zoneIP, "--raw"); out != string(text) {
		t.Errorf("it serves %q, want %q", out, text)
	}
	if code := web.end(syscall.SIGTERM); code != 0 {
		t.Errorf("zone serve ended with %d", code)
	}
}
