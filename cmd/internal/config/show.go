package config

import (
	"fmt"
	"strings"
)

// Example returns a file with every key, its meaning, and its default.
func Example() string {
	var b strings.Builder
	b.WriteString("# Anode's configuration. Every key is optional; the values below are the defaults.\n" +
		"# The environment (ANODE_LISTEN_PORT=8737) and flags (--port 8737) override it.\n")
	c := Default()
	eachKey(&b, c.keys(), func(name string, k key) {
		for line := range strings.Lines(k.doc) {
			fmt.Fprintf(&b, "# %s\n", strings.TrimSuffix(line, "\n"))
		}
		fmt.Fprintf(&b, "%s = %s\n", name, k.value.format())
	})
	b.WriteString("\n# Peers that are added while they are listed here; \"anode peers add\" adds them for good.\n" +
		"# [[peers]]\n" +
		"# address = \"64 characters, as shown by anode id\"\n" +
		"# name = \"north\"\n" +
		"# endpoints = [\"udp:192.0.2.1:8737\", \"tcp:home.example.org:443\", \"https://home.example.org/path\"]\n" +
		"# lan = true                                            # in this machine's virtual LAN\n" +
		"\n# Services of this machine that friends are told of, at most 16. Naming one opens no port.\n" +
		"# [[services]]\n" +
		"# name = \"web\"                                          # of several of one type\n" +
		"# port = 8080\n" +
		"# proto = \"tcp\"\n" +
		"# type = \"http\"                                         # as in _http._tcp.north.anode.internal\n" +
		"# txt = [\"path=/\"]\n")
	return b.String()
}

// eachKey writes the headers of sections, and has the keys written after them by their
// names within the section.
func eachKey(b *strings.Builder, keys []key, write func(name string, k key)) {
	section := ""
	for _, k := range keys {
		name := k.written()
		if s, rest, ok := strings.Cut(name, "."); ok {
			if s != section {
				section = s
				fmt.Fprintf(b, "\n[%s]\n", s)
			}
			name = rest
		} else {
			b.WriteByte('\n')
		}
		write(name, k)
	}
}

// TOML returns the configuration as a file, with the origin of each value as a comment.
func (l *Loaded) TOML() string {
	var b strings.Builder
	eachKey(&b, l.keys(), func(name string, k key) {
		fmt.Fprintf(&b, "%s = %s  # %s\n", name, k.value.format(), l.Origin(k.name))
	})
	for i, p := range l.Peers {
		fmt.Fprintf(&b, "\n[[peers]]  # %s\naddress = %s\n", l.PeerOrigin(i), quote(p.Address.String()))
		if p.Name != "" {
			fmt.Fprintf(&b, "name = %s\n", quote(p.Name))
		}
		if len(p.Endpoints) > 0 {
			fmt.Fprintf(&b, "endpoints = [%s]\n", strings.Join(endpointTexts(p), ", "))
		}
		if p.LAN {
			fmt.Fprintln(&b, "lan = true")
		}
	}
	for i, s := range l.Services {
		fmt.Fprintf(&b, "\n[[services]]  # %s\n%s", l.ServiceOrigin(i), serviceTOML(s))
	}
	return strings.TrimPrefix(b.String(), "\n")
}

func endpointTexts(p Peer) (list []string) {
	for _, e := range p.Endpoints {
		list = append(list, quote(e.String()))
	}
	return list
}

// Setting is a key, its value and where that comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	TOML   string `json:"-"` // the value as in a file
	Origin Origin `json:"origin"`
}

// Settings lists the keys in the order of the example.
func (l *Loaded) Settings() (list []Setting) {
	for _, k := range l.keys() {
		list = append(list, Setting{k.name, k.value.plain(), k.value.format(), l.Origin(k.name)})
	}
	return list
}
