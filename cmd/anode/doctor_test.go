package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/link"
	"anodenet/platform"
)

// wantFindings compares the verdicts and codes of findings with "bad adapter_down" and the
// like. Whatever is not fine must say what to do.
func wantFindings(t *testing.T, name string, got []finding, want ...string) {
	t.Helper()
	var list []string
	for _, f := range got {
		list = append(list, string(f.Verdict)+" "+f.Code)
		if f.Check == "" || f.Says == "" || f.Code == "" || f.Verdict.rank() < 0 {
			t.Errorf("%s: not complete: %+v", name, f)
		}
		if (f.Verdict == fine) != (f.Try == "") {
			t.Errorf("%s: a remedy belongs to what is not fine: %+v", name, f)
		}
		if strings.Contains(f.Says+f.Try, "%!") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if !slices.Equal(list, want) {
		t.Errorf("%s: got %q, want %q", name, list, want)
	}
}

func TestJudgeRights(t *testing.T) {
	for _, c := range []struct {
		name    string
		rights  rights
		running bool
		want    string
	}{
		{"root", rights{root: true, netAdmin: true}, false, "fine rights"},
		{"root in a container", rights{root: true}, false, "bad no_net_admin"},
		{"a user", rights{}, false, "warn no_net_admin"},
		{"a user with the capability", rights{netAdmin: true}, false, "fine rights"},
		{"a user, and a daemon", rights{}, true, "fine not_root"},
		{"a member", rights{group: true, listed: true, member: true}, true, "fine not_root"},
		{"a member from the next login on", rights{group: true, listed: true}, true, "warn group_not_active"},
	} {
		wantFindings(t, c.name, judgeRights(c.rights, c.running), c.want)
	}
}

func TestJudgeDevice(t *testing.T) {
	for _, c := range []struct {
		name    string
		device  device
		running bool
		want    string
	}{
		{"there", device{module: true}, false, "fine tun"},
		{"in use", device{}, true, "fine tun"},
		{"no module", device{missing: true}, false, "bad no_tun_device"},
		{"a container", device{missing: true, module: true}, false, "bad no_tun_device"},
		{"a file without a driver", device{err: errNoDriver}, false, "bad no_tun_driver"},
		{"not allowed", device{err: &fs.PathError{Op: "open", Path: "/dev/net/tun", Err: fs.ErrPermission}}, false, "bad tun_denied"},
	} {
		wantFindings(t, c.name, judgeDevice(c.device, c.running, true), c.want)
	}
}

func TestJudgeDeviceOfUsers(t *testing.T) {
	wantFindings(t, "a user", judgeDevice(device{err: fs.ErrPermission}, false, false))
	wantFindings(t, "a user without a module", judgeDevice(device{missing: true}, false, false), "bad no_tun_device")
}

func TestJudgeAdapter(t *testing.T) {
	ula, other := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	good := iface{exists: true, kind: "tun", up: true, mtu: 1440, addrs: []netip.Addr{other, ula}}
	for _, c := range []struct {
		name   string
		change func(*iface)
		want   []string
	}{
		{"well", func(*iface) {}, []string{"fine adapter"}},
		{"gone", func(i *iface) { *i = iface{} }, []string{"bad adapter_gone"}},
		{"down", func(i *iface) { i.up = false }, []string{"bad adapter_down"}},
		{"no address", func(i *iface) { i.addrs = []netip.Addr{other} }, []string{"bad adapter_address"}},
		{"in a bridge", func(i *iface) { i.master = "br0" }, []string{"bad adapter_master"}},
		{"MTU", func(i *iface) { i.mtu = 1500 }, []string{"warn adapter_mtu"}},
		{"all", func(i *iface) { i.up, i.addrs, i.mtu = false, nil, 9 }, []string{"bad adapter_down", "bad adapter_address", "warn adapter_mtu"}},
	} {
		i := good
		c.change(&i)
		wantFindings(t, c.name, judgeAdapter(overlay.TunStatus{Name: "anode0", MTU: 1440}, ula, i), c.want...)
	}
	problems := []overlay.TunProblem{{Code: platform.ProblemDown, Text: "again and again"}, {Code: platform.ProblemDiverted, Text: "x"},
		{Code: platform.ProblemGuard, Text: "not filtered"}, {Code: platform.ProblemRoutes, Text: "no route"}}
	down := good
	down.up = false
	got := judgeAdapter(overlay.TunStatus{Name: "anode0", MTU: 1440, Problems: problems}, ula, down)
	wantFindings(t, "what the daemon reports", got, "bad adapter_down", "warn adapter_no_guard", "bad adapter_routes")
	if !strings.Contains(got[0].Says, "no program can use it (again and again)") {
		t.Error(got[0].Says)
	}
	wantFindings(t, "free", judgeName("anode0", iface{}), "fine adapter_name_free")
	wantFindings(t, "taken", judgeName("anode0", iface{exists: true, kind: "dummy"}), "bad adapter_name_taken")
}

func TestJudgeIPv6(t *testing.T) {
	for _, c := range []struct {
		name    string
		ipv6    ipv6
		running bool
		want    string
	}{
		{"on", ipv6{kernel: true}, false, "fine ipv6"},
		{"no kernel", ipv6{}, false, "bad no_ipv6"},
		{"off for new interfaces", ipv6{kernel: true, byDefault: true}, false, "fine ipv6_adapter_only"},
		{"off for new interfaces, and a daemon", ipv6{kernel: true, byDefault: true, hasAdapter: true}, true, "fine ipv6_adapter_only"},
		{"off for all but the adapter", ipv6{kernel: true, all: true, byDefault: true, hasAdapter: true}, true, "fine ipv6_adapter_only"},
		{"off for lo", ipv6{kernel: true, all: true, loopback: true, hasAdapter: true}, true, "warn ipv6_off_loopback"},
		{"off for the adapter", ipv6{kernel: true, all: true, loopback: true, adapter: true, hasAdapter: true}, true, "bad ipv6_off_adapter"},
	} {
		wantFindings(t, c.name, judgeIPv6(c.ipv6, "anode0", c.running), c.want)
	}
}

func TestJudgePort(t *testing.T) {
	at := netip.MustParseAddrPort("[::]:8737")
	wantFindings(t, "free", judgePort(8737, nil, 0), "fine port_free")
	for _, c := range []struct {
		user portUser
		me   int
		want string
	}{
		{portUser{at, 0, 12, "dnsmasq"}, 0, "bad port_taken"},
		{portUser{at, 0, 12, "anode"}, 0, "bad port_taken"},
		{portUser{at, 1000, 0, ""}, 1000, "bad port_taken"},
		{portUser{at, 1000, 0, ""}, 0, "warn port_taken"},
		{portUser{at, 0, 0, ""}, 1000, "bad port_taken"},
	} {
		wantFindings(t, c.user.who(), judgePort(8737, []portUser{c.user}, c.me), c.want)
	}
	daemon := holder{pid: 12, uid: 0}
	own := portUser{at, 0, 12, "anode"}
	for _, c := range []struct {
		name   string
		users  []portUser
		daemon holder
		want   []string
	}{
		{"alone", []portUser{own, own}, daemon, []string{"fine port"}},
		{"another process", []portUser{own, {at, 0, 13, "nc"}}, daemon, []string{"bad port_shared"}},
		{"another user", []portUser{own, {at, 65534, 0, ""}}, daemon, []string{"bad port_shared"}},
		{"processes are not known", []portUser{{at, 0, 0, ""}}, daemon, []string{"fine port"}},
		{"the daemon is not known", []portUser{{at, 0, 5, "x"}}, holder{uid: -1}, []string{"fine port"}},
		{"none", nil, daemon, []string{"bad port_lost"}},
	} {
		wantFindings(t, c.name, judgeShared(8737, c.users, c.daemon), c.want...)
	}
}

func TestJudgeClock(t *testing.T) {
	built := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		now                 time.Time
		known, synchronised bool
		want                string
	}{
		{built.AddDate(1, 0, 0), true, true, "fine clock"},
		{built.AddDate(1, 0, 0), true, false, "fine clock_not_synchronised"},
		{built.AddDate(1, 0, 0), false, false, "fine clock"},
		{built.Add(-time.Hour), true, true, "fine clock"}, // zones, and builds of today
		{time.Unix(0, 0), true, false, "warn clock_wrong"},
	} {
		wantFindings(t, c.now.String(), judgeClock(c.now, built, c.known, c.synchronised), c.want)
	}
	if got := builtAt(); got.Year() < 2026 {
		t.Errorf("built %v", got)
	}
}

