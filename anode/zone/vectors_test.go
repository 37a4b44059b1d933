package zone

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"anodenet/anode"
)

// vector is one of anode-0.8.json, with the fields that this package uses.
type vector struct {
	Kind, Name    string
	Input, Output hexBytes
	InputText     string            `json:"input_text"`
	OutputText    string            `json:"output_text"`
	OutputMap     map[string]string `json:"output_map"`
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

func TestVectorDictionary(t *testing.T) {
	eachVector(t, "zone-dictionary", func(t *testing.T, v vector) {
		f, err := Parse(v.Input)
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		for _, key := range f.Keys() {
			value, _ := f.Get(key)
			equal(t, value, v.OutputMap[key])
			b = append(append(append(append(b, key...), 0), value...), 0)
		}
		equal(t, string(b), string(v.Output))
	})
}

func zoneOf(v vector) anode.Zone { return anode.Zone(binary.BigEndian.Uint32(v.Input)) }

func TestVectorURIs(t *testing.T) {
	eachVector(t, "zone-uri-dns", func(t *testing.T, v vector) {
		equal(t, Candidates(zoneOf(v))[0], v.OutputText)
	})
	eachVector(t, "zone-uri-ip", func(t *testing.T, v vector) {
		equal(t, ipURI(zoneOf(v)), v.OutputText)
	})
}

// The standard library reads URIs as the author of the draft did, except an empty user,
// which it keeps.
func TestVectorURIParse(t *testing.T) {
	eachVector(t, "uri-parse", func(t *testing.T, v vector) {
		u, err := url.Parse(v.InputText)
		if err != nil {
			t.Fatal(err)
		}
		if u.User.String() == "" {
			u.User = nil
		}
		password, _ := u.User.Password()
		port := u.Port()
		if port == "" {
			port = "0"
		}
		parts := []string{u.Scheme, u.User.Username(), password, u.Hostname(), port, u.Path + u.Opaque, u.RawQuery, u.Fragment}
		equal(t, fmt.Sprintf("%s -> %s", strings.Join(parts, "|"), u), v.OutputText)
	})
}

func equal[T comparable](t testing.TB, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
