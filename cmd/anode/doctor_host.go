package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/overlay/link"
	"anodenet/platform"
)

// machine is what doctor asks the operating system. Each method returns facts; what they
// mean is decided by functions without I/O. On a system that cannot tell, a method returns
// errNotHere, and the check has no finding.
type machine interface {
	holder(ctx context.Context, socket string) holder
	rights() (rights, error)
	device() (device, error)
	iface(name string) (iface, error)
	ipv6(adapter string) (ipv6, error)
	port(port uint16) ([]portUser, error)
	locker(file string) (pid int, err error)
	rules(ctx context.Context) (firewallRules, error)
	synchronised() (bool, error)
	links(adapter string) (link.State, error)
	takesSource(ula netip.Addr) (bool, error)
	routeOf(to netip.Addr) (ifname string, err error)
	covering(adapter string, addrs []netip.Addr) ([]platform.Covering, error)
}

// errNotHere means that this system cannot tell.
var errNotHere = errors.New("not known on this system")

// holder is the process that listens on a socket.
type holder struct {
	pid       int    // 0: not known
	uid       int    // -1: not known
	state     string // one letter, see proc_pid_stat(5); empty: not known
	elsewhere bool   // in another network namespace
}

// rights is what this process may do.
type rights struct {
	root     bool
	netAdmin bool // CAP_NET_ADMIN
	group    bool // the group anode exists
	listed   bool // the user is in it
	member   bool // this login is in it
}

func checkRights(_ context.Context, p *patient) []finding {
	r, err := p.machine.rights()
	if err != nil {
		return nil
	}
	if p.adapter() == config.NoTun && !r.root {
		return []finding{{"rights", fine, "without an adapter the daemon needs no rights; checks that need root were left out", "", "not_root"}}
	}
	return judgeRights(r, p.running())
}

func judgeRights(r rights, running bool) []finding {
	const topic = "rights"
	switch {
	case r.root && r.netAdmin:
		return []finding{{topic, fine, "this user is root and may set up network adapters", "", "rights"}}
	case r.root:
		return []finding{{topic, bad, "this user is root, but without the right to set up network adapters (CAP_NET_ADMIN), as in most containers",
			"in a container: --cap-add NET_ADMIN --device /dev/net/tun; without an adapter: anode up --tun none", "no_net_admin"}}
	case r.listed && !r.member:
		return []finding{{topic, warn, "this user is in the group anode, but was logged in before, so the membership does not count yet",
			"log in again", "group_not_active"}}
	case running:
		return []finding{{topic, fine, "this user is not root; checks that need root were left out (sudo anode doctor)", "", "not_root"}}
	case r.netAdmin:
		return []finding{{topic, fine, "this user may set up network adapters (CAP_NET_ADMIN)", "", "rights"}}
	}
	return []finding{{topic, warn, "this user cannot start anode with an adapter (no CAP_NET_ADMIN), and some checks need root",
		"sudo anode doctor, for all checks; " + thisService().start() + ", to start", "no_net_admin"}}
}

// device is /dev/net/tun.
type device struct {
	missing bool
	module  bool  // the kernel has the driver
	err     error // of opening it
}

func checkDevice(_ context.Context, p *patient) []finding {
	d, err := p.machine.device()
	if err != nil || p.adapter() == config.NoTun {
		return nil
	}
	r, err := p.machine.rights()
	return judgeDevice(d, p.status != nil, err == nil && r.root)
}