func TestJudgeInternet(t *testing.T) {
	eth := []link.Interface{{Name: "eth0", Index: 2}}
	route := link.Route{If: 2}
	for _, c := range []struct {
		state link.State
		want  string
		says  string
	}{
		{link.State{Interfaces: eth, Route4: route, Route6: route}, "fine internet", "IPv4 by eth0, IPv6 by eth0"},
		{link.State{Interfaces: eth, Route4: route}, "fine internet", "none for IPv6"},
		{link.State{Interfaces: eth, Route6: link.Route{If: 7}}, "fine internet", "IPv6; none for IPv4"},
		{link.State{Interfaces: eth}, "fine no_default_route", "networks of this machine"},
		{link.State{}, "bad no_network", "not connected"},
	} {
		got := judgeInternet(c.state)
		wantFindings(t, c.says, got, c.want)
		if !strings.Contains(got[0].Says, c.says) {
			t.Errorf("got %q, want %q", got[0].Says, c.says)
		}
	}
}

func TestJudgeBeacons(t *testing.T) {
	wantFindings(t, "none", judgeBeacons(link.State{Interfaces: []link.Interface{{Name: "ppp0"}}}), "warn no_beacons")
	got := judgeBeacons(link.State{Interfaces: []link.Interface{
		{Name: "wlan0", Multicast: true}, {Name: "ppp0"}, {Name: "eth0", Broadcast: []netip.Addr{netip.MustParseAddr("10.0.0.255")}}}})
	wantFindings(t, "two", got, "fine beacons")
	if !strings.HasSuffix(got[0].Says, "on eth0, wlan0") {
		t.Error(got[0].Says)
	}
}

