package wire

import (
	"bytes"
	"testing"

	"anodenet/anode"
)

var (
	shortPacket  = mustHex("0000" + "529b0310f2998916" + "ddc048282db2d338" + "025853832d02a4eb" + "21" + "01" + "68656c6c6f")
	fullPacket   = mustHex("0003" + "aeef3c6dc1d1d154" + "0101020304000003dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180" + "0101020304000003d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63" + "10" + "01" + "68656c6c6f")
	sealedPacket = mustHex("0208" + "beef" + "010203040506" + "ddc048282db2d338" + "025853832d02a4eb" + "21" + "00112233445566778899aabbccddeeff")
)

// The headers of testdata/wire.txt, written from their fields.
func TestHeadersGolden(t *testing.T) {
	file := wireFile(t)
	recipient := anode.ID(mustHex("025853832d02a4eb"))
	other := anode.Address(mustHex("0101020304000003d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"))
	for name, h := range map[string]Header{
		"header, short IDs": {MAC: [8]byte(mustHex("529b0310f2998916")), Sender: Party{ID: testID},
			Recipient: Party{ID: recipient}, SenderPeer: 2, RecipientPeer: 1, Type: Ping},
		"header, full addresses": {MAC: [8]byte(mustHex("aeef3c6dc1d1d154")), Sender: Party{Address: testAddress},
			Recipient: Party{Address: other}, SenderPeer: 1, Type: Ping},
		"header, full sender": {MAC: [8]byte(mustHex("aeef3c6dc1d1d154")), Sender: Party{Address: testAddress},
			Recipient: Party{ID: recipient}, SenderPeer: 1, Type: Ping},
	} {
		b := file[name]
		equalHex(t, h.Append(nil, []byte("hello")), b)
		got, msg, err := Parse(b)
		if err != nil || string(msg) != "hello" {
			t.Errorf("%s: %q, %v", name, msg, err)
		}
		got.Flags = 0 // they follow from the parties
		equal(t, got, h)
	}
	b := file["header, sealed"]
	h := NewSealedHeader(testID, recipient, 2, 1)
	PutSealedNumber(h[:], SealedNumber(0xbeef, 0x010203040506))
	h[0] = 2
	equalHex(t, h[:], b[:SealedHeader])
	equal(t, len(b), SealedMin)
	equal(t, SealedNonce(b), [12]byte(mustHex("00000000beef010203040506")))
	associated, ciphertext := SealedParts(b)
	equalHex(t, associated, b[1:27])
	equalHex(t, ciphertext, b[27:])
}

func TestParse(t *testing.T) {
	h, msg, err := Parse(shortPacket)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, h, Header{
		MAC:        [8]byte(mustHex("529b0310f2998916")),
		Sender:     Party{ID: testID},
		Recipient:  Party{ID: anode.ID(mustHex("025853832d02a4eb"))},
		SenderPeer: 2, RecipientPeer: 1,
		Type: Ping,
	})
	equal(t, string(msg), "hello")

	h, msg, err = Parse(fullPacket)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, h.Flags, FlagFullSender|FlagFullRecipient)
	equal(t, h.Sender, Party{Address: testAddress})
	equal(t, h.Sender.ShortID(), testID)
	equal(t, h.Recipient.ShortID(), anode.ID(mustHex("025853832d02a4eb")))
	equal(t, string(msg), "hello")
}

func TestParseRefuses(t *testing.T) {
	with := func(p []byte, i int, b byte) []byte {
		p = bytes.Clone(p)
		p[i] = b
		return p
	}
	for name, c := range map[string]struct {
		p    []byte
		want error
	}{
		"nothing":                        {nil, ErrShort},
		"one byte too few":               {shortPacket[:MinPacket-1], ErrShort},
		"full sender, one byte too few":  {with(fullPacket, 1, 1)[:59], ErrShort},
		"full sender, cut after it":      {with(fullPacket, 1, 1)[:55], ErrShort},
		"both full, one byte too few":    {fullPacket[:91], ErrShort},
		"full recipient, cut within":     {fullPacket[:60], ErrShort},
		"sealed":                         {sealedPacket, ErrFlags},
		"sealed, full sender":            {with(fullPacket, 1, 9), ErrFlags},
		"sealed, full recipient":         {with(fullPacket, 1, 10), ErrFlags},
		"sealed, authentication error":   {with(shortPacket, 1, 12), ErrFlags},
		"a flag that nobody knows":       {with(shortPacket, 1, 0x10), ErrFlags},
		"the last flag":                  {with(shortPacket, 1, 0x80), ErrFlags},
		"sender of an unknown type":      {with(fullPacket, 10, 2), ErrAddress},
		"sender's unused bytes":          {with(fullPacket, 15, 1), ErrAddress},
		"sender's unused bytes, second":  {with(fullPacket, 16, 1), ErrAddress},
		"sender's point uncompressed":    {with(fullPacket, 17, 4), ErrAddress},
		"recipient of an unknown type":   {with(fullPacket, 50, 0), ErrAddress},
		"recipient's point uncompressed": {with(fullPacket, 57, 0), ErrAddress},
	} {
		h, msg, err := Parse(c.p)
		if err != c.want || h != (Header{}) || msg != nil {
			t.Errorf("%s: got %+v, %x, %v, want %v", name, h, msg, err, c.want)
		}
		if IsSealed(c.p) && name != "sealed" {
			t.Errorf("%s: passes for sealed", name)
		}
		if _, ok := RecipientID(c.p); ok != (name == "sealed") {
			t.Errorf("%s: RecipientID says %v", name, ok)
		}
	}
	if _, msg, err := Parse(shortPacket[:MinPacket]); err != nil || len(msg) != 0 {
		t.Errorf("no message: %x, %v", msg, err)
	}
}

