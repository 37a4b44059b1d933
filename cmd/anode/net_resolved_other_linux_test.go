package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// otherResolver is a resolver that the daemon cannot tell of its names: its page of instructions says how
// people do.
type otherResolver struct {
	page   string
	args   []string // how it is run
	file   string   // its configuration
	config string   // as Debian has it, with 10.0.1.2 for all other names
	later  bool     // the page has people install it
}

func otherResolvers() map[string]otherResolver {
	dnsmasq := []string{"dnsmasq", "--keep-in-foreground", "--user=root", "--log-facility=-", "--pid-file=/run/dnsmasq/dnsmasq.pid", "--conf-file=/etc/dnsmasq.conf"}
	const common = "no-resolv\nserver=10.0.1.2\nconf-dir=/etc/dnsmasq.d/,*.conf\n"
	return map[string]otherResolver{
		"none":    {"plain", dnsmasq, "/etc/dnsmasq.conf", "conf-dir=/etc/dnsmasq.d/,*.conf\n", true},
		"dnsmasq": {"dnsmasq", dnsmasq, "/etc/dnsmasq.conf", common, false}, // on [::]:53
		"dnsmasq that is strict": {"dnsmasq", dnsmasq, "/etc/dnsmasq.conf",
			common + "stop-dns-rebind\nrebind-domain-ok=/example.com/\nbogus-priv\ndomain-needed\nbind-interfaces\nlisten-address=127.0.0.1\n", false},
		"unbound": {"unbound", []string{"unbound", "-d", "-c", "/etc/unbound/unbound.conf"}, "/etc/unbound/unbound.conf",
			"server:\n  chroot: \"\"\n  username: \"\"\n  use-syslog: no\n  pidfile: /run/unbound.pid\n  private-address: fd00::/8\n" +
				"remote-control:\n  control-enable: yes\n  control-interface: /run/unbound.ctl\n" +
				"forward-zone:\n  name: \".\"\n  forward-addr: 10.0.1.2\ninclude-toplevel: \"/etc/unbound/unbound.conf.d/*.conf\"\n", false},
	}
}

// asks is the server that programs ask.
func (x otherResolver) asks() string {
	if x.later {
		return "10.0.1.2"
	}
	return "127.0.0.1"
}

// otherMounts gives a machine its own /etc and /run, without D-Bus.
const otherMounts = `
over=$1 file=$2 config=$3 server=$4
mkdir "$over"; mount -t tmpfs -o mode=755 tmpfs "$over"; mkdir "$over/etc" "$over/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$over/etc,workdir=$over/work" /etc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/dnsmasq
rm -rf /etc/dnsmasq.d /etc/unbound
mkdir -p /etc/dnsmasq.d /etc/unbound/unbound.conf.d
printf %s "$config" >"$file"
sed -i '/^hosts:/d' /etc/nsswitch.conf
echo 'hosts: files dns' >>/etc/nsswitch.conf
rm -f /etc/resolv.conf
printf 'nameserver %s\noptions timeout:1 attempts:1\n' "$server" >/etc/resolv.conf
`

// commandsOf returns those of a page, for a shell in which sudo, systemctl and apt are its functions.
func commandsOf(page string) string {
	var list []string
	inside := false
	for line := range strings.Lines(page) {
		if inside || strings.HasPrefix(line, "sudo ") {
			list = append(list, line)
		}
		if strings.HasSuffix(line, "<<'END'\n") {
			inside = true
		} else if line == "END\n" {
			inside = false
		}
	}
	return "sudo() { \"$@\"; }\nsystemctl() { echo systemctl \"$@\"; }\napt() { echo apt \"$@\"; }\n" + strings.Join(list, "")
}

// TestNetOtherResolver: a machine without systemd-resolved and D-Bus, with a read-only /etc. What "anode
// dns" says, followed to the letter, has its programs find peers.
func TestNetOtherResolver(t *testing.T) {
	for name, x := range otherResolvers() {
		step(t, name, func(t *testing.T) {
			if _, err := exec.LookPath(x.args[0]); err != nil {
				need(t, x.args[0])
			}
			h, north, lan := newHost(t, "names"), newHost(t, "north"), newMachine(t, "lan")
			join(1, h, lan)
			join(2, h, north)
			elsewhere := lan.answersAll("10.0.1.2:53")
			h.ownMounts()
			h.run("sh", "-euc", otherMounts, "sh", filepath.Join(h.dir, "over"), x.file, x.config, x.asks())
			h.add(north)
			north.add(h)
			var resolver *process
			restart := func() { // returns when it answers, as systemctl does
				if resolver != nil {
					resolver.end(syscall.SIGTERM)
				}
				resolver = h.start(x.args...)
				for end := time.Now().Add(dialWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					if _, code := h.try("dig", "+time=1", "+tries=1", "@127.0.0.1", "www.example.com"); code == 0 {
						return
					}
				}
			}
			if !x.later {
				restart()
			}
			finds := func(when, name, want string) {
				t.Helper()
				out := ""
				for end := time.Now().Add(dialWait); !strings.Contains(out, want) && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					out, _ = h.try("getent", "ahosts", name)
				}
				if !strings.Contains(out, want) {
					t.Errorf("%s: %s: %q, want %s", when, name, out, want)
					if resolver != nil {
						t.Logf("the resolver says\n%s", resolver.output())
					}
				}
			}
			const other, otherIs = "www.example.com", "192.0.2.7"
			finds("before", other, otherIs)
			h.run("mount", "-o", "remount,ro", "/etc")
			h.up()
			north.up()
			h.meets(north)
			if !x.later {
				restart() // it must find port 53 free on all addresses
				finds("restarted", other, otherIs)
			}
			status := h.anode("dns", "status")
			t.Logf("status:\n%s", status)
			if !strings.Contains(status, "anode dns instructions "+x.page) {
				t.Error("it does not say what to do")
			}
			if d := h.doctor(nil); !d.has("warn names_no_resolver") && !d.has("bad names_other") { // the LAN's server answers everything
				t.Errorf("doctor: %v", d.list())
			}
			page := h.anode("dns", "instructions")
			t.Logf("page:\n%s", page)
			h.run("mount", "-o", "remount,rw", "/etc")
			if out := h.run("sh", "-euc", commandsOf(page)); strings.Contains(out, "systemctl restart") {
				restart()
			}
			leaked := len(elsewhere.about(namesSuffix))
			for _, name := range []string{"north.anode.internal", "x.north.anode.internal"} {
				finds("after", name, north.ula.String())
			}
			finds("after", "self.anode.internal", h.ula.String())
			finds("after", other, otherIs)
			if out, _ := h.try("getent", "hosts", north.ula.String()); !strings.Contains(out, "north.anode.internal") {
				t.Errorf("the reverse: %q", out)
			}
			if out, _ := h.try("getent", "ahosts", "nobody.anode.internal"); strings.TrimSpace(out) != "" {
				t.Errorf("a name that does not exist: %s", out)
			}
			if now := h.anode("dns"); !strings.Contains(now, "programs\tfind peers by name") {
				t.Errorf("status after the page:\n%s", now)
			}
			if d := h.doctor(nil); !d.has("fine names") {
				t.Errorf("doctor: %v", d.list())
			}
			if asked := elsewhere.about(namesSuffix)[leaked:]; len(asked) > 0 {
				t.Errorf("the LAN's server was asked %v", asked)
			}
		})
	}
}