func TestJudgeArrivals(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.1")
	wantFindings(t, "none tried", judgeArrivals(8737, nil))
	wantFindings(t, "arrived", judgeArrivals(8737, []arrival{{a, true, nil}, {a, true, nil}}), "fine firewall_own_packets")
	wantFindings(t, "one family", judgeArrivals(8737, []arrival{{a, true, nil}, {a, false, nil}}), "fine firewall_own_packets", "bad firewall_drops")
	wantFindings(t, "refused", judgeArrivals(8737, []arrival{{a, false, fmt.Errorf("write: %w", os.ErrPermission)}}))
	wantFindings(t, "the daemon went", judgeArrivals(8737, []arrival{{a, false, control.ErrNoDaemon}}))
}

// TestJudgeDaemon covers each way in which a daemon can be there or not.
func TestJudgeDaemon(t *testing.T) {
	s := fixtureStatus()
	for _, c := range []struct {
		name   string
		p      patient
		exit   int
		verses []string
	}{
		{"runs", patient{status: &s, version: s.Version}, exitOK, []string{"fine daemon"}},
		{"older", patient{status: &s, version: "9.9.9"}, exitOK, []string{"fine daemon", "warn daemon_version"}},
		{"none", patient{statusErr: control.ErrNoDaemon}, exitNoDaemon, []string{"warn no_daemon"}},
		{"silent", patient{statusErr: context.DeadlineExceeded}, exitFailed, []string{"bad daemon_silent"}},
		{"stopped", patient{statusErr: context.DeadlineExceeded, holder: holder{pid: 7, state: "T"}}, exitFailed, []string{"bad daemon_silent"}},
		{"denied", patient{statusErr: fmt.Errorf("x: %w", fs.ErrPermission)}, exitFailed, []string{"bad daemon_denied"}},
		{"failed", patient{statusErr: &control.Error{Code: control.CodeInternal, Message: "closed"}}, exitFailed, []string{"bad daemon_failed"}},
		{"no daemon of ours", patient{statusErr: errors.New("garbage")}, exitFailed, []string{"bad daemon_failed"}},
	} {
		list := judgeDaemon(&c.p)
		wantFindings(t, c.name, list, c.verses...)
		got := exitOK
		if err := verdictOf(list, &c.p); err != nil {
			got = explain(err).exit
		}
		if got != c.exit {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.exit)
		}
	}
}

