package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/platform"
)

// A page says how people tell a resolver of the names, with the lines to copy.
type page struct {
	name, short string
	text        func(placeOfNames) []string
}

// placeOfNames is what the lines of a page hold.
type placeOfNames struct {
	control.NamesView
	at netip.AddrPort
}

func pages() []page {
	return []page{
		{"dnsmasq", "dnsmasq", dnsmasqPage},
		{"unbound", "Unbound", unboundPage},
		{"nm", "NetworkManager with its own dnsmasq", nmPage},
		{"delegate", "systemd-resolved from 258 on, if the daemon may not tell it", delegatePage},
		{"plain", "a machine without a resolver: dnsmasq becomes one", plainPage},
	}
}

func (a *app) dnsInstructions() *cobra.Command {
	var words, lines []string
	for _, p := range pages() {
		words = append(words, p.name)
		lines = append(lines, fmt.Sprintf("  %-10s  %s", p.name, p.short))
	}
	return &cobra.Command{
		Use:   "instructions [" + strings.Join(words, "|") + "]",
		Short: "Print how to tell another resolver of the names, for copying",
		Long: "Print how to tell a resolver of the names that the daemon cannot tell itself, with the lines\n" +
			"to copy. Without an argument it prints the page for what was found on this machine.\n\n" +
			strings.Join(lines, "\n"),
		Args:      want(0, 1),
		ValidArgs: words,
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted := ""
			if len(args) > 0 {
				wanted = args[0]
				if !slices.Contains(words, wanted) {
					return usage(cmd, "want one of %s, not %q", strings.Join(words, ", "), wanted)
				}
			}
			v, err := a.names(cmd.Context())
			if err != nil {
				return err
			}
			return a.printPage(v, wanted)
		},
	}
}

// printPage prints a page, or which there are if none is wanted and none fits.
func (a *app) printPage(v control.NamesView, wanted string) error {
	if v.Server == nil {
		return noNameServer(v)
	}
	if wanted = cmp.Or(wanted, v.Resolver.Instructions); wanted == "" {
		if v.Resolver.Applied {
			fmt.Fprintf(a.out, "Nothing needs to be done: %s was told by the daemon.\n", v.Resolver.Manager)
		}
		fmt.Fprintln(a.out, "There are instructions for:")
		for _, p := range pages() {
			fmt.Fprintf(a.out, "  %-10s  %s\n", p.name, p.short)
		}
		fmt.Fprintln(a.out, "To print one: anode dns instructions "+pages()[0].name)
		return nil
	}
	for _, p := range pages() {
		if p.name != wanted {
			continue
		}
		for _, line := range p.text(placeOfNames{v, *v.Server}) {
			fmt.Fprintln(a.out, line)
		}
		fmt.Fprintf(a.out, "\nThen this must print %s:\n\n    getent ahostsv6 self.%s\n", v.Server.Addr(), v.Suffix)
	}
	return nil
}

// noNameServer says why the daemon answers no DNS, and what knows the names all the same.
func noNameServer(v control.NamesView) error {
	if v.Off != "" {
		return &failure{exitFailed, "no DNS server is running: " + v.Off, "anode ip NAME"}
	}
	return &failure{exitFailed, "no DNS server is running: " + oneLine(v.Problem), "anode dns"}
}

// server returns where DNS is answered, with a separator before the port.
func (p placeOfNames) server(sep string) string {
	return fmt.Sprintf("%s%s%d", p.at.Addr(), sep, p.at.Port())
}

// reverse lists the domains of ULAs.
func (p placeOfNames) reverse() []string { return p.Domains[min(1, len(p.Domains)):] }

// paste returns a shell command that writes lines to a file. It is not indented, since END has to
// stand alone.
func paste(file string, lines []string) []string {
	return slices.Concat([]string{"sudo tee " + file + " <<'END'"}, lines, []string{"END"})
}

func (p placeOfNames) dnsmasqLines() (lines []string) {
	for _, d := range p.Domains {
		lines = append(lines, fmt.Sprintf("server=/%s/%s", d, p.server("#")))
	}
	return append(lines, "rebind-domain-ok=/"+p.Suffix+"/")
}

func dnsmasqPage(p placeOfNames) []string {
	return slices.Concat([]string{
		"Have dnsmasq ask the daemon for " + p.Suffix + " alone:", "",
	}, paste("/etc/dnsmasq.d/anode.conf", p.dnsmasqLines()), []string{
		"sudo systemctl restart dnsmasq", "",
		"/etc/dnsmasq.conf must have \"conf-dir=/etc/dnsmasq.d\", which is usual.",
	}, p.zonesNote())
}