func judgeDevice(d device, running, root bool) []finding {
	const topic = "tun"
	switch {
	case running:
		return []finding{{topic, fine, "the kernel has a TUN driver, and the daemon uses it", "", "tun"}}
	case d.missing && d.module:
		return []finding{{topic, bad, "the kernel has a TUN driver, but /dev/net/tun is missing, as in most containers",
			"in a container: --device /dev/net/tun; otherwise: mkdir -p /dev/net; mknod /dev/net/tun c 10 200", "no_tun_device"}}
	case d.missing:
		return []finding{{topic, bad, "/dev/net/tun is missing: the kernel's TUN driver is not loaded, so no adapter can be made",
			"sudo modprobe tun; or without an adapter: anode up --tun none", "no_tun_device"}}
	case errors.Is(d.err, errNoDriver):
		return []finding{{topic, bad, "/dev/net/tun exists, but the kernel has no driver for it",
			"sudo modprobe tun; after a kernel update: reboot", "no_tun_driver"}}
	case errors.Is(d.err, fs.ErrPermission) && !root:
		return nil // another finding says that this user cannot
	case d.err != nil:
		return []finding{{topic, bad, "/dev/net/tun cannot be opened: " + plain(d.err),
			"sudo; in a container: --device /dev/net/tun", "tun_denied"}}
	}
	return []finding{{topic, fine, "/dev/net/tun can be opened", "", "tun"}}
}

// errNoDriver means that a device file has no driver.
var errNoDriver = errors.New("no driver")

// iface is a network interface.
type iface struct {
	exists bool
	kind   string // "tun", "veth"; empty: a hardware one
	up     bool
	mtu    int
	master string // the bridge or VRF that it belongs to; empty: none
	addrs  []netip.Addr
}

func checkAdapter(_ context.Context, p *patient) []finding {
	const topic = "adapter"
	name := p.adapter()
	if name == config.NoTun {
		return []finding{{topic, fine, "none, as it is configured: programs reach peers by a proxy, anode forward and anode nc, and peers reach what is exposed", "", "no_adapter"}}
	}
	i, err := p.machine.iface(name)
	switch {
	case p.status == nil && err != nil:
		return nil
	case p.status == nil && p.running():
		return nil // the interface may be that of the daemon that does not answer
	case p.status == nil:
		return judgeName(name, i)
	case p.elsewhere:
		return []finding{{topic, fine, fmt.Sprintf("%s, MTU %d; it is in another network namespace than this command, so the interface, the routes and the firewall were not checked",
			name, p.status.Tun.MTU), "", "other_namespace"}}
	case err != nil:
		return []finding{{topic, fine, fmt.Sprintf("%s, MTU %d", name, p.status.Tun.MTU), "", "adapter"}}
	}
	return judgeAdapter(*p.status.Tun, p.status.ULA.Addr(), i)
}

// judgeName judges the interface that has the adapter's name while no daemon runs.
func judgeName(name string, i iface) []finding {
	const topic = "adapter"
	if !i.exists {
		return []finding{{topic, fine, "the name " + name + " is free", "", "adapter_name_free"}}
	}
	kind := "an interface"
	if i.kind != "" {
		kind = "an interface of type " + i.kind
	}
	return []finding{{topic, bad, fmt.Sprintf("%s named %s exists, made by another program; the daemon does not take over what it did not make", kind, name),
		fmt.Sprintf("another name: anode up --tun NAME; or, if nothing needs it: sudo ip link del %s", name), "adapter_name_taken"}}
}