func TestJudgeSocket(t *testing.T) {
	sock := fs.ModeSocket
	for _, c := range []struct {
		name string
		file socketFile
		want string
	}{
		{"well", socketFile{mode: sock | 0o660, known: true, answers: true}, "fine socket"},
		{"stale", socketFile{mode: sock | 0o660, known: true}, "fine socket_stale"},
		{"a file", socketFile{mode: 0o644, known: true}, "bad socket_not_socket"},
		{"its owner's alone", socketFile{mode: sock | 0o600, known: true, answers: true}, "fine socket"},
		{"everybody", socketFile{mode: sock | 0o666, known: true, answers: true}, "bad socket_mode"},
		{"somebody else's", socketFile{mode: sock | 0o660, owner: 1000, known: true, daemon: 0, answers: true}, "bad socket_owner"},
		{"a daemon of a user", socketFile{mode: sock | 0o660, owner: 1000, known: true, daemon: 1000, answers: true}, "fine socket"},
	} {
		wantFindings(t, c.name, judgeSocket("/run/x", c.file, 0), c.want)
	}
}

func TestJudgeNode(t *testing.T) {
	for rung, want := range map[string]string{"gso": "fine packets", "batch": "slow packets_single", "plain": "slow packets_plain"} {
		wantFindings(t, rung, []finding{judgePackets(rung)}, want)
	}
	wantFindings(t, "no drops", judgeQueues(nil), "fine queues")
	wantFindings(t, "full inbox", judgeQueues(map[string]uint64{"drop_inbox_waiting": 3}), "slow queue_full")
	wantFindings(t, "few of many", judgeQueues(map[string]uint64{"drop_inbox_waiting": 3, "rx_packets": 2000, "tx_packets": 1000}), "fine queues")
	wantFindings(t, "many of many", judgeQueues(map[string]uint64{"drop_inbox_waiting": 4, "rx_packets": 2000, "tx_packets": 1000}), "slow queue_full")
	wantFindings(t, "denied", judgeQueues(map[string]uint64{"link_tx_denied": 3, "link_tx_no_buffer": 1}), "slow queue_full", "warn send_denied")
	wantFindings(t, "copies", []finding{judgeCopies(overlay.Status{Copies: true, PeerID: 3})}, "warn copies")
	for _, c := range []struct {
		settings settings
		want     []string
	}{
		{settings{relay: true, adapter: true}, []string{"fine settings"}},
		{settings{open: true, adapter: true}, []string{"warn open", "fine settings"}},
		{settings{open: true}, []string{"fine settings"}}, // pings alone come in
		{settings{bare: true, bridge: true, secret: true}, []string{"warn bridge", "fine settings"}},
		{settings{bare: true}, []string{"warn bare", "fine settings"}},
	} {
		wantFindings(t, fmt.Sprintf("%+v", c.settings), judgeSettings(c.settings), c.want...)
	}
}

func TestJudgePeers(t *testing.T) {
	peer := func(change func(*overlay.PeerStatus)) overlay.Status {
		p := overlay.PeerStatus{Address: northAddress, Name: "north", Allowed: true, State: overlay.StateUp, Path: overlay.PathStatus{MTU: 1440}}
		change(&p)
		return overlay.Status{Address: selfAddress, Tun: &overlay.TunStatus{Name: "anode0", MTU: 1440}, Peers: []overlay.PeerStatus{p}}
	}
	for _, c := range []struct {
		name   string
		change func(*overlay.PeerStatus)
		want   string
	}{
		{"up", func(*overlay.PeerStatus) {}, "fine peers"},
		{"idle", func(p *overlay.PeerStatus) { p.State = overlay.StateIdle }, "fine peers"},
		{"connecting", func(p *overlay.PeerStatus) { p.State = overlay.StateConnecting }, "warn connecting"},
		{"a stranger", func(p *overlay.PeerStatus) { p.Allowed, p.State = false, overlay.StateUnreachable }, "warn no_peers"},
		{"added on one side", func(p *overlay.PeerStatus) { p.Reason = overlay.ReasonNotAddedThere }, "bad " + string(overlay.ReasonNotAddedThere)},
		{"another secret", func(p *overlay.PeerStatus) { p.Reason = overlay.ReasonOtherSecret }, "bad " + string(overlay.ReasonOtherSecret)},
		{"lost", func(p *overlay.PeerStatus) { p.State = overlay.StateUnreachable }, "bad unreachable"},
		{"less than IPv6's least", func(p *overlay.PeerStatus) { p.Path.MTU = 1200 }, "slow path_mtu"},
		{"a usual tunnel", func(p *overlay.PeerStatus) { p.Path.MTU = 1380 }, "fine peers"},
	} {
		wantFindings(t, c.name, judgePeers(peer(c.change)), c.want)
	}
}

