package invite_test

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	. "anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// vectors are testdata/links.json.
type vectors struct {
	Address anode.Address
	Vectors []vector
}

type vector struct {
	Name, Payload, Link, Note string
	ID, PSK                   string
	Says                      struct {
		Token     string
		Expires   int64
		Name      string
		Endpoints []wire.Endpoint
		Relays    []string
	}
}

func load(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/links.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Vectors) < 5 {
		t.Fatal("vectors are missing")
	}
	return v
}

// link returns what a vector says.
func (v vector) link(t testing.TB, issuer anode.Address) Link {
	t.Helper()
	l := Link{Address: issuer, Name: v.Says.Name, Endpoints: v.Says.Endpoints}
	if v.Says.Expires != 0 {
		l.Expires = time.Unix(v.Says.Expires, 0)
	}
	if _, err := hex.Decode(l.Token[:], []byte(v.Says.Token)); err != nil {
		t.Fatal(err)
	}
	for _, r := range v.Says.Relays {
		address, endpoint, _ := strings.Cut(r, " ")
		var relay Relay
		if err := errors.Join(relay.Address.UnmarshalText([]byte(address)), relay.Endpoint.UnmarshalText([]byte(endpoint))); err != nil {
			t.Fatal(err)
		}
		l.Relays = append(l.Relays, relay)
	}
	return l
}

func TestVectors(t *testing.T) {
	file := load(t)
	for _, v := range file.Vectors {
		want := v.link(t, file.Address)
		got, err := Parse(v.Link)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", v.Name, got, err, want)
		}
		if v.Note == "" && want.String() != v.Link {
			t.Errorf("%s: wrote %s, want %s", v.Name, want, v.Link)
		}
		if payload := strings.ReplaceAll(v.Payload, " ", ""); hex.EncodeToString(payloadOf(t, v.Link)) != payload {
			t.Errorf("%s: the payload is not that of the link", v.Name)
		}
		if got.Card() {
			continue
		}
		id, psk := got.Token.Keys(got.Address)
		if hex.EncodeToString(id[:]) != v.ID || hex.EncodeToString(psk[:]) != v.PSK {
			t.Errorf("%s: id %x, psk %x", v.Name, id, psk)
		}
	}
}

var base = base32.StdEncoding.WithPadding(base32.NoPadding)

