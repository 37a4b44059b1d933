package names

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"anodenet/anode"
)

// The three addresses are fixed, so that their beginnings are too.
func three(t testing.TB) (north, south, nameless Peer) {
	t.Helper()
	parse := func(s string) anode.Address {
		a, err := anode.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return Peer{parse(textNorth), "north", true}, Peer{parse(textSouth), "south", true}, Peer{Address: parse(textNameless)}
}

func TestFind(t *testing.T) {
	north, south, nameless := three(t)
	peers := []Peer{north, south, nameless}
	id, err := anode.NewIdentity(7)
	if err != nil {
		t.Fatal(err)
	}
	a, stranger := north.Address, id.Address()
	for _, test := range []struct {
		name, text string
		want       Target
	}{
		{"name", "north", known(north)},
		{"spaces", " south\n", known(south)},
		{"address", a.String(), known(north)},
		{"capitals", strings.ToUpper(a.String()), known(north)},
		{"TXT", a.TXT(), known(north)},
		{"link", a.TXT() + "?name=x", known(north)},
		{"ULA", a.ULA().String(), known(north)},
		{"long ULA", a.ULA().Addr().StringExpanded(), known(north)},
		{"ID", nameless.Address.ID().String(), known(nameless)},
		{"beginning of name", "nor", known(north)},
		{"beginning of ID", south.Address.ID().String()[:9], known(south)},
		{"beginning of address", nameless.Address.String()[:40], known(nameless)},
		{"beginning of ULA", strings.TrimRight(a.ULA().String()[:20], ":"), known(north)},
		{"beginning of long ULA", a.ULA().Addr().StringExpanded()[:25], known(north)},
		{"check form", a.CheckForm(), known(north)},
		{"check form in a link", "anode:" + strings.ToUpper(a.CheckForm()), known(north)},
		{"another address with its check", stranger.CheckForm(), Target{Address: stranger}},
		{"self", "self", Target{Self: true}},
		{"self in capitals", " SELF\n", Target{Self: true}},
		{"another address", stranger.String(), Target{Address: stranger}},
		{"another ULA", stranger.ULA().String(), Target{ULA: stranger.ULA()}},
		{"another ID", stranger.ID().String(), Target{ID: stranger.ID()}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Find(peers, test.text)
			if err != nil || got != test.want {
				t.Errorf("%q: %+v, %v; want %+v", test.text, got, err, test.want)
			}
		})
	}
	for _, text := range []string{"", " ", "east", "norths", "2001:db8::1", "::", "0000000000000000", "a.name.as.long.as.an.address.can.be.example.org"} {
		if got, err := Find(peers, text); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	wrong := a.CheckForm()[:65] + "aaaa"
	for text, want := range map[string]string{
		"anode:":                                 "0 characters",
		"anode:north":                            "5 characters",
		a.String() + "a":                         "65 characters",
		a.String()[:63]:                          "63 characters", // of a stranger, whose beginning anybody can search for
		a.String()[:63] + "1":                    "a character is wrong",
		a.String()[:30] + "zz" + a.String()[32:]: "",
		wrong:                                    "a character is wrong",
		"anode:" + wrong:                         "a character is wrong",
	} {
		got, err := Find(nil, text)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "; try: ") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestAmbiguous(t *testing.T) {
	north, south, nameless := three(t)
	nameless.Decided = true
	peers := []Peer{north, south, nameless, {south.Address, "north-east", true}}
	_, err := Find(peers, "a")
	var ambiguous *AmbiguousError
	if !errors.As(err, &ambiguous) || len(ambiguous.Candidates) != 4 {
		t.Fatalf("all addresses begin with a: %v", err)
	}
	for _, p := range peers {
		if !strings.Contains(err.Error(), p.Address.ID().String()) || !strings.Contains(err.Error(), p.Name) {
			t.Errorf("%q does not name %s", err, p.Name)
		}
	}
	if got, err := Find(peers, "north"); err != nil || got != known(north) {
		t.Errorf("a whole name goes before a beginning: %+v, %v", got, err)
	}
}

// A stranger whose forms begin as a peer's do does not come between.
func TestStrangersComeLast(t *testing.T) {
	north, south, heard := three(t)
	south.Decided = false
	peers := []Peer{heard, south, north}
	for text, want := range map[string]Peer{
		"ae":                             north,
		"aeaaaaaaaaaa":                   north,
		"fd00:0":                         north,
		heard.Address.String():           heard,
		heard.Address.String()[:40]:      heard,
		heard.Address.ID().String():      heard,
		heard.Address.ULA().String():     heard,
		south.Address.ID().String()[:10]: south,
	} {
		if got, err := Find(peers, text); err != nil || got != known(want) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	peers[1].Decided = true
	var ambiguous *AmbiguousError
	if _, err := Find(peers, "ae"); !errors.As(err, &ambiguous) || len(ambiguous.Candidates) != 2 {
		t.Errorf("two begin so who were decided on: %v", err)
	}
}

// The word self is this machine, whatever a peer's name begins with, or an old book says.
func TestSelf(t *testing.T) {
	north, south, _ := three(t)
	north.Name, south.Name = "self", "selfie"
	for _, text := range []string{"self", "Self", "self.anode.internal"} {
		if got, err := FindHost([]Peer{north, south}, Suffix, text); err != nil || got != (Target{Self: true}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if got, err := Find([]Peer{south}, "sel"); err != nil || got != known(south) {
		t.Errorf("a beginning: %+v, %v", got, err)
	}
}

func TestWhole(t *testing.T) {
	north, _, _ := three(t)
	a := north.Address
	for _, text := range []string{a.String(), strings.ToUpper(a.String()), " " + a.TXT() + "?name=x\n"} {
		if got, err := Whole(text); err != nil || got != a {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "north", a.String()[:63], a.String() + "a", a.ULA().String(), a.ID().String(), "anode:", strings.Repeat("a", 64)} {
		if got, err := Whole(text); !errors.Is(err, anode.ErrAddress) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestDomain(t *testing.T) {
	for text, want := range map[string]bool{
		"north.example.org": true, "a.b": true, "north": false, "10.0.0.1": false, "fd00::1.2.3.4": false,
		"a.b/c": false, "": false, "a@b.c": false, strings.Repeat("a.", 200): false,
	} {
		if Domain(text) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"status", "stop", "listen.port", "zone"}
	for text, want := range map[string]string{
		"sttaus": "status", "staus": "status", "status": "status", "listen.prot": "listen.port", "one": "zone", "zonne": "zone",
		"daemon": "", "": "", "s": "",
	} {
		if got := Nearest(text, words); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzFind(f *testing.F) {
	north, south, nameless := three(f)
	peers := []Peer{north, south, nameless}
	for _, text := range []string{"north", "n", textSouth, north.Address.TXT(), north.Address.ULA().String(), nameless.Address.ID().String(), "fd00::", "anode:?"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Find(peers, text)
		var ambiguous *AmbiguousError
		switch {
		case errors.As(err, &ambiguous):
			if len(ambiguous.Candidates) < 2 {
				t.Errorf("%q: only %v", text, ambiguous.Candidates)
			}
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrMalformed):
			if slices.ContainsFunc(peers, func(p Peer) bool { return p.Name == text && text != "" }) {
				t.Errorf("%q is a name", text)
			}
		case err != nil:
			t.Errorf("%q: %v", text, err)
		case got.Known && (!slices.Contains(peers, got.Peer) || got.Address != got.Peer.Address):
			t.Errorf("%q: %+v is none of the peers", text, got)
		case !got.Known:
			forms := 0
			for _, set := range []bool{!got.Address.IsZero(), !got.ULA.IsZero(), !got.ID.IsZero()} {
				if set {
					forms++
				}
			}
			if forms != 1 {
				t.Errorf("%q: %+v", text, got)
			}
		}
	})
}

const (
	textNorth    = "aeaaaaaaaaaafwhtif5ri2pznieyom2id43cigluwskv3n4g7t2pqrrifq5i5wrd"
	textSouth    = "aeaaaaaaaaaafchw35vumgzqyvdklahzglhv3uuovuqa5ebrqcn54m5eoyocvlv6"
	textNameless = "aeaaaaaaaaaagmaoywfdlju37jykts4obsw27jgouplv4em2g77qcwh2qiomwqcl"
)
