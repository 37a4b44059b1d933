package info2

import (
	"net/netip"
	"slices"
	"testing"
)

// FuzzParser: never a panic, never more than the bounds; the division into
// pieces changes nothing, before a hello and after it; and a clean message survives the way to the next hop.
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		"INFO2 CONNECT/0.6\n\nSEND 1 a\r\n\r\nLOGOFF 2 10.0.0.1\n\n", "SEND 1 a\x00junk\nSEND 2 b\x00", "BACKCONNECT/10.0.0.1",
		"SEND 5 x\n\n\x1b[31mLOGOFF 1 1.2.3.4", "10.0.0.7", "FRIENDREQUEST\nFRIEND REQUEST", "SEND \xff\xfe\xfd\xfc\xfb\xfa \u202eabc",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(helloLine+s), uint8(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint8) {
		if len(b) > 500 { // TestTooLong has the others
			return
		}
		hello := seed%2 == 0
		whole := parser{hello: hello}
		want, wantErr := whole.feed(t0, b, nil)
		rest, restErr := whole.end(nil)
		step := int(seed)
		for name, size := range map[string]func() int{
			"bytes":        func() int { return 1 },
			"equal pieces": func() int { return 1 + int(seed) },
			"all sizes":    func() int { step = (37*step + 11) % 256; return 1 + step>>2 },
		} {
			parts := parser{hello: hello}
			var got []frame
			var err error
			for left := b; len(left) > 0 && err == nil; {
				n := min(size(), len(left))
				got, err = parts.feed(t0, left[:n], got)
				left = left[n:]
			}
			if (err == nil) != (wantErr == nil) || !slices.Equal(got, want) {
				t.Fatalf("in %s: %v %v, at once: %v %v", name, got, err, want, wantErr)
			}
			if end, err := parts.end(nil); wantErr == nil && ((err == nil) != (restErr == nil) || !slices.Equal(end, rest)) {
				t.Fatalf("the end in %s: %v %v, at once: %v %v", name, end, err, rest, restErr)
			}
		}
		if wantErr != nil || restErr != nil {
			return
		}
		rest = append(want, rest...)
		for _, f := range rest {
			checkRoundTrip(t, f)
		}
	})
}

// checkRoundTrip writes a frame as we would forward it, and reads it back.
func checkRoundTrip(t *testing.T, f frame) {
	if f.kind == kindUnknown || f.kind == kindMalformed || f.kind == kindBackconnect && !f.addr.IsValid() {
		return
	}
	if f.kind == kindFriend && f.addr.IsUnspecified() {
		f.addr = netip.IPv4Unspecified()
	}
	f.text = cutText(Clean(f.text), maxText)
	data := f.append(nil)
	if len(data) > maxSend {
		t.Fatalf("%d bytes to send", len(data))
	}
	if again := silent(t, string(data)); !slices.Equal(again, []frame{f}) {
		t.Fatalf("%q: sent %v, read %v", data, f, again)
	}
}

// FuzzText: what is shown and forwarded is one clean line, and stays the same.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a\n\nLOGOFF 123456 10.0.0.1\n\n", "\x1b]0;title\x07", "\u202egnp.exe", "😀 \u200fשלום", "\xff\xc0\x80", "\t a\r\nb \x00", "\u0085\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 2*maxText {
			return
		}
		text := cutText(Clean(s), maxText)
		if again := cutText(Clean(text), maxText); again != text {
			t.Fatalf("%q, then %q", text, again)
		}
		for _, r := range text {
			if r < ' ' || 0x7f <= r && r < 0xa0 || isBidi(r) || r == 0x2028 || r == 0x2029 {
				t.Fatalf("%q holds %U", text, r)
			}
		}
		if text == "" || len(text) > maxText {
			return
		}
		checkRoundTrip(t, frame{kind: kindSend, mid: midOf(123456), text: text})
	})
}