func payloadOf(t testing.TB, link string) []byte {
	t.Helper()
	_, text, _ := strings.Cut(link, "/")
	b, err := base.DecodeString(strings.ToUpper(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// full is a link with a token, a name, an endpoint and a relay.
func full(t testing.TB) Link {
	file := load(t)
	return file.Vectors[2].link(t, file.Address)
}

func TestForms(t *testing.T) {
	l := full(t)
	s := l.String()
	at := len(s) - 40
	for what, text := range map[string]string{
		"as it is":               s,
		"capitals":               l.QR(),
		"blanks around":          " \t" + s + " \r\n",
		"a line break":           s[:at] + "\n" + s[at:],
		"a break in the address": s[:20] + "\r\n" + s[20:],
		"a break in the scheme":  s[:3] + "\n" + s[3:],
		"quoted mail":            "> " + s[:70] + "\n> " + s[70:140] + "\n> " + s[140:],
		"quoted twice":           ">> " + s[:70] + "\n>>" + s[70:],
		"angle brackets":         "<" + s + ">",
		"single quotes":          "'" + s + "'",
		"double quotes":          "\"" + s + "\"",
		"typographic quotes":     "“" + s + "”",
		"a full stop":            s + ".",
		"a comma":                s + ",\n",
		"in parentheses":         "(" + s + ")",
		"words before":           "Join me with anode join '" + s + "'",
		"hidden characters":      "\ufeff" + s[:at] + "\u200b\u00ad" + s[at:] + "\u00a0",
		"escapes":                s[:at] + "\x1b\x00\x7f" + s[at:],
		"pasted, with marks":     "\x1b[200~" + s + "\x1b[201~",
		"colours, arrow keys":    "\x1b[D\x1b[1;31m" + s[:at] + "\x1b[0m\x1b[38:5:1m" + s[at:] + "\x1b[K",
		"a query":                s + "?from=mail",
		"markup":                 "**`" + s + "`**",
		"words behind":           s + " bye, see you",
		"words around":           "Here is my link: " + s + "\nSee you!\nPS: anode: it is a program",
		"words in parentheses":   "Use it (" + s + ") today",
		"a link of a web page":   "[join](" + s + ")",
		"lines of mail":          "Hi,\n\n" + s[:75] + "=\r\n" + s[75:140] + "=\r\n" + s[140:] + "\r\n\r\n-- \r\nme",
		"a mark of mail":         strings.Replace(s, ":", "=3A", 1),
		"an address bar":         "https://example.org/?q=" + strings.Replace(strings.Replace(s, ":", "%3A", 1), "/", "%2F", 1),
		"slashes of a web page":  strings.Replace(s, ":", "://", 1),
		"without the scheme":     s[len("anode:"):],
		"in words without it":    "the link is " + s[len("anode:"):at] + "\n" + s[at:] + " and that is it",
		"behind a damaged one":   s[:at] + "0" + s[at+1:] + "\n" + s,
		"before a damaged one":   s + "\n" + s[:at] + "0" + s[at+1:],
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("%s: got %+v, %v", what, got, err)
		}
	}
}

func TestBareAddress(t *testing.T) {
	a := load(t).Address
	for _, text := range []string{a.TXT(), "anode:" + a.CheckForm(), strings.ToUpper(a.TXT()) + "?x", "<" + a.TXT() + ">."} {
		if l, err := Parse(text); err != nil || l.Address != a || !l.Card() {
			t.Errorf("%q: got %+v, %v", text, l, err)
		}
	}
}

// TestCut cuts a link at any length: only where the address ends is the rest a link.
func TestCut(t *testing.T) {
	s := full(t).String()
	for n := range len(s) {
		_, err := Parse(s[:n])
		switch {
		case n < len("anode:"):
			if !errors.Is(err, ErrNotLink) {
				t.Errorf("%d characters: %v", n, err)
			}
		case n == len("anode:")+64:
			if err != nil {
				t.Errorf("the address alone: %v", err)
			}
		case !errors.Is(err, ErrCut) || errors.Is(err, anode.ErrTypo):
			t.Errorf("%d characters: %v", n, err)
		}
	}
}

// TestTypo changes each character to each other one: all are noticed, and nearly all are called
// what they are, even if the character was a field's length.
func TestTypo(t *testing.T) {
	s := full(t).String()
	called := 0
	for i := len("anode:"); i < len(s); i++ {
		for _, c := range "abcdefghijklmnopqrstuvwxyz234567018-" {
			text := s[:i] + string(c) + s[i+1:]
			if text == s || s[i] == '/' {
				continue
			}
			_, err := Parse(text)
			if !errors.Is(err, ErrCut) {
				t.Errorf("character %d is %c: %v", i, c, err)
			}
			if !errors.Is(err, anode.ErrTypo) {
				called++
			}
		}
		if _, err := Parse(s[:i] + s[i+1:]); err == nil {
			t.Errorf("without character %d: read", i)
		}
		if i > 0 && s[i] != s[i-1] {
			if _, err := Parse(s[:i-1] + s[i:i+1] + s[i-1:i] + s[i+1:]); err == nil {
				t.Errorf("characters %d and %d changed places: read", i-1, i)
			}
		}
	}
	if called > 20 { // the character before the check's type holds bits of both
		t.Errorf("%d typos are called cuts", called)
	}
}

func TestNotLinks(t *testing.T) {
	s := full(t).String()
	for _, text := range []string{"", " ", "hello", "https://example.org/", "https://example.org/" + s[len("anode:"):len(s)-3], strings.Repeat(" ", 5000) + s} {
		if _, err := Parse(text); !errors.Is(err, ErrNotLink) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	slash := strings.Index(s, "/")
	if _, err := Parse(s[:slash-1] + s[slash:]); !errors.Is(err, anode.ErrTypo) {
		t.Errorf("an address of 63 characters: %v", err)
	}
	for _, text := range []string{s + "aaaa", s + strings.Repeat("aaaaaaaa", 60), s + s[75:], strings.Replace(s, "/", "", 1), strings.Replace(s, "/", "//", 1)} {
		if _, err := Parse(text); !errors.Is(err, ErrCut) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// TestLong: a text, or a link of a newer program, that is too long is called so.
func TestLong(t *testing.T) {
	l := full(t)
	for what, text := range map[string]string{
		"text":    l.String() + strings.Repeat(" ", 4096),
		"payload": withCheck(t, l.Address, "20ff"+strings.Repeat("00", 255)),
	} {
		if got, err := Parse(text); !errors.Is(err, ErrLong) || !errors.Is(err, ErrNotLink) || !reflect.DeepEqual(got, Link{}) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	if _, err := Parse(withCheck(t, l.Address, "20be"+strings.Repeat("00", 190))); err != nil { // 2 + 190 + 6 bytes
		t.Error(err)
	}
}

// TestFields reads fields of newer programs, and of others that mean harm: each with a right check.
func TestFields(t *testing.T) {
	l := full(t)
	for what, c := range map[string]struct {
		fields string
		want   Link
	}{
		"a short token":             {"0102abcd", Link{}},
		"a token of zeros":          {"0110" + strings.Repeat("00", 16), Link{}},
		"a time of eight bytes":     {"02080000000000000001", Link{}},
		"no time":                   {"020400000000", Link{}},
		"a name with an escape":     {"03041b5b306d", Link{}},
		"a name like a short ID":    {"0310" + hex.EncodeToString([]byte("81cffba71d231227")), Link{}},
		"a name of 33 characters":   {"0321" + strings.Repeat("61", 33), Link{}},
		"no name, then one":         {"0300" + "0301" + "61", Link{}},
		"an unknown endpoint":       {"0409" + "02c00002012221" + "0900", Link{Endpoints: []wire.Endpoint{udp("192.0.2.1:8737")}}},
		"an unspecified endpoint":   {"0401" + "00", Link{}},
		"five endpoints":            {"0423" + strings.Repeat("02c00002012221", 5), Link{Endpoints: []wire.Endpoint{udp("192.0.2.1:8737"), udp("192.0.2.1:8737"), udp("192.0.2.1:8737"), udp("192.0.2.1:8737")}}},
		"a relay without endpoint":  {"0528" + hex.EncodeToString(l.Relays[0].Address[:]), Link{}},
		"a relay without a key":     {"052f" + strings.Repeat("00", 40) + "02c00002012221", Link{}},
		"an empty field of a field": {"0400" + "0500", Link{}},
	} {
		c.want.Address = l.Address
		got, err := Parse(withCheck(t, l.Address, c.fields))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v", what, got, err)
		}
	}
}

// withCheck returns a link with any fields.
func withCheck(t testing.TB, a anode.Address, fields string) string {
	t.Helper()
	b, err := hex.DecodeString(fields)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(append([]byte("anode link 1"), a[:]...), b...))
	return a.TXT() + "/" + base.EncodeToString(append(append(b, 0x7f, 4), sum[:4]...))
}

func udp(s string) wire.Endpoint { return wire.UDP(netip.MustParseAddrPort(s)) }

// TestRoom writes more than fits.
func TestRoom(t *testing.T) {
	l := full(t)
	l.Name = strings.Repeat("n", MaxName)
	l.Endpoints, l.Relays = nil, nil
	for i := range 9 {
		l.Endpoints = append(l.Endpoints, wire.Endpoint{}, udp(fmt.Sprintf("[2001:db8::%d]:8737", i+1)))
		l.Relays = append(l.Relays, Relay{l.Address, udp(fmt.Sprintf("[2001:db8::%d]:8737", i+20))})
	}
	l.Endpoints = append([]wire.Endpoint{{Kind: wire.HTTP, URI: "http://example.org/" + strings.Repeat("x", 300)}}, l.Endpoints...)
	s := l.String()
	if n := len(payloadOf(t, s)); n > MaxPayload || n < 170 {
		t.Errorf("the payload has %d bytes", n)
	}
	got, err := Parse(s)
	if err != nil || got.Token != l.Token || got.Name != l.Name || len(got.Endpoints) != 3 || len(got.Relays) != 1 || got.Relays[0] != l.Relays[0] || got.Endpoints[0] != l.Endpoints[2] {
		t.Errorf("got %+v, %v", got, err)
	}
	l.Name, l.Expires = "No Name", time.Unix(1<<33, 0)
	if got, err := Parse(l.String()); err != nil || got.Name != "" || !got.Expires.IsZero() || len(got.Endpoints) != 4 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestExpired(t *testing.T) {
	l := full(t)
	if at := l.Expires; l.Expired(at.Add(-1)) || !l.Expired(at) || (Link{}).Expired(at) {
		t.Error("wrong at the moment")
	}
}

func TestTokenHidden(t *testing.T) {
	l := full(t)
	for _, text := range []string{fmt.Sprint(l.Token), fmt.Sprintf("%+v", l), fmt.Sprintf("%#v", l), fmt.Sprintf("%x", l.Token)} {
		if strings.Contains(text, "000102") || strings.Contains(text, "0 1 2") || strings.Contains(text, "0x0, 0x1") {
			t.Error(text)
		}
	}
}

// TestNames compares what a link takes for a name with what the book does.
func TestNames(t *testing.T) {
	a := load(t).Address
	for _, name := range []string{"a", "north", "0-_", "-a", "_a", "A", "é", "a b", "81cffba71d231227", "81cffba71d23122", strings.Repeat("z", 32), strings.Repeat("z", 33), "\x00"} {
		l, err := Parse(Link{Address: a, Name: name}.String())
		if err != nil || (l.Name == name) != (book.CheckName(name) == nil && len(name) <= MaxName) {
			t.Errorf("%q: got %q, %v; the book: %v", name, l.Name, err, book.CheckName(name))
		}
	}
}

// mutations is how many TestMutations makes; a million take 15 s.
var mutations = flag.Int("mutations", 20_000, "how many changed links are read")

// TestMutations changes links at random: what is read has the check right, which happens by
// chance once in 2^32 times.
func TestMutations(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := full(t)
	s := l.String()
	for range *mutations {
		text := mutated(random, s)
		got, err := Parse(text)
		switch {
		case err == nil && reflect.DeepEqual(got, l):
		case err == nil && strings.Contains(text, "/"): // else it is an address, which has no check

			t.Fatalf("%q was read: %+v", text, got)
		case err != nil && !errors.Is(err, ErrCut) && !errors.Is(err, ErrNotLink) && !errors.Is(err, ErrSeveral):
			t.Fatalf("%q: %v", text, err)
		}
	}
}

// mutated changes one to four places of a text.
func mutated(random *rand.Rand, s string) string {
	b := []byte(s)
	for range 1 + random.IntN(4) {
		i := random.IntN(len(b))
		switch random.IntN(6) {
		case 0:
			b[i] = byte(random.IntN(256))
		case 1:
			b[i] = "abcdefghijklmnopqrstuvwxyz234567"[random.IntN(32)]
		case 2:
			b = append(b[:i], b[i+1:]...)
		case 3:
			b = append(b[:i+1], b[i:]...)
		case 4:
			j := random.IntN(len(b))
			b[i], b[j] = b[j], b[i]
		case 5:
			if random.IntN(8) == 0 {
				b = b[:i+1]
			} else {
				b[i] ^= 0x20
			}
		}
		if len(b) == 0 {
			return ""
		}
	}
	return string(b)
}

func FuzzParse(f *testing.F) {
	for _, v := range load(f).Vectors {
		f.Add(v.Link)
		f.Add(strings.ToUpper(v.Link))
		f.Add("\x1b[200~" + v.Link + "\x1b[201~")
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse(text)
		if err != nil {
			if !reflect.DeepEqual(l, Link{}) || !errors.Is(err, ErrCut) && !errors.Is(err, ErrNotLink) && !errors.Is(err, ErrSeveral) {
				t.Fatal(l, err)
			}
			return
		}
		roundTrip(t, l)
	})
}

// FuzzFields does the same behind the check.
func FuzzFields(f *testing.F) {
	issuer := load(f).Address
	for _, v := range load(f).Vectors {
		b := payloadOf(f, v.Link)
		f.Add(b[:len(b)-6])
	}
	f.Fuzz(func(t *testing.T, fields []byte) {
		if l, err := Parse(withCheck(t, issuer, hex.EncodeToString(fields))); err == nil {
			roundTrip(t, l)
		}
	})
}

func roundTrip(t *testing.T, l Link) {
	t.Helper()
	for _, text := range []string{l.String(), l.QR()} {
		if back, err := Parse(text); err != nil || !reflect.DeepEqual(back, l) {
			t.Fatalf("%+v became %+v, %v", l, back, err)
		}
	}
}

// TestTwoLinks refuses texts with links to two machines: what else is in a text must not decide which one is meant.
func TestTwoLinks(t *testing.T) {
	north, other := full(t), full(t)
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	other.Address = id.Address()
	n, o := north.String(), other.String()
	damaged := n[:len(n)-9] + n[len(n)-8:]
	for what, text := range map[string]string{
		"one after the other":                n + "\n" + o,
		"without schemes":                    n[len("anode:"):] + " " + o[len("anode:"):],
		"the first without its scheme":       "x: " + o[len("anode:"):] + "\n" + n,
		"the same, and words behind":         "x: " + o[len("anode:"):] + "\n" + n + " thanks",
		"a right one without before damaged": "x: " + o[len("anode:"):] + "\n" + damaged,
		"words between":                      "first " + o + " and then " + n + " see you",
	} {
		if l, err := Parse(text); !errors.Is(err, ErrSeveral) {
			t.Errorf("%s: %v, %v", what, l.Address.ID(), err)
		}
	}
	for what, text := range map[string]string{"twice": n + "\n" + n, "words around": "for you: " + n + " see you", "twice, without schemes": n[len("anode:"):] + " or " + n[len("anode:"):]} {
		if l, err := Parse(text); err != nil || l.Address != north.Address {
			t.Errorf("%s: %v, %v", what, l.Address.ID(), err)
		}
	}
}