// A point that is not on the curve passes: the key agreement refuses it.
func TestParseLeavesPoint(t *testing.T) {
	p := bytes.Clone(fullPacket)
	clear(p[18:50])
	p[49] = 1
	h, _, err := Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Sender.Address.PublicKey(); err == nil {
		t.Error("X = 1 gave a key")
	}
}

func TestSealedViews(t *testing.T) {
	p := sealedPacket
	equal(t, len(p), SealedMin)
	equal(t, IsSealed(p), true)
	equal(t, IsSealed(p[:SealedMin-1]), false)
	equal(t, IsSealed(nil), false)
	equal(t, SealedIndex(p), 0xbeef)
	equal(t, SealedCounter(p), 0x010203040506)
	equal(t, SealedSender(p), testID)
	s, r := SealedPeers(p)
	equal(t, s, 2)
	equal(t, r, 1)
	id, ok := RecipientID(p)
	equal(t, ok, true)
	equal(t, id, anode.ID(mustHex("025853832d02a4eb")))
	if _, ok := RecipientID(p[:SealedMin-1]); ok {
		t.Error("a sealed packet without its tag passes")
	}
}

func TestBumpHop(t *testing.T) {
	for _, c := range []struct {
		hop, limit, after uint8
		ok                bool
	}{
		{0, 0, 0, false}, {0, 1, 1, true}, {2, 3, 3, true}, {3, 3, 3, false}, {200, 3, 200, false},
		{253, 254, 254, true}, {254, 254, 254, false}, {254, 255, 255, true}, {255, 255, 255, true}, {255, 254, 255, false},
	} {
		p := []byte{c.hop, 0}
		if ok := BumpHop(p, c.limit); ok != c.ok || p[0] != c.after {
			t.Errorf("hop %d, limit %d: got %v, %d", c.hop, c.limit, ok, p[0])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(shortPacket)
	f.Add(fullPacket)
	f.Add(sealedPacket)
	f.Fuzz(func(t *testing.T, p []byte) {
		if IsSealed(p) {
			if _, _, err := Parse(p); err != ErrFlags {
				t.Fatalf("%x is sealed, and parsed: %v", p, err)
			}
			id, ok := RecipientID(p)
			if !ok {
				t.Fatalf("%x: no recipient", p)
			}
			s, r := SealedPeers(p)
			h := NewSealedHeader(SealedSender(p), id, s, r)
			PutSealedNumber(h[:], SealedNumber(SealedIndex(p), SealedCounter(p)))
			equalHex(t, h[1:], p[1:SealedHeader])
			return
		}
		h, msg, err := Parse(p)
		id, ok := RecipientID(p)
		if ok != (err == nil) || (ok && id != h.Recipient.ShortID()) {
			t.Fatalf("%x: Parse says %v, RecipientID %v, %v", p, err, id, ok)
		}
		if err == nil {
			equalHex(t, h.Append(nil, msg), p)
			equal(t, h.Size()+len(msg), len(p))
		}
	})
}

var sink struct {
	h   Header
	msg []byte
	id  anode.ID
	n   uint64
	ok  bool
}

func TestAllocs(t *testing.T) {
	bad := bytes.Clone(fullPacket)
	bad[10] = 9
	hop := bytes.Clone(sealedPacket)
	buf := make([]byte, 0, 2000)
	for name, f := range map[string]func(){
		"Parse short":    func() { sink.h, sink.msg, _ = Parse(shortPacket) },
		"Parse full":     func() { sink.h, sink.msg, _ = Parse(fullPacket) },
		"Parse refusing": func() { sink.h, sink.msg, _ = Parse(bad) },
		"Append":         func() { sink.msg = sink.h.Append(buf, shortPacket) },
		"IsSealed":       func() { sink.ok = IsSealed(sealedPacket) },
		"SealedIndex":    func() { sink.n = uint64(SealedIndex(sealedPacket)) },
		"SealedCounter":  func() { sink.n = SealedCounter(sealedPacket) },
		"SealedSender":   func() { sink.id = SealedSender(sealedPacket) },
		"RecipientID":    func() { sink.id, sink.ok = RecipientID(sealedPacket) },
		"RecipientID, unsealed": func() {
			sink.id, sink.ok = RecipientID(shortPacket)
		},
		"BumpHop": func() { sink.ok = BumpHop(hop, 255) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		sink.h, sink.msg, _ = Parse(shortPacket)
	}
}

func BenchmarkParseFull(b *testing.B) {
	for b.Loop() {
		sink.h, sink.msg, _ = Parse(fullPacket)
	}
}

func BenchmarkRecipientID(b *testing.B) {
	for b.Loop() {
		sink.id, sink.ok = RecipientID(sealedPacket)
	}
}
