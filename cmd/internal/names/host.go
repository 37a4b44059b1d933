package names

import (
	"slices"
	"strings"

	"anodenet/anode"
)

// Suffix is the domain under which peers have names for other programs, unless people chose
// another one. The domain internal is reserved for private use.
const Suffix = "anode.internal"

// The labels that mean the same on every machine; no peer gets one as its name.
const (
	Self = "self" // this machine
	IDs  = "id"   // short IDs are below it
)

// HostKind says what a host name names.
type HostKind string

// The kinds of host names.
const (
	HostSuffix  HostKind = "suffix"  // the suffix itself
	HostSelf    HostKind = "self"    // this machine
	HostNamed   HostKind = "name"    // the peer with a name, if there is one
	HostAddress HostKind = "address" // whoever has an address
	HostIDs     HostKind = "ids"     // the domain that short IDs are in
	HostID      HostKind = "id"      // whoever has a short ID
)

// Host is a host name under the suffix, taken apart:
//
//	north                     HostNamed, Name north
//	git.north, a.b.north      the same, Front [git], [a b]
//	self, git.self            HostSelf
//	aeaa….….                  HostAddress: labels that joined are the 64 characters
//	055b413c40ef750d.id       HostID
type Host struct {
	Kind    HostKind
	Name    string
	Address anode.Address
	ID      anode.ID
	Front   []string // labels before those that name it, the leftmost first
}

// Under returns the labels of a host name before the suffix, in small letters, and whether it
// has the suffix. A dot may end it. Only ASCII letters have a small form: those of other
// alphabets that Unicode maps to ASCII are others.
func Under(host, suffix string) (labels []string, under bool) {
	host, suffix = Lower(strings.TrimSuffix(host, ".")), Lower(suffix)
	if host == suffix {
		return nil, true
	}
	front, under := strings.CutSuffix(host, "."+suffix)
	if !under {
		return nil, false
	}
	return strings.Split(front, "."), true
}

// Lower is strings.ToLower for ASCII alone.
func Lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// ReadHost takes apart labels that Under returned. It reports false if nothing can have
// the name.
func ReadHost(labels []string) (h Host, ok bool) {
	if len(labels) == 0 {
		return Host{Kind: HostSuffix}, true
	}
	if a, ok := joined(labels); ok {
		return Host{Kind: HostAddress, Address: a}, true
	}
	if slices.Contains(labels, "") {
		return Host{}, false
	}
	front, last := labels[:len(labels)-1], labels[len(labels)-1]
	switch {
	case last == Self:
		return Host{Kind: HostSelf, Front: front}, true
	case last != IDs:
		return Host{Kind: HostNamed, Name: last, Front: front}, true
	case len(front) == 0:
		return Host{Kind: HostIDs}, true
	}
	id, err := anode.ParseID(front[len(front)-1])
	return Host{Kind: HostID, ID: id, Front: front[:len(front)-1]}, err == nil && !id.IsZero()
}

// addressText is how many characters an address has.
const addressText = 64

// joined reads an address that was split into labels anywhere. A label holds 63 characters, so
// that an address is never one.
func joined(labels []string) (anode.Address, bool) {
	n := 0
	for _, l := range labels {
		if n += len(l); n > addressText {
			return anode.Address{}, false
		}
	}
	if n != addressText {
		return anode.Address{}, false
	}
	a, err := anode.ParseAddress(strings.Join(labels, ""))
	return a, err == nil
}

// Labels returns an address as it stands in front of the suffix, in two halves.
func Labels(a anode.Address) string {
	text := a.String()
	return text[:addressText/2] + "." + text[addressText/2:]
}

// FindHost is Find for a text that may also be a host name under a suffix, such as
// north.anode.internal. Such a name means what it means to DNS, never a beginning of
// something. Of this machine it returns a Target with Self.
func FindHost(peers []Peer, suffix, text string) (Target, error) {
	labels, under := Under(strings.TrimSpace(text), suffix)
	if !under {
		return Find(peers, text)
	}
	h, ok := ReadHost(labels)
	if !ok {
		return Target{}, notFound(text)
	}
	switch h.Kind {
	case HostSelf:
		return Target{Self: true}, nil
	case HostAddress:
		return pick(peers, func(p Peer) bool { return p.Address == h.Address }, text, Target{Address: h.Address})
	case HostNamed:
		if t, err := pick(peers, func(p Peer) bool { return p.Decided && p.Name == h.Name }, text, Target{}); err != nil || t.Known {
			return t, err
		}
	case HostID:
		return pick(peers, func(p Peer) bool { return p.Address.ID() == h.ID }, text, Target{ID: h.ID})
	}
	return Target{}, notFound(text)
}