func TestJudgeRoutes(t *testing.T) {
	ula := netip.MustParseAddr("fd00::2")
	wantFindings(t, "well", judgeRoutes([]peerRoute{{"north", ula, "anode0", nil, fateGuarded}}, "anode0"), "fine routes")
	wantFindings(t, "no peers", judgeRoutes(nil, "anode0"))
	wantFindings(t, "stolen", judgeRoutes([]peerRoute{{"north", ula, "eth0", nil, fateGuarded}, {"south", ula, "anode0", nil, fateGuarded}}, "anode0"), "bad route_stolen")
	wantFindings(t, "missing", judgeRoutes([]peerRoute{{"north", ula, "", errors.New("unreachable"), fateGuarded}}, "anode0"), "bad route_missing")
	wantFindings(t, "ours too", judgeRoutes([]peerRoute{{"north", ula, "lo", nil, fateGuarded}}, "anode0"), "bad route_local")
	for _, c := range []struct {
		tun  overlay.TunStatus
		want strayFate
	}{
		{overlay.TunStatus{Index: 3}, fateGuarded},
		{overlay.TunStatus{Index: 3, Problems: []overlay.TunProblem{{Code: platform.ProblemGuard}}}, fateInClear},
		{overlay.TunStatus{}, fateUnknown},
	} {
		if got := strayFateOf(c.tun); got != c.want {
			t.Errorf("%+v: %v", c.tun, got)
		}
	}
	many := slices.Repeat([]peerRoute{{"north", ula, "eth0", nil, fateGuarded}}, maxListed+5)
	got := judgeRoutes(many, "anode0")
	if last := got[len(got)-1]; len(got) != maxListed+1 || !strings.Contains(last.Says, "5 more") {
		t.Errorf("%d findings, the last is %+v", len(got), last)
	}

	home, eth := netip.MustParsePrefix("fd00::/64"), "eth0"
	names := map[netip.Addr]string{ula: "north", ula.Next(): "this machine"}
	got = judgeCovering([]platform.Covering{{Addr: ula, Prefix: home, Name: eth}, {Addr: ula.Next(), Prefix: home, Name: eth}}, names, "anode0")
	wantFindings(t, "covering", got, "warn lan_covers")
	if !strings.Contains(got[0].Says, "fd00::/64 on eth0 contains the address of north, this machine;") {
		t.Error(got[0].Says)
	}
	wantFindings(t, "a single route", judgeCovering([]platform.Covering{{Addr: ula, Prefix: netip.PrefixFrom(ula, 128), Name: eth}}, names, "anode0"))
	wantFindings(t, "nothing", judgeCovering(nil, nil, "anode0"))
}

// TestExamine: a check that hangs is a finding, and does not hold up the others.
func TestExamine(t *testing.T) {

	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		good := finding{"good", fine, "it is", "", "good"}
		hang := make(chan struct{})
		got := examine(t.Context(), &patient{}, []check{
			{"good", func(context.Context, *patient) []finding { return []finding{good} }},
			{"hangs", func(context.Context, *patient) []finding { <-hang; return nil }},
			{"hangs too", func(context.Context, *patient) []finding { <-hang; return nil }},
			{"heeds", func(ctx context.Context, _ *patient) []finding { <-ctx.Done(); return []finding{good} }},
		}, 2*time.Second)
		wantFindings(t, "all", got, "fine good", "warn check_timeout", "warn check_timeout", "fine good")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		close(hang)
	})

}

