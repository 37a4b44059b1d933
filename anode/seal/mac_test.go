package seal

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// vector is one test vector of the draft; bytes are hex.
type vector struct {
	Kind, Name, Input, Output, Key, Status string
	Private, MACInput, CMAC16, MAC8        string
	OwnPublic                              string `json:"own_public"`
	RawX                                   string `json:"raw_x"`
	DerivedLen                             int    `json:"derived_len"`
	Short8                                 string
	Size                                   int
}

// vectors returns those of one kind, and fails when there are none.
func vectors(t testing.TB, kind string) (vs []vector) {
	b, err := os.ReadFile("../testdata/anode-0.8.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []map[string]any }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	str := func(m map[string]any, k string) string { s, _ := m[k].(string); return s }
	num := func(m map[string]any, k string) int { f, _ := m[k].(float64); return int(f) }
	for _, m := range file.Vectors {
		if str(m, "kind") != kind {
			continue
		}
		vs = append(vs, vector{Kind: kind, Name: str(m, "name"), Input: str(m, "input"), Output: str(m, "output"),
			Key: str(m, "key"), Status: str(m, "status"), Private: str(m, "private"), MACInput: str(m, "mac_input"),
			CMAC16: str(m, "cmac16"), MAC8: str(m, "mac8"), OwnPublic: str(m, "own_public"), RawX: str(m, "raw_x"),
			DerivedLen: num(m, "derived_len"), Short8: str(m, "short8"), Size: num(m, "size")})
	}
	if len(vs) == 0 {
		t.Fatalf("no vectors of kind %q", kind)
	}
	return vs
}

// unhex reads hex with spaces for eyes.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCMACVectors(t *testing.T) {
	var scratch Scratch
	for _, v := range vectors(t, "cmac-aes256") {
		m := NewMAC([32]byte(unhex(t, v.Key)))
		sum := m.Sum(unhex(t, v.Input), &scratch)
		if got := hex.EncodeToString(sum[:]); got != v.Output {
			t.Errorf("%s: %s, want %s", v.Name, got, v.Output)
		}
		if v.Short8 != "" {
			var short [8]byte
			for i := range short {
				short[i] = sum[i] ^ sum[i+8]
			}
			if got := hex.EncodeToString(short[:]); got != v.Short8 {
				t.Errorf("%s folded: %s, want %s", v.Name, got, v.Short8)
			}
		}
	}
}

func TestDeriveKeyVectors(t *testing.T) {
	for _, v := range vectors(t, "kdf-xor-fold") {
		if got := hex.EncodeToString(deriveKey(unhex(t, v.Input), v.DerivedLen)); got != v.Output {
			t.Errorf("%s to %d bytes: %s, want %s", v.Input, v.DerivedLen, got, v.Output)
		}
	}
	if got := deriveKey(nil, 4); !bytes.Equal(got, make([]byte, 4)) {
		t.Errorf("of nothing: %x", got)
	}
	if got := deriveKey([]byte{1}, 0); len(got) != 0 {
		t.Errorf("of no length: %x", got)
	}
}

func TestSharedKeyVectors(t *testing.T) {
	for _, v := range vectors(t, "ecdh-derived-key") {
		own, err := anode.Decompress(unhex(t, v.OwnPublic))
		if err != nil {
			t.Fatal(err)
		}
		peer, err := anode.Decompress(unhex(t, v.Input))
		if err != nil {
			t.Fatal(err)
		}
		id, err := anode.ParseIdentity("ANODE-256-40:" + anode.NewAddress(7, own).String() + ":" + v.Private)
		if err != nil {
			t.Fatal(err)
		}
		key, err := SharedKey(id, anode.NewAddress(9, peer))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(key[:]); got != v.RawX {
			t.Errorf("%s: %s, want %s", v.Name, got, v.RawX)
		}
		if got := hex.EncodeToString(deriveKey(unhex(t, v.RawX), v.DerivedLen)); got != v.Output {
			t.Errorf("%s to %d bytes: %s, want %s", v.Name, v.DerivedLen, got, v.Output)
		}
	}
}

