package overlay

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
)

// Whether UDP is silent on a network does not depend on the order in which peers show it, and does not
// change to and fro while some answer by UDP and others do not.
func TestBlockageRule(t *testing.T) {
	var p, q, r anode.Address
	p[0], q[0], r[0] = 1, 2, 3
	yes, no := evidence{works: true}, evidence{asked: true, connected: true}
	works := func(a anode.Address) func(*blockage) { return func(s *blockage) { s.take(beyond, a, yes) } }
	silent := func(a anode.Address) func(*blockage) { return func(s *blockage) { s.take(beyond, a, no) } }
	nothing := func(a anode.Address) func(*blockage) { return func(s *blockage) { s.take(beyond, a, evidence{}) } }
	later := func(d time.Duration) func(*blockage) { return func(s *blockage) { s.l.now = s.l.now.Add(d) } }
	moves := func(n int) func(*blockage) {
		return func(s *blockage) { s.l.links.set(link.State{Route4: link.Route{If: n}}) }
	}
	for name, c := range map[string]struct {
		do   []func(*blockage)
		want string // after each: s silent, - not
	}{
		"silent, then it works":                  {[]func(*blockage){silent(p), works(p)}, "s-"},
		"it works, then it is silent":            {[]func(*blockage){works(p), silent(p)}, "-s"},
		"some answer, others do not":             {[]func(*blockage){works(p), silent(q), works(p), silent(q), silent(r)}, "-----"},
		"others do not, some answer":             {[]func(*blockage){silent(q), works(p), silent(q), silent(r)}, "s---"},
		"the last that answered does so no more": {[]func(*blockage){works(p), works(q), silent(p), silent(q)}, "---s"},
		"who answered is gone":                   {[]func(*blockage){works(p), nothing(p), silent(q)}, "--s"},
		"a connection alone says nothing":        {[]func(*blockage){nothing(p), func(s *blockage) { s.take(beyond, p, evidence{connected: true}) }}, "--"},
		"no answer alone says nothing":           {[]func(*blockage){func(s *blockage) { s.take(beyond, p, evidence{asked: true}) }}, "-"},
		"nothing new changes nothing":            {[]func(*blockage){silent(p), nothing(p), nothing(q)}, "sss"},
		"it answered long ago":                   {[]func(*blockage){works(p), later(2 * time.Hour), silent(q)}, "--s"},
		"it answered not long ago":               {[]func(*blockage){works(p), later(30 * time.Minute), silent(q)}, "---"},
		"another network":                        {[]func(*blockage){works(p), moves(9), silent(q), moves(1), moves(9)}, "--s-s"},
		"on the link is another matter":          {[]func(*blockage){silent(p), func(s *blockage) { s.take(onLink, q, yes) }}, "ss"},
		"beyond is another matter":               {[]func(*blockage){func(s *blockage) { s.take(onLink, q, no) }, works(p)}, "--"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &blockage{l: &loop{}, keep: newMeta(metaBlockage)}
			s.l.now = s.l.now.Add(time.Hour)
			moves(1)(s)
			got := ""
			for _, do := range c.do {
				do(s)
				got += map[bool]string{true: "s", false: "-"}[s.silent(beyond)]
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// Witnesses are few, and one is enough.
func TestBlockageWitnesses(t *testing.T) {
	s := &blockage{l: &loop{}, keep: newMeta(metaBlockage)}
	for k := range 1000 {
		s.take(beyond, anode.Address{byte(k), byte(k >> 8)}, evidence{works: true})
	}
	if n := len(s.works[beyond].seen); n != maxWitnesses {
		t.Errorf("%d witnesses", n)
	}
}

// Of many networks, the latest are remembered, and the present one is told from others.
func TestBlockageNetworks(t *testing.T) {
	s := &blockage{l: &loop{}, keep: newMeta(metaBlockage)}
	at := func(n int) {
		s.l.links.set(link.State{Route4: link.Route{If: n + 1}})
	}
	for n := range 2 * maxNetworks {
		at(n)
		s.set(beyond, true)
		s.set(beyond, true)
	}
	if len(s.known) != maxNetworks || len(slices.Compact(slices.Clone(s.known))) != maxNetworks {
		t.Errorf("%d networks are known", len(s.known))
	}
	for n, want := range map[int]bool{0: false, maxNetworks - 1: false, maxNetworks: true, 2*maxNetworks - 1: true} {
		if at(n); s.now() != want {
			t.Errorf("network %d: silent %v, want %v", n, s.now(), want)
		}
	}
}

// People are told that UDP is silent here, unless it works with somebody beyond the link.
func TestBlockageIsShown(t *testing.T) {
	var p, q anode.Address
	p[0], q[0] = 1, 2
	yes, no := evidence{works: true}, evidence{asked: true, connected: true}
	for name, c := range map[string]struct {
		do   func(*blockage)
		want bool
	}{
		"nothing is known":                     {func(*blockage) {}, false},
		"beyond":                               {func(s *blockage) { s.take(beyond, p, no) }, true},
		"on the link":                          {func(s *blockage) { s.take(onLink, p, no) }, true},
		"beyond, and it works on the link":     {func(s *blockage) { s.take(beyond, p, no); s.take(onLink, q, yes) }, true},
		"on the link, and it works beyond":     {func(s *blockage) { s.take(onLink, p, no); s.take(beyond, q, yes) }, false},
		"it works beyond, and not on the link": {func(s *blockage) { s.take(beyond, q, yes); s.take(onLink, p, no) }, false},
		"on the link of another network": {func(s *blockage) {
			s.take(onLink, p, no)
			s.l.links.set(link.State{Route4: link.Route{If: 7}})
		}, false},
	} {
		s := &blockage{l: &loop{}, keep: newMeta(metaBlockage)}
		s.l.now = s.l.now.Add(time.Hour)
		if c.do(s); s.shown() != c.want {
			t.Errorf("%s: shown %v, want %v", name, s.shown(), c.want)
		}
	}
}
