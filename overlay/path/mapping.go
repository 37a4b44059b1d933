package path

import (
	"cmp"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sort"
	"time"

	"anodenet/overlay/mono"
)

// Mapping is how the outside sees our main socket by IPv4: what a NAT makes of it, as far as the
// answers of others show. IPv6 has none. What others say may be a lie: it only decides which
// endpoints are worth a try.
type Mapping struct {
	Kind     MappingKind
	Ports    PortKind
	Last     netip.AddrPort // the newest mapping seen of the main socket; where ports follow one another and depend on the destination, of any
	Step     int            // from one mapping's port to the next, if Ports is Sequential
	At       mono.Time      // when the question was sent that Last is the answer to
	Lifetime time.Duration  // of a mapping through which nothing passes, measured; 0: unknown
}

// MappingKind says on what the endpoint depends at which the outside sees us (RFC 4787, 4.1).
type MappingKind uint8

// The kinds of mappings.
const (
	Unknown     MappingKind = iota
	None                    // no NAT: an interface has the address that is seen
	Independent             // everybody sees the same endpoint
	Dependent               // each destination sees another one: a "symmetric" NAT
)

// String returns a stable word.
func (k MappingKind) String() string {
	return [...]string{"unknown", "none", "independent", "dependent"}[k]
}

// PortKind says how a NAT chooses the port of a new mapping.
type PortKind uint8

// The ways to choose ports.
const (
	PortsUnknown PortKind = iota
	Preserved             // the port of the socket, where it is free
	Sequential            // a constant step after that of the mapping before
	Random
)

// String returns a stable word.
func (k PortKind) String() string {
	return [...]string{"unknown", "preserved", "sequential", "random"}[k]
}

// Sample is one answer to the question at which endpoint somebody sees us.
type Sample struct {
	Local uint16         // the port of our socket
	Main  bool           // it is the main socket, and none that was opened for the question
	To    netip.AddrPort // who was asked
	Seen  netip.AddrPort // what the answer says
	At    mono.Time      // when the question was sent, which is when a new mapping is made
}

const (
	// maxStep is the longest step between ports that is taken for a constant one. In between,
	// other programs behind the same NAT may take ports too.
	maxStep = 32
	// together is how close in time two samples are whose ports are compared.
	together = 5 * time.Second
)

// Classify tells the kind of a NAT by samples that were taken within a short time. Samples by IPv6
// are ignored. own reports whether an address is one of an interface of ours. Lifetime is left 0.
//
// Two destinations at different addresses that see one endpoint show an independent mapping, even
// if a third, which may lie, sees another one. With a single destination, a NAT that preserves the
// ports of all sockets counts as independent too: others will see the same port.
func Classify(samples []Sample, own func(netip.Addr) bool) Mapping {
	var list []Sample
	for _, s := range samples {
		s.To, s.Seen = unmap(s.To), unmap(s.Seen)
		if s.Seen.Addr().Is4() && s.To.Addr().Is4() {
			list = append(list, s)
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].At < list[j].At })
	if len(list) == 0 {
		return Mapping{}
	}
	newest := list[len(list)-1]
	m := Mapping{Last: newest.Seen, At: newest.At}
	m.Ports, m.Step = ports(list)
	var main *Sample // the newest of the main socket, or the newest that two agree on
	agreed, differ := false, false
	for k := range list {
		s := &list[k]
		if !s.Main {
			continue
		}
		same, other := agreement(list[:k], s)
		if same || !agreed {
			main = s
		}
		agreed, differ = agreed || same, differ || other
	}
	switch {
	case main == nil:
		return m
	case own(main.Seen.Addr()) && main.Seen.Port() == main.Local:
		m.Kind = None
	case agreed, m.Ports == Preserved && !differ && main.Seen.Port() == main.Local:
		m.Kind = Independent
	case differ:
		m.Kind = Dependent
	}
	if m.Ports != Sequential || m.Kind == None || m.Kind == Independent {
		m.Last, m.At = main.Seen, main.At
	}
	return m
}

// agreement compares a sample of the main socket with the latest that each other destination gave
// before it: same reports whether one at another address saw the same endpoint, and other whether
// one saw a different endpoint.
func agreement(before []Sample, s *Sample) (same, other bool) {
	done := map[netip.AddrPort]bool{s.To: true}
	for _, b := range slices.Backward(before) {
		if !b.Main || done[b.To] {
			continue
		}
		done[b.To] = true
		switch {
		case b.Seen != s.Seen:
			other = true
		case b.To.Addr() != s.To.Addr():
			same = true
		}
	}
	return same, other
}

// ports tells how the ports of mappings are chosen, by samples in the order of time. A step counts
// only between sockets that were opened for the question, one after the other: when a mapping of
// the main socket was made is not known. One step may be an accident; two show a rule: small steps in
// one direction, of the ports or of their bytes in the other order, as of a counter whose bytes are
// not swapped for the network, or any step and multiples of it.
func ports(list []Sample) (PortKind, int) {
	var fresh []Sample
	for _, s := range list {
		if !s.Main && !slices.ContainsFunc(fresh, func(f Sample) bool { return f.Local == s.Local }) {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) > 0 && !slices.ContainsFunc(fresh, func(s Sample) bool { return s.Seen.Port() != s.Local }) {
		return Preserved, 0 // if that of the main socket is not, another machine has it
	}
	var plain, swapped []int
	for k := 1; k < len(fresh); k++ {
		if fresh[k].At.Sub(fresh[k-1].At) > together {
			continue
		}
		a, b := fresh[k-1].Seen.Port(), fresh[k].Seen.Port()
		plain = append(plain, int(b)-int(a))
		swapped = append(swapped, int(bits.ReverseBytes16(b))-int(bits.ReverseBytes16(a)))
	}
	step := cmp.Or(rule(plain), 256*rule(swapped), multiples(plain)) // every 256th carry of the second one is not foreseen
	switch {
	case len(plain) < 2:
		return PortsUnknown, 0 // a long step may be one of many
	case step == 0:
		return Random, 0
	}
	return Sequential, step
}

// rule returns the shortest of small steps in one direction; 0 if they are something else.
func rule(steps []int) (step int) {
	for _, d := range steps {
		if d == 0 || max(d, -d) > maxStep || step != 0 && (d > 0) != (step > 0) {
			return 0
		}
		if step == 0 || max(d, -d) < max(step, -step) {
			step = d
		}
	}
	return step
}

// multiples returns the shortest of two or more steps if the others are small multiples of it, and it
// is not longer than a PREDICT can say; 0 if they are something else.
func multiples(steps []int) int {
	if len(steps) < 2 {
		return 0
	}
	step := slices.MinFunc(steps, func(a, b int) int { return cmp.Compare(max(a, -a), max(b, -b)) })
	if step == 0 || max(step, -step) > math.MaxInt16 {
		return 0
	}
	for _, d := range steps {
		if d%step != 0 || d/step < 1 || d/step > maxStep {
			return 0
		}
	}
	return step
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