// judgeAdapter compares the adapter's interface with what the daemon set up, and shows what
// the daemon could not mend.
func judgeAdapter(tun overlay.TunStatus, ula netip.Addr, i iface) []finding {
	const topic = "adapter"
	if !i.exists {
		return []finding{{topic, bad, "the interface " + tun.Name + " is gone: it was removed while the daemon runs",
			thisService().restart(), "adapter_gone"}}
	}
	var list []finding
	add := func(v verdict, code, says string) {
		for _, p := range tun.Problems {
			if adapterCode(p.Code) == code {
				says += " (" + p.Text + ")"
			}
		}
		list = append(list, finding{topic, v, says, fmt.Sprintf("wait: the daemon mends this within seconds; if it comes again, tell the program that does it (NetworkManager, systemd-networkd, a script) to leave %s alone", tun.Name), code})
	}
	if !i.up {
		add(bad, adapterCode(platform.ProblemDown), "the interface "+tun.Name+" was set down, so no program can use it")
	}
	if !slices.Contains(i.addrs, ula) {
		add(bad, adapterCode(platform.ProblemAddress), fmt.Sprintf("the interface %s has lost its address %s", tun.Name, ula))
	}
	if i.master != "" {
		add(bad, adapterCode(platform.ProblemMaster), fmt.Sprintf("the interface %s was put into %s, which takes its packets away", tun.Name, i.master))
	}
	if i.mtu != tun.MTU {
		add(warn, adapterCode(platform.ProblemMTU), fmt.Sprintf("the interface %s has MTU %d; the daemon set %d", tun.Name, i.mtu, tun.MTU))
	}
	for _, p := range tun.Problems {
		known := slices.ContainsFunc(list, func(f finding) bool { return f.Code == adapterCode(p.Code) })
		if !known && p.Code != platform.ProblemDiverted { // checkRoutes looks at all peers' routes
			list = append(list, judgeProblem(p))
		}
	}
	if len(list) == 0 {
		list = append(list, finding{topic, fine, fmt.Sprintf("%s is up, with its address, MTU %d", tun.Name, tun.MTU), "", "adapter"})
	}
	return list
}

// adapterCode is the code of the finding about a problem of package platform.
func adapterCode(problem string) string { return "adapter_" + problem }

// judgeProblem is about a problem that the daemon reports.
func judgeProblem(p overlay.TunProblem) finding {
	f := finding{"adapter", warn, p.Text, "the daemon's log says more; " + thisService().restart(), adapterCode(p.Code)}
	switch p.Code {
	case platform.ProblemGuard:
		f.Try = "a kernel with nf_tables (modprobe nf_tables; in a container: the host's kernel); then restart the daemon"
	case platform.ProblemIP4:
		if says, try, found := strings.Cut(p.Text, "; try: "); found {
			f.Says, f.Try = says, try
		}
	case platform.ProblemDown, platform.ProblemMaster, platform.ProblemIPv6, platform.ProblemAddress, platform.ProblemRoutes:
		f.Verdict = bad
	}
	return f
}

// ipv6 is how IPv6 is set in this network namespace.
type ipv6 struct {
	kernel     bool // the kernel runs with IPv6
	all        bool // disable_ipv6 of all interfaces
	byDefault  bool // of new ones
	loopback   bool // of lo
	adapter    bool // of the adapter
	hasAdapter bool
}

func checkIPv6(_ context.Context, p *patient) []finding {
	name := p.adapter()
	x, err := p.machine.ipv6(name)
	if err != nil || name == config.NoTun || p.elsewhere {
		return nil
	}
	return judgeIPv6(x, name, p.status != nil)
}

// judgeIPv6: only the adapter's own switch counts. The daemon clears it at the start,
// whatever the switches of all and of new interfaces say.
func judgeIPv6(x ipv6, name string, running bool) []finding {
	const topic = "ipv6"
	switch {
	case !x.kernel:
		return []finding{{topic, bad, "the kernel runs without IPv6, which the adapter needs",
			"boot without ipv6.disable=1; or without an adapter: anode up --tun none", "no_ipv6"}}
	case running && x.hasAdapter && x.adapter:
		return []finding{{topic, bad, "IPv6 was switched off on " + name + " after the daemon started, so programs cannot use it",
			"sudo sysctl -w net.ipv6.conf." + name + ".disable_ipv6=0; and set net.ipv6.conf.all.disable_ipv6=0 where it was switched off (/etc/sysctl.conf, /etc/sysctl.d)",
			"ipv6_off_adapter"}}
	case x.loopback:
		return []finding{{topic, warn, "IPv6 is switched off on the interface lo: peers are reached all the same, but this machine cannot reach its own address",
			"sudo sysctl -w net.ipv6.conf.lo.disable_ipv6=0", "ipv6_off_loopback"}}
	case x.all || x.byDefault:
		return []finding{{topic, fine, "it is switched off for other interfaces; the daemon switches it on for " + name + " alone, which is enough", "", "ipv6_adapter_only"}}
	}
	return []finding{{topic, fine, "it is switched on", "", "ipv6"}}
}