func TestPrintFindings(t *testing.T) {
	list := []finding{
		{"packets", slow, "one per system call (plain)", "link.rung = \"auto\" in the configuration", "packets_plain"},
		{"adapter", fine, "anode0 is up, with its address, MTU 1440", "", "adapter"},
		{"peer laptop-of-alice", bad, "laptop-of-alice (dd9fcbf1d49c786b) has not added this machine, so only pings get through",
			"on that machine: anode peers add " + selfAddress.String(), "not_added_there"},
		{"firewall", bad, "packets are dropped", "let UDP port 8737 in", "firewall_drops"},
		{"clock", warn, "it shows 1970", "set the clock", "clock_wrong"},
	}
	a, out := onTerminal()
	a.printFindings(list, true)
	wantText(t, out.String(), `
fine  adapter   anode0 is up, with its address, MTU 1440
slow  packets   one per system call (plain)
                try: link.rung = "auto" in the configuration
warn  clock     it shows 1970
                try: set the clock
bad   peer laptop-of-alice
                laptop-of-alice (dd9fcbf1d49c786b) has not added this machine,
                so only pings get through
                try: on that machine: anode peers add \
                     `+selfAddress.String()+`
bad   firewall  packets are dropped
                try: let UDP port 8737 in

2 things are bad (peer laptop-of-alice, firewall), 1 warning (clock), 1 thing
could be faster (packets).
`)
	on := out.String()
	a, out = onTerminal()
	a.terminal = false
	a.printFindings(list, true)
	wantText(t, out.String(), on) // a pipe is the same
	a, out = onTerminal()
	a.printFindings(nil, false)
	wantText(t, out.String(), "\n\nAll is well.\n")
}

// TestPrintFolded: what is fine does not push what is not off the screen.
func TestPrintFolded(t *testing.T) {
	list := []finding{{"daemon", bad, "it does not answer", "anode down", "x"}}
	for i := range 30 {
		list = append(list, finding{fmt.Sprintf("check%d", i/2), fine, "all is as it should be here, and there is much to say about it", "", "y"})
	}
	list = append(list, finding{"reach", fine, "no way to the internet", "connect it", "z"})
	a, out := onTerminal()
	a.printFindings(list, false)
	wantText(t, out.String(), `
fine  check0, check1, check2, check3, check4, check5, check6, check7, check8,
      check9, check10, check11, check12, check13, check14 (anode doctor --all
      says more)
fine  reach   no way to the internet
              try: connect it
bad   daemon  it does not answer
              try: anode down

1 thing is bad (daemon).
`)
	a, out = onTerminal()
	a.printFindings(list[1:], false)
	if n := strings.Count(out.String(), "\n"); n < 30 {
		t.Errorf("all is fine, and %d lines say so", n)
	}
	for i := range 6 {
		list = append(list, finding{fmt.Sprintf("w%d", i), warn, "so", "", "w"})
	}
	if got := summary(list); got != "1 thing is bad (daemon), 6 warnings (w0, w1, w2, w3, …)." {
		t.Error(got)
	}
}

