package platform

import (
	"io/fs"
	"net/netip"
	"strings"
)

// otherNames is a manager of names that we do not set up, and the page that says how people do.
type otherNames struct{ manager, page string }

// traces are files of resolvers that run, in order of weight.
func traces() []struct {
	file string
	otherNames
} {
	return []struct {
		file string
		otherNames
	}{
		{"run/NetworkManager/dnsmasq.pid", otherNames{ManagerNetworkManager, PageNM}},
		{"run/dnsmasq/dnsmasq.pid", otherNames{ManagerDnsmasq, PageDnsmasq}},
		{"run/dnsmasq.pid", otherNames{ManagerDnsmasq, PageDnsmasq}},
		{"run/unbound.pid", otherNames{ManagerUnbound, PageUnbound}},
		{"run/unbound/unbound.pid", otherNames{ManagerUnbound, PageUnbound}},
	}
}

// findForeign looks who resolves names here. A resolver that /etc/resolv.conf does not lead to,
// such as the dnsmasq of virtual machines, does not count.
func findForeign(root fs.FS) otherNames {
	text, _ := fs.ReadFile(root, "etc/resolv.conf") // none: no servers
	local, header := readResolvConf(string(text))
	if local {
		for _, t := range traces() {
			if _, err := fs.Stat(root, t.file); err == nil {
				return t.otherNames
			}
		}
	}
	for _, w := range writers() {
		if strings.Contains(header, w.mark) && w.local == local {
			return w.otherNames
		}
	}
	if local {
		return otherNames{ManagerLocal, ""}
	}
	return otherNames{ManagerNone, PagePlain}
}

// writers are programs that write /etc/resolv.conf, by what its comments say. local is whether the
// first server is of this machine then.
func writers() []struct {
	mark  string
	local bool
	otherNames
} {
	return []struct {
		mark  string
		local bool
		otherNames
	}{
		{"Connection Manager", true, otherNames{ManagerConnMan, ""}},
		{"NetworkManager", false, otherNames{ManagerNetworkManager, PageNM}},
		{"dhcpcd", false, otherNames{ManagerDhcpcd, PagePlain}},
		{"resolvconf(8)", false, otherNames{ManagerResolvconf, PagePlain}}, // Debian's first one
		{"resolvconf", false, otherNames{ManagerOpenresolv, PagePlain}},
	}
}

// The addresses of systemd-resolved's own server (systemd-resolved.service(8)).
var (
	stub      = netip.AddrFrom4([4]byte{127, 0, 0, 53})
	stubProxy = netip.AddrFrom4([4]byte{127, 0, 0, 54})
)

// readResolvConf returns whether the first server is one of this machine's, other than
// systemd-resolved, and the comments.
func readResolvConf(text string) (local bool, header string) {
	first := true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			header += line + "\n"
		}
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" || !first {
			continue
		}
		first = false
		a, err := netip.ParseAddr(words[1])
		local = err == nil && a.IsLoopback() && a != stub && a != stubProxy
	}
	return local, header
}

// Why nobody is told.
const (
	noBus      = "there is no D-Bus, so systemd-resolved cannot be told"
	noResolved = "systemd-resolved does not run"
)

// foreignReport is about a system without systemd-resolved.
func foreignReport(f otherNames, why string) NameReport {
	r := NameReport{Manager: f.manager, Why: why, Instructions: f.page, Try: "anode dns instructions " + f.page}
	switch {
	case f.page == PagePlain && f.manager == ManagerNone:
		r.Why += ", and no other resolver runs on this machine"
	case f.page == PagePlain:
		r.Why += ", and " + f.manager + " lets programs ask the servers of the network"
	case f.page != "":
		r.Why += "; " + f.manager + " is set up by its own files"
	case f.manager == ManagerConnMan:
		r.Why += ", and ConnMan cannot ask the daemon"
		r.Try = otherWays
	default:
		r.Why += "; another resolver of this machine answers programs"
		r.Try = "anode dns instructions\n" + withoutSystem
	}
	if f.manager == ManagerNetworkManager {
		r.Try += "\nor install systemd-resolved, which NetworkManager then uses"
	}
	return r
}

// What works without the system's resolver.
const (
	otherWays     = "anode ip NAME; the SOCKS proxy and forwards know the names too"
	withoutSystem = "until then: " + otherWays
)

// busyReport is about a link that systemd-networkd manages and does not let us set up.
func busyReport(link string) NameReport {
	return NameReport{
		Manager: ManagerNetworkd,
		Why:     "systemd-networkd manages the link " + link + ", and does not take the settings",
		Try:     "as root, write these lines into /etc/systemd/network/10-anode.network:\n[Match]\nName=" + link + "\n[Link]\nUnmanaged=yes\nthen: networkctl reload; and restart the daemon",
	}
}

// delegates is the first version of systemd that has files for delegating domains.
const delegates = 258

// deniedReport is about a service that does not let this user.
func deniedReport(manager string, version int) NameReport {
	r := NameReport{Manager: manager, Why: manager + " does not let the daemon's user set up a link"}
	if version >= delegates {
		r.Instructions = PageDelegate
		r.Try = "anode dns instructions delegate"
		return r
	}
	r.Try = "install polkit, and the package's rule as /usr/share/polkit-1/rules.d/50-anode.rules (in the source: scripts/packaging/polkit.rules), for a daemon of the user anode\nor run the daemon as root"
	return r
}