// portUser is a socket on a UDP port.
type portUser struct {
	local netip.AddrPort
	uid   int
	pid   int    // 0: not known
	name  string // of the program; empty: not known
}

// who names the program of a socket, as far as it is known.
func (u portUser) who() string {
	switch {
	case u.pid != 0:
		return fmt.Sprintf("%s (PID %d)", u.name, u.pid)
	case u.uid == 0:
		return "a program of root's"
	}
	return fmt.Sprintf("a program of the user with number %d", u.uid)
}

func checkPort(_ context.Context, p *patient) []finding {
	port := p.port()
	if port == 0 || p.elsewhere {
		return nil
	}
	users, err := p.machine.port(port)
	switch {
	case err != nil:
		return nil
	case p.status != nil:
		return judgeShared(port, users, p.holder)
	case p.running():
		return nil // the port may be that of the daemon that does not answer
	}
	return judgePort(port, users, os.Geteuid())
}

// judgePort judges the port that a daemon of the user me would use.
func judgePort(port uint16, users []portUser, me int) []finding {
	const topic = "port"
	if len(users) == 0 {
		return []finding{{topic, fine, fmt.Sprintf("UDP port %d is free", port), "", "port_free"}}
	}
	u := users[0]
	try := fmt.Sprintf("stop that program; or another port: anode up --port %d", port+1)
	if u.name == "anode" {
		return []finding{{topic, bad, fmt.Sprintf("UDP port %d is used by another anode, PID %d, which listens on another control socket", port, u.pid),
			fmt.Sprintf("anode status --socket PATH, with the path of that daemon; or end it: sudo kill %d", u.pid), "port_taken"}}
	}
	if u.pid == 0 {
		try = fmt.Sprintf("to see which: sudo ss -ulpn sport = :%d; stop it; or another port: anode up --port %d", port, port+1)
	}
	if u.uid != 0 && u.uid != me {
		return []finding{{topic, warn, fmt.Sprintf("UDP port %d is used by %s, so the daemon would use another one, where peers that know only this one do not find it", port, u.who()), try, "port_taken"}}
	}
	return []finding{{topic, bad, fmt.Sprintf("UDP port %d is used by %s", port, u.who()), try, "port_taken"}}
}

// judgeShared looks for sockets on the daemon's port that are not the daemon's.
func judgeShared(port uint16, users []portUser, daemon holder) []finding {
	const topic = "port"
	if len(users) == 0 {
		return []finding{{topic, bad, fmt.Sprintf("the daemon has no socket on UDP port %d", port), thisService().restart(), "port_lost"}}
	}
	var list []finding
	for _, u := range users {
		other := daemon.pid != 0 && u.pid != 0 && u.pid != daemon.pid || daemon.uid >= 0 && u.uid != daemon.uid
		if other {
			list = append(list, finding{topic, bad, fmt.Sprintf("%s has a socket on %s, the daemon's UDP port, and may take packets away from it", u.who(), u.local),
				"stop that program", "port_shared"})
		}
	}
	if len(list) == 0 {
		list = append(list, finding{topic, fine, fmt.Sprintf("UDP port %d is the daemon's alone", port), "", "port"})
	}
	return list
}

// written is when this check was written: the clock of a machine that runs it is later.
var written = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)

// builtAt is the date of the commit that this program was built from.
func builtAt() time.Time {
	date := buildDate
	if info, ok := debug.ReadBuildInfo(); ok && date == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				date = s.Value
			}
		}
	}
	if t, err := time.Parse(time.RFC3339, date); err == nil {
		return t
	}
	return written
}

func checkClock(_ context.Context, p *patient) []finding {
	synchronised, err := p.machine.synchronised()
	return judgeClock(p.now, p.built, err == nil, synchronised)
}

