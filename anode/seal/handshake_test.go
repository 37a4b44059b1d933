package seal

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// counting reads as the bytes 1, 2, 3, ...
type counting struct{ n byte }

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		b[i] = c.n
	}
	return len(b), nil
}

// fixed makes one handshake in which nothing is random.
func fixed(t testing.TB) (a, b *Set, hello, welcome *Message, x, y *Session) {
	t.Helper()
	clock := func() time.Time { return time.Unix(1700000000, 123456789) }
	psk := [32]byte(bytes.Repeat([]byte{0x77}, 32))
	la := &Local{Identity: identity(t, 1), PSK: psk, PeerID: 3, Rand: &counting{0}, Clock: clock, Lanes: 2, Adapter: true, Instance: wire.Instance{0xa, 1, 2, 3, 4, 5, 6, 7}}
	lb := &Local{Identity: identity(t, 2), PSK: psk, PeerID: 5, Rand: &counting{100}, Clock: clock}
	a, b = NewSet(la, lb.Identity.Address(), 0), NewSet(lb, la.Identity.Address(), 0)
	b.SetStanding(false, true)
	if err := a.Want(1); err != nil {
		t.Fatal(err)
	}
	do, _ := a.Tick(1)
	hello = do.Hello
	welcome, y, err := b.OnHello(2, 3, hello.Body)
	if err != nil {
		t.Fatal(err)
	}
	if x, err = a.OnWelcome(3, 5, welcome.Body); err != nil {
		t.Fatal(err)
	}
	return a, b, hello, welcome, x, y
}

// wireFile is a line of testdata/wire.txt.
func wireFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/wire.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut("\n"+string(b), "\n"+name+": ")
	value, _, ok := strings.Cut(value, "\n")
	if !ok {
		t.Fatalf("testdata/wire.txt has no %s", name)
	}
	return unhex(t, value)
}

// The handshake byte for byte. The figures were also worked out with an
// implementation of Noise that shares no code with this one.
func TestHandshakeGolden(t *testing.T) {
	_, _, hello, welcome, x, y := fixed(t)
	parsed, err := ParseHello(hello.Body)
	if err != nil {
		t.Fatal(err)
	}
	challenge := parsed.Challenge([16]byte(unhex(t, "101112131415161718191a1b1c1d1e1f")))
	for name, got := range map[string][]byte{
		"HELLO":                      hello.Body,
		"WELCOME":                    welcome.Body,
		"COOKIE":                     challenge.Body,
		"STALE":                      Stale{parsed.Index, stampOf(time.Unix(1700000000, 123456789))}.Append(nil),
		"sealed, from the initiator": sealOne(t, x, []byte("\x09ping")),
		"sealed, from the responder": sealOne(t, y, []byte("\x09pong")),
	} {
		if want := wireFile(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is %x, want %x", name, got, want)
		}
	}
	if hello.Type != wire.Hello || hello.PeerID != 0 || welcome.Type != wire.Welcome || welcome.PeerID != 3 {
		t.Error("types or peer IDs")
	}
}

// Every bit of HELLO counts, except the cookie, which is not the handshake's.
func TestForgedHello(t *testing.T) {
	_, _, hello, _, _, _ := fixed(t)
	for i := range hello.Body {
		_, b, _, _, _, _ := fixed(t)
		b.Close()
		b.Tick(5)
		forged := bytes.Clone(hello.Body)
		forged[i] ^= 0x10
		reply, x, err := b.OnHello(6, 3, forged)
		switch {
		case i == 0:
			if !errors.Is(err, ErrVersion) {
				t.Errorf("version: %v", err)
			}
		case i < 19: // cookie and index: the packet's MAC covers them
			if err != nil {
				t.Errorf("byte %d: %v", i, err)
			}
		case !errors.Is(err, ErrAuth) || reply != nil || x != nil:
			t.Errorf("byte %d: %v, %v", i, x, err)
		}
	}
}

