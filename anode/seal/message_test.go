package seal

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"anodenet/anode/wire"
)

func TestBodiesGolden(t *testing.T) {
	noise1 := bytes.Repeat([]byte{0xee}, minHello-19)
	noise2 := bytes.Repeat([]byte{0xdd}, minReply-5)
	cookie := [16]byte(unhex(t, "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"))
	stamp := Stamp(unhex(t, "400000006ac1e20a 075bcd15"))

	hello := unhex(t, "01 c0c1c2c3c4c5c6c7c8c9cacbcccdcecf 1234")
	hello = append(hello, noise1...)
	if got := (Hello{cookie, 0x1234, noise1}).Append(nil); !bytes.Equal(got, hello) {
		t.Errorf("HELLO %x", got)
	}
	if h, err := ParseHello(hello); err != nil || h.Cookie != cookie || h.Index != 0x1234 || !bytes.Equal(h.Noise, noise1) {
		t.Errorf("HELLO %+v, %v", h, err)
	}

	welcome := append(unhex(t, "01 5678 1234"), noise2...)
	if got := (Welcome{0x5678, 0x1234, noise2}).Append(nil); !bytes.Equal(got, welcome) {
		t.Errorf("WELCOME %x", got)
	}
	if w, err := ParseWelcome(welcome); err != nil || w.Index != 0x5678 || w.Your != 0x1234 || !bytes.Equal(w.Noise, noise2) {
		t.Errorf("WELCOME %+v, %v", w, err)
	}

	m := Hello{Index: 0x1234, Noise: noise1}.Challenge(cookie)
	challenge := unhex(t, "1234 eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
	if m.Type != wire.Cookie || !bytes.Equal(m.Body, challenge) {
		t.Errorf("COOKIE %x", m.Body)
	}
	if c, err := ParseChallenge(challenge); err != nil || c.Your != 0x1234 || c.First != [16]byte(noise1) || c.Cookie != cookie {
		t.Errorf("COOKIE %+v, %v", c, err)
	}

	stale := unhex(t, "1234 400000006ac1e20a 075bcd15")
	if got := (Stale{0x1234, stamp}).Append(nil); !bytes.Equal(got, stale) {
		t.Errorf("STALE %x", got)
	}
	if s, err := ParseStale(stale); err != nil || s.Your != 0x1234 || s.Greatest != stamp {
		t.Errorf("STALE %+v, %v", s, err)
	}
}

func TestBodiesRefused(t *testing.T) {
	hello, welcome := make([]byte, maxBody+1), make([]byte, maxBody+1)
	hello[0], welcome[0] = version, version
	for n := range maxBody + 2 {
		_, err := ParseHello(hello[:n])
		if ok := n >= minHello && n <= maxBody; ok != (err == nil) || !ok && !errors.Is(err, ErrBody) {
			t.Errorf("HELLO of %d: %v", n, err)
		}
		_, err = ParseWelcome(welcome[:n])
		if ok := n >= minReply && n <= maxBody; ok != (err == nil) || !ok && !errors.Is(err, ErrBody) {
			t.Errorf("WELCOME of %d: %v", n, err)
		}
		_, err = ParseChallenge(hello[:n])
		if ok := n == 34; ok != (err == nil) || !ok && !errors.Is(err, ErrBody) {
			t.Errorf("COOKIE of %d: %v", n, err)
		}
		_, err = ParseStale(hello[:n])
		if ok := n == 14; ok != (err == nil) || !ok && !errors.Is(err, ErrBody) {
			t.Errorf("STALE of %d: %v", n, err)
		}
	}
	hello[0] = 2
	if _, err := ParseHello(hello[:200]); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
	if _, err := ParseWelcome(hello[:200]); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
}

func TestStamps(t *testing.T) {
	s := stampOf(time.Unix(1, 2))
	if !bytes.Equal(s[:], unhex(t, "400000000000000b 00000002")) {
		t.Errorf("%x", s)
	}
	for _, c := range [][2]string{
		{"400000000000000b 00000002", "400000000000000b 00000003"},
		{"400000000000000b 000000ff", "400000000000000b 00000100"},
		{"40000000000000ff ffffffff", "4000000000000100 00000000"},
	} {
		a, b := Stamp(unhex(t, c[0])), Stamp(unhex(t, c[1]))
		if a.next() != b || later(a, b) != b || later(b, a) != b {
			t.Errorf("after %x comes %x, want %x", a, a.next(), b)
		}
	}
	if (Stamp{0x80}).valid() || !(Stamp{0x7f}).valid() {
		t.Error("reserved labels")
	}
}

func FuzzBodies(f *testing.F) {
	hello := make([]byte, minHello+3)
	hello[0] = version
	f.Add(hello)
	f.Add(hello[:34])
	f.Add(hello[:14])
	f.Add(hello[:minReply])
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHello(b); err == nil {
			if !bytes.Equal(h.Append(nil), b) {
				t.Errorf("HELLO %x", b)
			}
			h.Challenge(h.Cookie)
		}
		if w, err := ParseWelcome(b); err == nil && !bytes.Equal(w.Append(nil), b) {
			t.Errorf("WELCOME %x", b)
		}
		if c, err := ParseChallenge(b); err == nil && !bytes.Equal(c.Append(nil), b) {
			t.Errorf("COOKIE %x", b)
		}
		if s, err := ParseStale(b); err == nil && !bytes.Equal(s.Append(nil), b) {
			t.Errorf("STALE %x", b)
		}
	})
}

