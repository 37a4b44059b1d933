package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestFrameLimits(t *testing.T) {
	b, err := AppendFrame([]byte{9}, make([]byte, MaxFrame))
	if err != nil || len(b) != 1+2+MaxFrame || b[1] != 0xff || b[2] != 0xff {
		t.Fatal(len(b), err)
	}
	p, err := NewFrameReader(bytes.NewReader(b[1:])).Next()
	if err != nil || len(p) != MaxFrame {
		t.Fatal(len(p), err)
	}
	if b, err := AppendFrame([]byte{9}, make([]byte, MaxFrame+1)); err != ErrLong || len(b) != 1 {
		t.Fatal(len(b), err)
	}
}

func TestNextFrame(t *testing.T) {
	b := mustHex("0003010203" + "0000" + "000104" + "00000000") // Ethernet's padding, at the end
	var got [][]byte
	for range 3 {
		var p []byte
		var err error
		if p, b, err = NextFrame(b); err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	equalHex(t, bytes.Join(got, []byte{0xff}), mustHex("010203"+"ff"+"ff"+"04"))
	for _, short := range []string{"", "00", "0001", "00020a"} {
		p, rest, err := NextFrame(mustHex(short))
		if err != ErrShort || p != nil || len(rest) != len(short)/2 {
			t.Errorf("%q: %x, %x, %v", short, p, rest, err)
		}
	}
}

func TestFrameReader(t *testing.T) {
	stream := mustHex("0003010203" + "0000" + "000104")
	for name, r := range map[string]io.Reader{
		"at once":      bytes.NewReader(stream),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
		"EOF at once":  iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		f := NewFrameReader(r)
		for i, want := range []string{"010203", "", "04"} {
			p, err := f.Next()
			if err != nil {
				t.Fatalf("%s: frame %d: %v", name, i, err)
			}
			equalHex(t, p, mustHex(want))
		}
		if _, err := f.Next(); err != io.EOF {
			t.Errorf("%s: at the end %v", name, err)
		}
	}
	for n := 1; n < 5; n++ {
		if _, err := NewFrameReader(bytes.NewReader(stream[:n])).Next(); err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	broken := errors.New("broken")
	if _, err := NewFrameReader(io.MultiReader(bytes.NewReader(stream[:4]), iotest.ErrReader(broken))).Next(); err != broken {
		t.Errorf("got %v", err)
	}
}

// The reader and the cutter find the same frames, and written again they are the stream.
func FuzzFrame(f *testing.F) {
	f.Add(mustHex("00030102030000000104"))
	f.Add(mustHex("ffff00"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewFrameReader(iotest.HalfReader(bytes.NewReader(stream)))
		var out []byte
		for b := stream; ; {
			p, rest, err := NextFrame(b)
			q, rerr := r.Next()
			if err != nil {
				want := io.ErrUnexpectedEOF
				if len(b) == 0 {
					want = io.EOF
				}
				if err != ErrShort || rerr != want {
					t.Fatalf("at %x: %v and %v", b, err, rerr)
				}
				equalHex(t, append(out, b...), stream)
				return
			}
			if rerr != nil || !bytes.Equal(p, q) {
				t.Fatalf("%x, but the reader has %x, %v", p, q, rerr)
			}
			if out, err = AppendFrame(out, p); err != nil {
				t.Fatal(err)
			}
			b = rest
		}
	})
}
