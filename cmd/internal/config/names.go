package config

import (
	"fmt"
	"slices"
	"strings"

	"anodenet/cmd/internal/dns"
)

// Names is how other programs find peers by name.
type Names struct {
	Enabled bool   `toml:"enabled"` // counts with an adapter alone
	Suffix  string `toml:"suffix"`  // small letters, no dots around it
	Search  bool   `toml:"search"`
	Port    uint16 `toml:"port"`
	Manage  Manage `toml:"manage"`
}

// Manage says whether the system's resolver is told of the names.
type Manage struct{ word string }

// The values of Manage.
var (
	manages    = []string{"auto", "off"}
	ManageAuto = Manage{"auto"}
	ManageOff  = Manage{"off"}
)

// UnmarshalText reads the word.
func (m *Manage) UnmarshalText(b []byte) (err error) {
	m.word, err = oneOf(string(b), manages)
	return err
}

// MarshalText returns the word.
func (m Manage) MarshalText() ([]byte, error) { return []byte(m.word), nil }

// maxSuffix is the most bytes of a suffix: names of services stand before it.
const maxSuffix = 100

// suffixOf is the domain that peers' names are in.
func suffixOf(p *string) text {
	return text{
		"a domain such as \"anode.internal\", but none of local and arpa, which other protocols have",
		func(s string) bool {
			s = strings.ToLower(strings.TrimSuffix(s, "."))
			labels := strings.Split(s, ".")
			last := labels[len(labels)-1]
			if len(s) > maxSuffix || last == "local" || last == "arpa" || slices.ContainsFunc(labels, func(l string) bool { return !isLabel(l) }) {
				return false
			}
			*p = s
			return true
		},
		func() string { return *p },
	}
}

// isLabel reports whether a text is a label of a host name (RFC 1123, 2.1).
func isLabel(l string) bool {
	other := func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') }
	return l != "" && len(l) <= 63 && l[0] != '-' && l[len(l)-1] != '-' && !strings.ContainsFunc(l, other)
}

// serviceKeys are the keys of an entry of [[services]].
var serviceKeys = []string{"services.name", "services.port", "services.proto", "services.type", "services.txt"}

// serviceList takes all of [[services]].
func (f *file) serviceList(at where, x any) {
	list, ok := x.([]any)
	if !ok {
		f.problem(f.origin(at.key), "services: want [[services]], with two brackets, before each service")
		return
	}
	if len(list) > dns.MaxServices {
		f.problem(f.origin(at.key), fmt.Sprintf("services: %d are more than the %d that a machine can have", len(list), dns.MaxServices))
		return
	}
	for i, x := range list {
		inner := at.item(i)
		if table, ok := x.(map[string]any); ok {
			f.service(inner, table)
		} else {
			f.problem(f.origin(inner.value), "services: want a port and a type, not "+describe(x))
		}
	}
	size := 0
	for _, s := range f.config.Services {
		size += s.Size()
	}
	if size > dns.MaxSize {
		f.problem(f.origin(at.key), fmt.Sprintf("services: names, types and texts have %d bytes together, and friends are told %d at most", size, dns.MaxSize))
	}
}

// service takes an entry of [[services]].
func (f *file) service(at where, table map[string]any) {
	s := dns.Service{Proto: "tcp"}
	sound := true
	for word, x := range table {
		inner := at.child(word)
		ok, want := false, "a text"
		switch word {
		case "name":
			s.Name, ok = x.(string)
		case "proto":
			s.Proto, ok = x.(string)
		case "type":
			s.Type, ok = x.(string)
		case "port":
			ok, want = number[uint16]{&s.Port, 1, 65535}.set(x), "a number from 1 to 65535"
		case "txt":
			ok, want = list{"", func([]string) bool { return true }, &s.TXT}.set(x), "a list such as [\"path=/\"]"
		default:
			f.problem(f.origin(inner.key), unknownKey(f.keys, "services."+word))
			sound = false
			continue
		}
		if !ok {
			f.problem(f.origin(inner.value), fmt.Sprintf("services.%s: want %s, not %s", word, want, describe(x)))
			sound = false
		}
	}
	if !sound {
		return
	}
	if err := s.Check(); err != nil {
		f.problem(f.origin(at.value), "services."+err.Error())
		return
	}
	if slices.ContainsFunc(f.config.Services, s.Clashes) {
		f.problem(f.origin(at.value), fmt.Sprintf("services.name: two services of type %s have the same name", s.Type))
		return
	}
	f.config.Services = append(f.config.Services, s)
	f.services = append(f.services, f.origin(at.value))
}

// serviceTOML returns a service as it stands in a file.
func serviceTOML(s dns.Service) string {
	var b strings.Builder
	if s.Name != "" {
		fmt.Fprintf(&b, "name = %s\n", quote(s.Name))
	}
	fmt.Fprintf(&b, "port = %d\nproto = %s\ntype = %s\n", s.Port, quote(s.Proto), quote(s.Type))
	if len(s.TXT) > 0 {
		fmt.Fprintf(&b, "txt = %s\n", list{p: &s.TXT}.format())
	}
	return b.String()
}