// judgeClock: the protocol works with any clock. A handshake holds a stamp that must be
// later than the last one; if the clock was set back, the peer answers with the stamp that
// it has, and the next one is later (package seal).
func judgeClock(now, built time.Time, known, synchronised bool) []finding {
	const topic = "clock"
	at := now.UTC().Format("2006-01-02 15:04 UTC")
	switch {
	case now.Before(built.Add(-24 * time.Hour)):
		return []finding{{topic, warn, fmt.Sprintf("it shows %s, which is before this program was made. Anode connects all the same, but times in its log are wrong, and other programs may refuse certificates", at),
			"set the clock: sudo date -s \"YYYY-MM-DD HH:MM\"; or start a time service (systemd-timesyncd, chrony)", "clock_wrong"}}
	case known && !synchronised:
		return []finding{{topic, fine, "it shows " + at + "; no time service keeps it right, and Anode does not need one", "", "clock_not_synchronised"}}
	}
	return []finding{{topic, fine, "it shows " + at, "", "clock"}}
}

// checkInternet looks at the ways out of this machine. Nothing is sent.
func checkInternet(_ context.Context, p *patient) []finding {
	const topic = "internet"
	if p.elsewhere {
		return nil
	}
	s, err := p.machine.links(p.adapter())
	if err != nil {
		return nil
	}
	list := judgeInternet(s)
	if p.status == nil || p.status.Tun == nil {
		return list
	}
	if taken, err := p.machine.takesSource(p.status.ULA.Addr()); err == nil && taken {
		list = append(list, finding{topic, warn, "IPv6 connections to the internet fail: there is an IPv6 default route, but no public IPv6 address, so the system takes your Anode address as their source",
			"a public IPv6 address for the interface of the default route (ask the router's owner); or remove the route: sudo ip -6 route del default", "source_taken"})
	}
	return list
}

func judgeInternet(s link.State) []finding {
	const topic = "internet"
	name := func(r link.Route) string {
		for _, i := range s.Interfaces {
			if i.Index == r.If {
				return " by " + i.Name
			}
		}
		return ""
	}
	four, six := s.Route4 != (link.Route{}), s.Route6 != (link.Route{})
	switch {
	case four && six:
		return []finding{{topic, fine, "default routes: IPv4" + name(s.Route4) + ", IPv6" + name(s.Route6), "", "internet"}}
	case four:
		return []finding{{topic, fine, "default route: IPv4" + name(s.Route4) + "; none for IPv6", "", "internet"}}
	case six:
		return []finding{{topic, fine, "default route: IPv6" + name(s.Route6) + "; none for IPv4", "", "internet"}}
	case len(s.Interfaces) == 0:
		return []finding{{topic, bad, "this machine is not connected to any network: no interface is up, with a cable or a radio link", "ip addr shows the interfaces; plug in a cable, or join a Wi-Fi network", "no_network"}}
	}
	return []finding{{topic, fine, "no default route: peers are reached only on the networks of this machine, and through peers there", "", "no_default_route"}}
}

// checkBeacons looks at the interfaces that can carry beacons.
func checkBeacons(_ context.Context, p *patient) []finding {
	if p.elsewhere {
		return nil
	}
	s, err := p.machine.links(p.adapter())
	if err != nil || len(s.Interfaces) == 0 { // without a network, another finding says more
		return nil
	}
	return judgeBeacons(s)
}

func judgeBeacons(s link.State) []finding {
	const topic = "beacons"
	var able []string
	for _, i := range s.Interfaces {
		if len(i.Broadcast) > 0 || i.Multicast {
			able = append(able, i.Name)
		}
	}
	slices.Sort(able)
	if len(able) == 0 {
		return []finding{{topic, warn, "no interface can carry beacons (IPv4 broadcast, or IPv6 link-local multicast), so peers on the LAN are not found without an endpoint",
			"anode peers add ADDRESS NAME --endpoint udp:IP:8737, on one of the two machines", "no_beacons"}}
	}
	return []finding{{topic, fine, "peers on the LAN can be found by beacons on " + strings.Join(able, ", "), "", "beacons"}}
}

// plain is the last part of an error of the system: what went wrong, without the path.
func plain(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}
