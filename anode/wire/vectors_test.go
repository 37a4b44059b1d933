package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"anodenet/anode"
)

// vector is one of anode-0.8.json, with the fields that this package uses.
type vector struct {
	Kind, Name    string
	Input, Output hexBytes
	InputText     string `json:"input_text"`
	Type          uint8
	MACInput      hexBytes `json:"mac_input"`
	MAC8          hexBytes
	Size          int
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(s []byte) (err error) {
	*b, err = hex.DecodeString(string(s))
	return err
}

func eachVector(t *testing.T, kind string, check func(*testing.T, vector)) {
	t.Helper()
	b, err := os.ReadFile("../testdata/anode-0.8.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, v := range file.Vectors {
		if v.Kind == kind {
			t.Run(v.Name, func(t *testing.T) { check(t, v) })
			n++
		}
	}
	if n == 0 {
		t.Errorf("no vectors of kind %q", kind)
	}
}

func TestVectorPacket(t *testing.T) {
	eachVector(t, "packet", func(t *testing.T, v vector) {
		h, msg, err := Parse(v.Output)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, len(v.Output), v.Size)
		equal(t, h.Type, Type(v.Type))
		equalHex(t, msg, v.Input)
		equalHex(t, h.MAC[:], v.MAC8)
		equalHex(t, h.Append(nil, msg), v.Output)
		equal(t, h.Size(), len(v.Output)-len(msg))

		id, ok := RecipientID(v.Output)
		equal(t, ok, true)
		equal(t, id, h.Recipient.ShortID())

		// Append leaves a packet ready for the MAC: its size in the MAC's place, and
		// the hop byte left out (draft 3.3).
		binary.BigEndian.PutUint64(h.MAC[:], uint64(v.Size))
		equalHex(t, h.Append(nil, msg)[1:], v.MACInput)

		parse := parsers[h.Type]
		if h.Type == Ping || h.Type == Pong {
			parse = func(b []byte) (appender, error) { return rawMsg(b), nil } // any payload will do
		}
		if err := roundTrip(t, parse, msg); err != nil {
			t.Error(err)
		}
	})
}

func TestVectorRelayed(t *testing.T) {
	eachVector(t, "packet-relayed", func(t *testing.T, v vector) {
		p := bytes.Clone(v.Input)
		for range 3 {
			if !BumpHop(p, 3) {
				t.Fatal("refused within the limit")
			}
		}
		equalHex(t, p, v.Output)
		if BumpHop(p, 3) {
			t.Error("let pass beyond the limit")
		}
		equalHex(t, p, v.Output)
	})
}

func TestVectorEndpoint(t *testing.T) {
	eachVector(t, "endpoint", func(t *testing.T, v vector) {
		e, rest, err := ParseEndpoint(append(bytes.Clone(v.Output), 0x99))
		if err != nil {
			t.Fatal(err)
		}
		equalHex(t, rest, []byte{0x99})
		equal(t, e.String(), strings.Replace(v.InputText, " ", ":", 1))
		equalHex(t, e.Append(nil), v.Output)
		again, err := EndpointFromText(v.InputText)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, again, e)
	})
}

func TestVectorFrame(t *testing.T) {
	check := func(t *testing.T, v vector) {
		var packets [][]byte
		for r := NewFrameReader(bytes.NewReader(v.Output)); ; {
			p, err := r.Next()
			if err != nil {
				break
			}
			packets = append(packets, bytes.Clone(p))
		}
		equalHex(t, bytes.Join(packets, nil), v.Input)
		var b []byte
		for _, p := range packets {
			if _, _, err := Parse(p); err != nil {
				t.Error(err)
			}
			var err error
			if b, err = AppendFrame(b, p); err != nil {
				t.Fatal(err)
			}
		}
		equalHex(t, b, v.Output)
	}
	eachVector(t, "tcp-frame", check)
	eachVector(t, "http-body", check)
}

// wireFile reads testdata/wire.txt.
func wireFile(t testing.TB) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/wire.txt")
	if err != nil {
		t.Fatal(err)
	}
	file := map[string][]byte{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if _, twice := file[name]; !ok || twice {
			t.Fatalf("testdata/wire.txt: %q", line)
		}
		file[name] = unhex(t, value)
	}
	return file
}

func equal[T comparable](t testing.TB, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func equalHex(t testing.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// unhex reads hex with blanks in it, as golden messages are written here.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	testAddress = anode.Address(mustHex("0101020304000003dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"))
	testID      = anode.ID(mustHex("ddc048282db2d338"))
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