// A forged WELCOME does not spoil the handshake for the true one.
func TestForgedWelcome(t *testing.T) {
	w, a, b := newWorld(t, 1)
	if err := a.set.Want(w.now); err != nil {
		t.Fatal(err)
	}
	do, _ := a.set.Tick(w.now)
	welcome, y, err := b.set.OnHello(w.now, 3, do.Hello.Body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range welcome.Body {
		forged := bytes.Clone(welcome.Body)
		forged[i] ^= 0x10
		want := ErrAuth
		switch {
		case i == 0:
			want = ErrVersion
		case i < 3: // the responder's index: the packet's MAC covers it
			continue
		case i < 5:
			want = ErrUnexpected
		}
		if x, err := a.set.OnWelcome(w.now, 5, forged); x != nil || !errors.Is(err, want) {
			t.Errorf("byte %d: %v, want %v", i, err, want)
		}
	}
	for n := range welcome.Body {
		if x, err := a.set.OnWelcome(w.now, 5, welcome.Body[:n]); x != nil || err == nil {
			t.Errorf("cut to %d: a session", n)
		}
	}
	x, err := a.set.OnWelcome(w.now, 5, welcome.Body)
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := y.Open(make([]byte, 9), sealOne(t, x, []byte("x")), 0); err != nil || string(msg) != "x" {
		t.Errorf("%q, %v", msg, err)
	}
	if _, err := a.set.OnWelcome(w.now, 5, welcome.Body); err != ErrUnexpected {
		t.Errorf("WELCOME again: %v", err)
	}
}

// A handshake is with one address, zone included, by one address.
func TestHandshakeBindsAddresses(t *testing.T) {
	a, b := identity(t, 1), identity(t, 2)
	moved := anode.NewAddress(99, b.PrivateKey().PublicKey())
	set := NewSet(&Local{Identity: a, PeerID: 1}, moved, 0)
	if err := set.Want(1); err != nil {
		t.Fatal(err)
	}
	do, _ := set.Tick(1)
	if _, _, err := NewSet(&Local{Identity: b, PeerID: 2}, a.Address(), 0).OnHello(1, 1, do.Hello.Body); !errors.Is(err, ErrAuth) {
		t.Errorf("another zone's HELLO: %v", err)
	}
	c := identity(t, 3)
	if _, _, err := NewSet(&Local{Identity: b, PeerID: 2}, c.Address(), 0).OnHello(1, 1, do.Hello.Body); !errors.Is(err, ErrAuth) {
		t.Errorf("another peer's HELLO: %v", err)
	}
}

// Somebody recorded a session and then got static private keys, even both: what a
// state made of them can read ends before the session's keys.
func TestForwardSecrecy(t *testing.T) {
	_, _, hello, welcome, x, y := fixed(t)
	ping, pong := sealOne(t, x, []byte("ping")), sealOne(t, y, []byte("pong"))
	h, _ := ParseHello(hello.Body)
	w, _ := ParseWelcome(welcome.Body)
	psk := [32]byte(bytes.Repeat([]byte{0x77}, 32)) // known too
	la := &Local{Identity: identity(t, 1), PSK: psk}
	lb := &Local{Identity: identity(t, 2), PSK: psk}

	opens := func(name string, keys ...[32]byte) {
		for _, k := range keys {
			aead, err := newAEAD(&k, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range [][]byte{ping, pong} {
				nonce := append(make([]byte, 4), p[2:10]...)
				if _, err := aead.Open(nil, nonce, p[wire.SealedHeader:], p[1:wire.SealedHeader]); err == nil {
					t.Errorf("%s opens a recorded packet", name)
				}
			}
		}
	}

	// The initiator's key, in a fresh initiator: WELCOME answers another ephemeral key.
	i, err := newHandshake(la, identity(t, 2).Address(), true, &la.PSK, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := i.WriteMessage(nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := readMessage(i, w.Noise); !errors.Is(err, ErrAuth) {
		t.Errorf("the initiator's key reads WELCOME: %v", err)
	}
	// The initiator's key does not read HELLO either: that takes the responder's.
	r, err := newHandshake(&Local{Identity: identity(t, 1)}, identity(t, 1).Address(), false, &psk, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := readMessage(r, h.Noise); !errors.Is(err, ErrAuth) {
		t.Errorf("the initiator's key reads HELLO: %v", err)
	}

	// The responder's key reads HELLO (so that no user data is in there), and ends
	// with other keys, since the ephemeral one behind WELCOME is lost.
	r, err = newHandshake(lb, identity(t, 1).Address(), false, &lb.PSK, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := readMessage(r, h.Noise); err != nil {
		t.Errorf("the responder's key does not read HELLO: %v", err)
	}
	_, first, second, err := r.WriteMessage(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	opens("the responder's key", first.UnsafeKey(), second.UnsafeKey())

	// Both keys: all that static keys give is the MAC's.
	static, err := SharedKey(identity(t, 1), identity(t, 2).Address())
	if err != nil {
		t.Fatal(err)
	}
	opens("the static key", static)
}

// Two handshakes of the same two share nothing.
func TestHandshakesDiffer(t *testing.T) {
	w, a, b := newWorld(t, 1)
	keys := map[string]bool{}
	for range 5 {
		a.restart()
		a.say("x")
		w.run(time.Second)
		p := a.set.Current(w.now).Seal(nil, 9, make([]byte, 32))
		keys[string(p[wire.SealedHeader:])] = true
	}
	if len(keys) != 5 {
		t.Error("one key twice")
	}
	_ = b
}

// The key of the MAC is what the static keys agree on: a handshake that is given it is the same, and one that is
// given another key fails.
func TestHandshakeWithMAC(t *testing.T) {
	la, lb := &Local{Identity: identity(t, 1), PeerID: 1}, &Local{Identity: identity(t, 2), PeerID: 2}
	key, err := SharedKey(la.Identity, lb.Identity.Address())
	if err != nil {
		t.Fatal(err)
	}
	wrong := key
	wrong[0] ^= 1
	for _, c := range []struct {
		name string
		a, b *MAC
		err  error
	}{
		{"both", NewMAC(key), NewMAC(key), nil},
		{"the initiator", NewMAC(key), nil, nil},
		{"the responder", nil, NewMAC(key), nil},
		{"another key", nil, NewMAC(wrong), ErrAuth},
	} {
		x, y := NewSet(la, lb.Identity.Address(), 0), NewSet(lb, la.Identity.Address(), 0)
		x.SetMAC(c.a)
		y.SetMAC(c.b)
		if err := x.Want(1); err != nil {
			t.Fatal(err)
		}
		do, _ := x.Tick(1)
		reply, pending, err := y.OnHello(1, 1, do.Hello.Body)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if err != nil {
			continue
		}
		s, err := x.OnWelcome(1, 2, reply.Body)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		n, _ := s.Reserve(0, 1, 1)
		if _, err := pending.Open(make([]byte, 100), s.Seal(nil, n, []byte("x")), 1); err != nil {
			t.Errorf("%s: the keys differ: %v", c.name, err)
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	la := &Local{Identity: identity(b, 1), PeerID: 1}
	lb := &Local{Identity: identity(b, 2), PeerID: 2}
	b.ReportAllocs()
	for b.Loop() {
		x, y := NewSet(la, lb.Identity.Address(), 0), NewSet(lb, la.Identity.Address(), 0)
		if err := x.Want(1); err != nil {
			b.Fatal(err)
		}
		do, _ := x.Tick(1)
		reply, _, err := y.OnHello(1, 1, do.Hello.Body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := x.OnWelcome(1, 2, reply.Body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOnHello is what one HELLO costs its receiver.
func BenchmarkOnHello(b *testing.B) {
	la := &Local{Identity: identity(b, 1), PeerID: 1}
	lb := &Local{Identity: identity(b, 2), PeerID: 2}
	x := NewSet(la, lb.Identity.Address(), 0)
	x.begin(1, nil)
	body := x.attempt.message(x.peerID).Body
	key, err := SharedKey(lb.Identity, la.Identity.Address())
	if err != nil {
		b.Fatal(err)
	}
	mac := NewMAC(key)
	b.ReportAllocs()
	for b.Loop() {
		y := NewSet(lb, la.Identity.Address(), 0)
		y.SetMAC(mac)
		if _, _, err := y.OnHello(1, 1, body); err != nil {
			b.Fatal(err)
		}
	}
}
