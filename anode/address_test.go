package anode

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// initiator is the address of the key in RFC 5903, 8.1, in the zone 01020304.
const initiator = "aeaqeayeaaaahwwqwzjziiq47gyfdyp6zjlypuey37tdp7eqxhxziximg5zfqema"

func mustParse(t testing.TB, s string) Address {
	t.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestParseAddressRefuses(t *testing.T) {
	good := mustParse(t, initiator)
	with := func(i int, b byte) string {
		a := good
		a[i] = b
		return a.String()
	}
	for name, s := range map[string]string{
		"empty":                  "",
		"short":                  initiator[1:],
		"long":                   initiator + "a",
		"foreign character":      initiator[:63] + "1",
		"padding":                initiator[:63] + "=",
		"line end within":        initiator[:63] + "\n",
		"wide K":                 strings.Repeat("K", 8) + initiator[24:],
		"type 0":                 with(0, 0),
		"type 2":                 with(0, 2),
		"unused byte":            with(5, 1),
		"unused byte, second":    with(6, 1),
		"uncompressed":           with(7, 4),
		"sign that is none":      with(7, 1),
		"no point with this X":   with(39, good[39]+2),
		"X beyond the field":     Address{1, 7: 2, 8: 0xff, 9: 0xff, 10: 0xff, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}.String(),
		"nothing but zeros":      Address{}.String(),
		"zeros with type, sign":  Address{1, 7: 0}.String(),
		"check of another":       initiator + "-aaaa",
		"check cut off":          initiator + "-zee",
		"check too long":         initiator + "-zeeza",
		"check without hyphen":   initiator + "zeez",
		"hyphen alone":           initiator + "-",
		"check in another place": "zeez-" + initiator,
	} {
		if a, err := ParseAddress(s); !errors.Is(err, ErrAddress) || !a.IsZero() {
			t.Errorf("%s: got %v, %v", name, a, err)
		}
	}
}

// checkOf is the check of initiator: the first 20 bits of
// c9099cf628d9379467f3697790a20339,
// five at a time, computed by another program.
const checkOf = "zeez"

func TestCheckForm(t *testing.T) {
	a := mustParse(t, initiator)
	equal(t, a.CheckForm(), initiator+"-"+checkOf)
	for _, s := range []string{a.CheckForm(), strings.ToUpper(a.CheckForm())} {
		equal(t, mustParse(t, s), a)
	}
	if got, ok, err := ParseTXT("anode:" + a.CheckForm() + "?name=x"); got != a || !ok || err != nil {
		t.Errorf("in a link: %v, %v, %v", got, ok, err)
	}
	var read Address
	if err := read.UnmarshalText([]byte(a.CheckForm())); err != nil || read != a {
		t.Errorf("in a file: %v, %v", read, err)
	}
	if text, _ := a.MarshalText(); string(text) != initiator {
		t.Errorf("written as %s", text)
	}
}

// No single wrong character, and no two that changed places, get past the check: about
// one in a million would, of these none. Without a check about half of them do.
func TestCheckCatchesTypos(t *testing.T) {
	key, err := mustParse(t, initiator).PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	tried, plain := 0, 0
	for zone := range Zone(8) {
		good := NewAddress(zone, key).CheckForm()
		for _, typo := range typos(good) {
			tried++
			if got, err := ParseAddress(typo); err == nil {
				t.Errorf("%s is taken for %v", typo, got)
			} else if !errors.Is(err, ErrTypo) && typo[64] == '-' {
				t.Errorf("%s: %v", typo, err)
			}
			if _, err := ParseAddress(typo[:64]); err == nil && typo[:64] != good[:64] {
				plain++
			}
		}
	}
	if tried < 8*68*31 || plain < tried/5 {
		t.Errorf("%d typos, of which %d are addresses without the check: the test is not what it says", tried, plain)
	}
}

// typos lists the texts that differ from s in one character of its alphabet, or in two
// neighbours that changed places.
func typos(s string) (list []string) {
	for i := range len(s) {
		for _, c := range "abcdefghijklmnopqrstuvwxyz234567-" {
			if byte(c) != s[i] {
				list = append(list, s[:i]+string(c)+s[i+1:])
			}
		}
		if i > 0 && s[i] != s[i-1] {
			list = append(list, s[:i-1]+s[i:i+1]+s[i-1:i]+s[i+1:])
		}
	}
	return list
}

func TestAddressParts(t *testing.T) {
	a := mustParse(t, initiator)
	equal(t, a.Zone(), Zone(0x01020304))
	key, err := a.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, NewAddress(a.Zone(), key), a)
	other := NewAddress(7, key)
	equal(t, other.X(), a.X())
	equal(t, other.Zone(), Zone(7))
	if other.ID() == a.ID() {
		t.Error("one short ID in two zones")
	}
	negative := a
	negative[7] ^= 1
	equal(t, negative.X(), a.X())
	if _, err := AddressFromBytes(negative[:]); err != nil {
		t.Error("the other sign is a point too:", err)
	}
}