// TestExplainPeer: what why says of a peer, from the facts.
func TestExplainPeer(t *testing.T) {
	ms, s := 0.53, fixtureStatus()
	north := s.Peers[0]
	ok := whyPinged{RTT: &ms, Path: &north.Path}
	route := &whyRoute{Interface: "anode0", Adapter: "anode0"}
	for _, c := range []struct {
		name   string
		change func(p *overlay.PeerStatus, s *overlay.Status)
		ping   whyPinged
		route  *whyRoute
		code   string
	}{
		{"up", func(*overlay.PeerStatus, *overlay.Status) {}, ok, route, "up"},
		{"the route is not known", func(*overlay.PeerStatus, *overlay.Status) {}, ok, nil, "up"},
		{"stolen", func(*overlay.PeerStatus, *overlay.Status) {}, ok, &whyRoute{Interface: "eth0", Adapter: "anode0"}, "route_stolen"},
		{"no route", func(*overlay.PeerStatus, *overlay.Status) {}, ok, &whyRoute{Adapter: "anode0"}, "route_missing"},
		{"no adapter", func(_ *overlay.PeerStatus, s *overlay.Status) { s.Tun = nil }, ok, nil, "no_adapter"},
		{"silent", func(*overlay.PeerStatus, *overlay.Status) {}, whyPinged{Error: "no answer in time"}, route, "unreachable"},
		{"a reason", func(p *overlay.PeerStatus, _ *overlay.Status) { p.Reason = overlay.ReasonNotAddedThere }, ok, route, string(overlay.ReasonNotAddedThere)},
	} {
		p, status := north, s
		c.change(&p, &status)
		w := explainPeer(p, status, c.ping, c.route)
		if w.Code != c.code || w.Reachable != (c.code == "up" || c.code == "no_adapter") || w.Says == "" || (w.Try == "") != w.Reachable {
			t.Errorf("%s: %+v", c.name, w)
		}
	}
}

func TestPrintWhy(t *testing.T) {
	s := fixtureStatus()
	north := s.Peers[0]
	ms, yes := 0.53, true
	north.Admits = &yes
	a, out := onTerminal()
	a.printWhy(explainPeer(north, s, whyPinged{RTT: &ms, Path: &north.Path}, &whyRoute{"anode0", "anode0", []string{"fd00::/64 on eth0"}}), nil)
	wantText(t, out.String(), `
north (dd9fcbf1d49c786b) can be reached.

address  aeaaaaaaaaaafm3muiub5nzkpvslou2lx62w66tttrdh4bdnmyx6ed673dwue4bv
IPv6     fd00:0:3b:4ea5:dd9f:cbf1:d49c:786b
here     added on this machine
there    this machine is added there
state    connected
path     LAN udp:10.0.0.2:8737, 0.42 ms, packets of up to 1440 bytes
ping     answered just now in 0.53 ms, LAN udp:10.0.0.2:8737
heard    1 s ago
traffic  999 B received, 123 MB sent
route    programs' packets go to anode0, as they should
network  fd00::/64 on eth0 contains the peer's address
`)
	hub := s.Peers[2]
	hub.Reason = "" // not known
	out.Reset()
	a.printWhy(explainPeer(hub, s, whyPinged{Error: "no answer in time"}, &whyRoute{"", "anode0", nil}), nil)
	wantText(t, out.String(), `
314c6a3662ebad08 did not answer a ping: no answer in time.
try: on that machine: anode doctor; if it is on another network or has moved:
     anode peers endpoints add 314c6a3662ebad08 udp:IP:PORT

address  aeaaaaaaaaaafafk5kspyuzvdi6oa2x6ftdi4noospy3yrdxyt23p3sipeyvqhso
IPv6     fd00:0:45:bc96:314c:6a36:62eb:ad08
here     added on this machine
there    it has not told whether this machine is added there
state    the last attempt to connect failed; the next one begins when there is
         something to send
path     none
ping     no reply: no answer in time
heard    never since the daemon started
route    none: programs' packets should go to anode0
`)
}

// TestDeadNameServer: a name server that does not answer costs a few seconds, and is not
// taken for one that does not know the name.
func TestDeadNameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTerminal()
		a.txt = func(ctx context.Context, name string) ([]string, error) {
			<-ctx.Done()
			return nil, &net.DNSError{Err: "i/o timeout", Name: name, IsTimeout: true}
		}
		began := time.Now()
		_, err := a.lookUp(t.Context(), "no.such.example")
		if took := time.Since(began); err == nil || took > 5*time.Second || explain(err).exit != exitUnknownPeer ||
			!strings.HasSuffix(err.Error(), `"no.such.example", and DNS did not answer`) {
			t.Errorf("%v after %v", err, took)
		}
		a.txt = func(context.Context, string) ([]string, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}
		if _, err := a.lookUp(t.Context(), "no.such.example"); err == nil || !strings.HasSuffix(err.Error(), "DNS has no such name") {
			t.Error(err)
		}
	})
}