// FuzzOpen opens anything: what is not a packet of the session never is one, and the
// session goes on.
func FuzzOpen(f *testing.F) {
	a, _ := pair(f)
	f.Add(sealOne(f, a, nil))
	f.Add(sealOne(f, a, []byte("hello")))
	var sealed [][]byte
	for i := range 4 {
		sealed = append(sealed, sealOne(f, a, make([]byte, 3*i)))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		_, b := pair(t)
		if _, err := b.Open(make([]byte, len(p)), p, 0); err == nil && len(p) > wire.SealedMin+9 {
			t.Errorf("%x opened", p)
		}
		c := bytes.Clone(p)
		for i := range c { // the same as changes to true packets
			j := i % len(sealed)
			if i < len(sealed[j]) && i > 0 && c[i] != 0 {
				forged := bytes.Clone(sealed[j])
				forged[i] ^= c[i]
				if _, err := b.Open(make([]byte, 20), forged, 0); err == nil {
					t.Errorf("%x opened", forged)
				}
			}
		}
	})
}

// FuzzSet takes any bodies in any order.
func FuzzSet(f *testing.F) {
	w, a, b := newWorld(f, 1)
	f.Add([]byte{0, 1, 2, 3})
	a.set.begin(w.now, nil)
	h := a.set.attempt.message(a.set.peerID).Body
	f.Add(append([]byte{0, byte(len(h))}, h...))
	f.Fuzz(func(t *testing.T, script []byte) {
		set := NewSet(b.local, address(a), 0)
		now := time.Duration(1)
		set.Want(now)
		for len(script) >= 2 {
			kind, n := script[0], int(script[1])
			body := script[2:min(2+n, len(script))]
			script = script[2+len(body):]
			switch kind % 6 {
			case 0:
				set.OnHello(now, kind>>4, body)
			case 1:
				set.OnWelcome(now, kind>>4, body)
			case 2:
				set.OnCookie(now, body)
			case 3:
				set.OnStale(now, body)
			case 4:
				set.OnUnknown(now)
			case 5:
				now += time.Duration(n) * time.Second
			}
			_, next := set.Tick(now)
			if next != 0 && next < now {
				if _, next = set.Tick(now); next < now {
					t.Fatal("Tick does not come to rest")
				}
			}
		}
	})
}