func TestPacketVectors(t *testing.T) {
	var scratch Scratch
	for _, v := range vectors(t, "packet") {
		m := NewMAC([32]byte(unhex(t, v.Key)))
		packet := unhex(t, v.Output)
		if sum := m.Sum(unhex(t, v.MACInput), &scratch); hex.EncodeToString(sum[:]) != v.CMAC16 {
			t.Errorf("%s: CMAC %x, want %s", v.Name, sum, v.CMAC16)
		}
		if v.MAC8 == "0000000000000000" {
			if m.Verify(packet, &scratch) {
				t.Errorf("%s: a zero MAC verifies", v.Name)
			}
			continue
		}
		before := bytes.Clone(packet)
		if !m.Verify(packet, &scratch) {
			t.Errorf("%s does not verify", v.Name)
		}
		if !bytes.Equal(packet, before) {
			t.Errorf("%s: Verify changed the packet", v.Name)
		}
		packet[0] = 200 // hop
		if !m.Verify(packet, &scratch) {
			t.Errorf("%s: the hop count is in the MAC", v.Name)
		}
		packet[0] = 0
		copy(packet[2:10], "whatever")
		if m.Sign(packet, &scratch); !bytes.Equal(packet, before) {
			t.Errorf("%s signed: %x, want %x", v.Name, packet, before)
		}
		for i := 1; i < len(packet); i++ {
			packet[i] ^= 1 << (i % 8)
			if m.Verify(packet, &scratch) {
				t.Errorf("%s verifies with byte %d changed", v.Name, i)
			}
			packet[i] = before[i]
		}
		for n := range packet {
			if m.Verify(packet[:n], &scratch) {
				t.Errorf("%s verifies cut to %d bytes", v.Name, n)
			}
		}
	}
}

func TestPacketTraps(t *testing.T) {
	var scratch Scratch
	for _, v := range vectors(t, "packet-mac-trap") {
		m := NewMAC([32]byte(unhex(t, v.Key)))
		packet := unhex(t, v.Input)
		if !m.Verify(packet, &scratch) {
			t.Errorf("%s: the packet itself does not verify", v.Name)
		}
		copy(packet[2:10], unhex(t, v.Output))
		if m.Verify(packet, &scratch) {
			t.Errorf("%s: the wrong reading verifies", v.Name)
		}
	}
}

func TestShortPacketsHaveNoMAC(t *testing.T) {
	var scratch Scratch
	m := NewMAC([32]byte{1})
	for n := range wire.MinPacket {
		p := make([]byte, n)
		if m.Sign(p, &scratch); !bytes.Equal(p, make([]byte, n)) {
			t.Errorf("%d bytes were signed", n)
		}
		if m.Verify(p, &scratch) {
			t.Errorf("%d bytes verify", n)
		}
	}
}

// slowCMAC is RFC 4493's section 2.4 to the letter, as a second opinion.
func slowCMAC(key [32]byte, msg []byte) (t [16]byte) {
	block, _ := aes.NewCipher(key[:])
	var l [16]byte
	block.Encrypt(l[:], l[:])
	shift := func(b [16]byte) (out [16]byte) {
		carry := byte(0)
		for i := 15; i >= 0; i-- {
			out[i] = b[i]<<1 | carry
			carry = b[i] >> 7
		}
		if carry == 1 {
			out[15] ^= 0x87
		}
		return out
	}
	k1 := shift(l)
	k2 := shift(k1)
	n := max((len(msg)+15)/16, 1)
	last := make([]byte, 16)
	tail := msg[(n-1)*16:]
	copy(last, tail)
	k := k1
	if len(tail) < 16 {
		last[len(tail)] = 0x80
		k = k2
	}
	for i := range last {
		last[i] ^= k[i]
	}
	for i := range n {
		b := last
		if i < n-1 {
			b = msg[16*i : 16*i+16]
		}
		for j := range t {
			t[j] ^= b[j]
		}
		block.Encrypt(t[:], t[:])
	}
	return t
}

func TestCMACOfEveryLength(t *testing.T) {
	var scratch Scratch
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		var key [32]byte
		msg := make([]byte, n)
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		for i := range msg {
			msg[i] = byte(r.Uint32())
		}
		if got, want := NewMAC(key).Sum(msg, &scratch), slowCMAC(key, msg); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

func TestMACFromManyGoroutines(t *testing.T) {
	var scratch Scratch
	m := NewMAC([32]byte{7})
	msg := make([]byte, 100)
	want := m.Sum(msg, &scratch)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var scratch Scratch
			for range 200 {
				if m.Sum(msg, &scratch) != want {
					t.Error("the sum changed")
				}
			}
		})
	}
	wg.Wait()
}

func TestMACDoesNotAllocate(t *testing.T) {
	var scratch Scratch
	m := NewMAC([32]byte{7})
	p := make([]byte, 500)
	if n := testing.AllocsPerRun(100, func() {
		m.Sum(p, &scratch)
		m.Sign(p, &scratch)
		if !m.Verify(p, &scratch) {
			t.Fatal("does not verify")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkVerify is what small packets cost, of one MAC in many lanes.
func BenchmarkVerify(b *testing.B) {
	m := NewMAC([32]byte{7})
	p := make([]byte, 60)
	m.Sign(p, new(Scratch))
	b.RunParallel(func(pb *testing.PB) {
		scratch := new(Scratch)
		for pb.Next() {
			if !m.Verify(p, scratch) {
				b.Fatal("does not verify")
			}
		}
	})
}

func BenchmarkMAC(b *testing.B) {
	var scratch Scratch
	m := NewMAC([32]byte{7})
	p := make([]byte, 1400)
	m.Sign(p, &scratch)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		m.Verify(p, &scratch)
	}
}