func nmPage(p placeOfNames) []string {
	return slices.Concat([]string{
		"Have NetworkManager run dnsmasq, and that ask the daemon for " + p.Suffix, "alone:", "",
		"sudo apt install -y dnsmasq-base",
	}, paste("/etc/NetworkManager/conf.d/anode.conf", []string{"[main]", "dns=dnsmasq"}),
		paste("/etc/NetworkManager/dnsmasq.d/anode.conf", p.dnsmasqLines()), []string{
			"sudo systemctl reload NetworkManager", "",
			notDebian,
		}, p.zonesNote())
}

// notDebian is about the pages that install a package.
const notDebian = "Systems other than Debian and Ubuntu install the package by another command."

// plainPage makes dnsmasq this machine's resolver. It listens on 127.0.0.1 alone, and takes the other
// servers from where programs took them.
func plainPage(p placeOfNames) []string {
	lines := []string{"listen-address=127.0.0.1", "bind-interfaces"}
	var first, more, note []string
	top := []string{"sudo sed -i '1i nameserver 127.0.0.1' /etc/resolv.conf"}
	switch p.Resolver.Manager {
	case platform.ManagerOpenresolv:
		const file = "/etc/dnsmasq-resolv.conf"
		lines = append(lines, "resolv-file="+file)
		first = append(paste("-a /etc/resolvconf.conf", []string{"name_servers=127.0.0.1", "dnsmasq_resolv=" + file}), "sudo resolvconf -u")
	case platform.ManagerResolvconf: // Debian's dnsmasq tells it
	case platform.ManagerDhcpcd:
		more = append(paste("-a /etc/resolv.conf.head", []string{"nameserver 127.0.0.1"}), top...)
	default:
		more = top
		note = []string{"", "A program that writes /etc/resolv.conf must keep its first line. For dhclient,",
			"write \"prepend domain-name-servers 127.0.0.1;\" into /etc/dhcp/dhclient.conf."}
	}
	return slices.Concat([]string{
		"Have dnsmasq answer the programs of this machine. It asks the daemon for", p.Suffix + ", and the same servers as before for all other names:", "",
		"sudo mkdir -p /etc/dnsmasq.d",
	}, paste("/etc/dnsmasq.d/local.conf", lines), paste("/etc/dnsmasq.d/anode.conf", p.dnsmasqLines()), []string{"sudo apt install -y dnsmasq"}, first, []string{"sudo systemctl restart dnsmasq"}, more,
		[]string{"", notDebian}, note, p.zonesNote())
}

func unboundPage(p placeOfNames) []string {
	lines := []string{"server:", "    domain-insecure: \"" + p.Suffix + "\"", "    private-domain: \"" + p.Suffix + "\""}
	if len(p.reverse()) > 0 {
		lines = append(lines, "    local-zone: \"d.f.ip6.arpa.\" nodefault", "    domain-insecure: \"d.f.ip6.arpa\"")
	}
	for _, d := range p.Domains {
		lines = append(lines, "forward-zone:", "    name: \""+d+"\"", "    forward-addr: "+p.server("@"))
	}
	return slices.Concat([]string{
		"Have Unbound ask the daemon for " + p.Suffix + " alone:", "",
	}, paste("/etc/unbound/unbound.conf.d/anode.conf", lines), []string{
		"sudo unbound-control reload || sudo systemctl restart unbound",
	}, p.zonesNote())
}

func delegatePage(p placeOfNames) []string {
	var domains []string
	for _, d := range p.Domains {
		domains = append(domains, "~"+d)
	}
	return slices.Concat([]string{
		"Have systemd-resolved (258 or newer) ask the daemon for " + p.Suffix + " alone:", "",
		"sudo mkdir -p /run/systemd/dns-delegate.d",
	}, paste("/run/systemd/dns-delegate.d/anode.dns-delegate", append([]string{
		"[Delegate]", "DNS=" + p.at.String(),
	}, prefixed("Domains=", domains)...)), []string{
		"sudo systemctl reload systemd-resolved", "",
		"The file is gone when the machine starts again; in /etc/systemd/dns-delegate.d",
		"it stays.",
	}, p.zonesNote())
}

func prefixed(prefix string, list []string) (lines []string) {
	for _, x := range list {
		lines = append(lines, prefix+x)
	}
	return lines
}

// zonesNote says that the reverse domains change with the peers.
func (p placeOfNames) zonesNote() []string {
	if len(p.reverse()) == 0 {
		return nil
	}
	return []string{"", "The domains in ip6.arpa lead from addresses to names, one for each zone of", "peers (" + zonesOf(p.reverse()) + "). Repeat this when you add peers of another zone."}
}

// zonesOf lists the zones of reverse domains.
func zonesOf(domains []string) string {
	var list []string
	for _, d := range domains {
		digits := strings.Split(strings.TrimSuffix(d, ".ip6.arpa"), ".")
		slices.Reverse(digits)
		if z, err := anode.ParseZone(strings.TrimPrefix(strings.Join(digits, ""), "fd")); err == nil {
			list = append(list, z.String())
		}
	}
	return strings.Join(list, ", ")
}