func TestParseTXT(t *testing.T) {
	a := mustParse(t, initiator)
	for s, want := range map[string]struct {
		ok, good bool
	}{
		"anode:" + initiator:                  {true, true},
		"anode: " + initiator + " ":           {true, true},
		"anode:" + initiator + "?name=x":      {true, true},
		"anode:" + initiator + "/ae?b":        {true, true},
		"anode:" + initiator + "?a/b":         {true, true},
		"anode:/" + initiator:                 {true, false},
		strings.ToUpper("anode:" + initiator): {true, true},
		"anode:":                              {true, false},
		"anode:" + initiator[1:]:              {true, false},
		"anode:?" + initiator:                 {true, false},
		"":                                    {},
		"anode":                               {},
		"v=spf1 -all":                         {},
		" anode:" + initiator:                 {},
	} {
		got, ok, err := ParseTXT(s)
		if ok != want.ok || (ok && (err == nil) != want.good) || (!ok && err != nil) {
			t.Errorf("%q: got %v, %v", s, ok, err)
		}
		if want.good {
			equal(t, got, a)
		}
		if err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseZone(t *testing.T) {
	for s, want := range map[string]Zone{"0": 0, "7f000001": 0x7f000001, "A1B2C3D4": 0xa1b2c3d4, "ffffffff": 0xffffffff} {
		z, err := ParseZone(s)
		if err != nil || z != want {
			t.Errorf("%q: got %v, %v", s, z, err)
		}
	}
	for _, s := range []string{"", "g", "0x1", "-1", "+1", "100000000", "00000000f", " 1"} {
		if _, err := ParseZone(s); !errors.Is(err, ErrZone) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func TestParseULARefuses(t *testing.T) {
	for _, s := range []string{"", "10.0.0.1", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "fd00::1%eth0", "fd00::1/64"} {
		if _, err := ParseULA(s); !errors.Is(err, ErrULA) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{"", "ddc048282db2d3", "ddc048282db2d33g", "ddc048282db2d33800", "0xddc048282db2d3"} {
		if _, err := ParseID(s); !errors.Is(err, ErrID) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

// JSON has the text forms, as values and as keys.
func TestMarshalText(t *testing.T) {
	type all struct {
		A map[Address]ID
		U ULA
	}
	a := mustParse(t, initiator)
	want := all{map[Address]ID{a: a.ID()}, a.ULA()}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, string(b), `{"A":{"`+initiator+`":"ddc048282db2d338"},"U":"fd01:203:448:ef07:ddc0:4828:2db2:d338"}`)
	var got all
	if err := json.Unmarshal(b, &got); err != nil || got.A[a] != a.ID() || got.U != want.U {
		t.Errorf("got %v, %v", got, err)
	}
	for _, s := range []string{`{"A":{"x":"ddc048282db2d338"}}`, `{"A":{"` + initiator + `":"x"}}`, `{"U":"::1"}`} {
		if err := json.Unmarshal([]byte(s), &got); err == nil {
			t.Errorf("%s passes", s)
		}
	}
}

// The text forms give the value back, and one value has one form.
func FuzzParseAddress(f *testing.F) {
	f.Add(initiator)
	f.Add(strings.ToUpper(initiator))
	f.Add(Address{1, 7: 2}.String())
	f.Add(initiator + "-" + checkOf)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if !errors.Is(err, ErrAddress) || !a.IsZero() {
				t.Fatal(a, err)
			}
			return
		}
		if len(s) == 64 {
			equal(t, a.String(), strings.ToLower(s))
		} else {
			equal(t, a.CheckForm(), strings.ToLower(s))
		}
		b, err := AddressFromBytes(a[:])
		if err != nil {
			t.Fatal(err)
		}
		equal(t, b, a)
		key, err := a.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, NewAddress(a.Zone(), key), a)
		u := a.ULA()
		equal(t, u.Zone(), a.Zone())
		equal(t, u.Sum(), a.Sum())
		equal(t, u.ID(), a.ID())
	})
}

func FuzzParseULA(f *testing.F) {
	f.Add("fd01:203:448:ef07:ddc0:4828:2db2:d338")
	f.Add("fd00::1%lo")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseULA(s)
		if err != nil {
			if !errors.Is(err, ErrULA) || !u.IsZero() {
				t.Fatal(u, err)
			}
			return
		}
		var back ULA
		if text, _ := u.MarshalText(); back.UnmarshalText(text) != nil || back != u {
			t.Fatalf("%q: %v, then %v", s, u, back)
		}
		if !u.Zone().Prefix().Contains(u.Addr()) {
			t.Fatalf("%v is not in its zone", u)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("ddc048282db2d338")
	f.Add("DDC048282DB2D338")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			if !errors.Is(err, ErrID) || !id.IsZero() {
				t.Fatal(id, err)
			}
			return
		}
		var back ID
		if text, _ := id.MarshalText(); back.UnmarshalText(text) != nil || back != id {
			t.Fatalf("%q: %v, then %v", s, id, back)
		}
		equal(t, id.String(), strings.ToLower(s))
	})
}

func FuzzParseTXT(f *testing.F) {
	f.Add("anode:" + initiator)
	f.Add("anode:" + initiator + "?name=x")
	f.Add("v=spf1")
	f.Fuzz(func(t *testing.T, s string) {
		a, ok, err := ParseTXT(s)
		if !ok || err != nil {
			if !a.IsZero() || (!ok && err != nil) {
				t.Fatal(a, ok, err)
			}
			return
		}
		back, ok, err := ParseTXT(a.TXT())
		if !ok || err != nil || back != a {
			t.Fatalf("%q: %v, then %v, %v, %v", s, a, back, ok, err)
		}
	})
}
