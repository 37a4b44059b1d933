package anode

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vector is one of testdata/anode-0.8.json, with the fields that this package uses.
type vector struct {
	Kind, Name, Status string
	Input, Output      hexBytes
	InputText          string `json:"input_text"`
	OutputText         string `json:"output_text"`
	Steps              []struct {
		Key    hexBytes `json:"aes_key"`
		Digest hexBytes `json:"digest_after"`
	}
	ByteSum  uint32            `json:"byte_sum"`
	IndexHex map[string]string `json:"index_hex"`
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(s []byte) (err error) {
	*b, err = hex.DecodeString(string(s))
	return err
}

func loadVectors(t *testing.T) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/anode-0.8.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return file.Vectors
}

// checks has this package's kinds.
var checks = map[string]func(*testing.T, vector){
	"aes-digest": func(t *testing.T, v vector) {
		if got := Digest(v.Input); !bytes.Equal(got[:], v.Output) {
			t.Errorf("got %x, want %x", got, v.Output)
		}
	},
	"aes-digest-trap": func(t *testing.T, v vector) {
		if got := Digest(v.Input); bytes.Equal(got[:], v.Output) {
			t.Errorf("got %x, which is the trap's", got)
		}
	},
	"aes-digest-trace": checkTrace,
	"address-to-base32": func(t *testing.T, v vector) {
		equal(t, Address(v.Input).String(), v.OutputText)
	},
	"base32-to-address": func(t *testing.T, v vector) {
		for _, s := range []string{v.InputText, strings.ToUpper(v.InputText)} {
			a, err := ParseAddress(s)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, a, Address(v.Output))
		}
	},
	"base32-5to8": func(t *testing.T, v vector) {
		equal(t, encoding.EncodeToString(v.Input), v.OutputText)
	},
	"base32-8to5": func(t *testing.T, v vector) {
		b, err := encoding.DecodeString(strings.ToLower(v.InputText))
		if err != nil || !bytes.Equal(b, v.Output) {
			t.Errorf("got %x, %v, want %x", b, err, v.Output)
		}
	},
	"address-zone": func(t *testing.T, v vector) {
		equal(t, Address(v.Input).Zone().String(), hex.EncodeToString(v.Output))
	},
	"address-short-id": func(t *testing.T, v vector) {
		equal(t, Address(v.Input).ID(), ID(v.Output))
	},
	"address-ula": func(t *testing.T, v vector) {
		a := Address(v.Input)
		u := a.ULA()
		equal(t, u, ULA(v.Output))
		equal(t, u.String(), v.OutputText)
		equal(t, u.Zone(), a.Zone())
		equal(t, u.Sum(), a.Sum())
		equal(t, u.ID(), a.ID())
		if !a.Zone().Prefix().Contains(u.Addr()) {
			t.Errorf("%v is not in %v", u, a.Zone().Prefix())
		}
	},
	"zr-index": func(t *testing.T, v vector) {
		a := Address(v.Input)
		equal(t, a.Sum(), v.ByteSum)
		for count, index := range v.IndexHex {
			n, err := strconv.ParseUint(count, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, strconv.FormatUint(uint64(a.Sum())%n, 16), index)
		}
	},
	"identity-string": func(t *testing.T, v vector) {
		id, err := ParseIdentity(v.OutputText)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, id.Export(), v.OutputText)
		equal(t, id.Address(), Address(v.Input[:AddressSize]))
		if got := id.PrivateKey().Bytes(); !bytes.Equal(got, v.Input[AddressSize:]) {
			t.Error("another private key")
		}
	},
	"dns-txt": func(t *testing.T, v vector) {
		equal(t, Address(v.Input).TXT(), v.OutputText)
		a, ok, err := ParseTXT(v.OutputText)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		equal(t, a, Address(v.Input))
	},
}

// elsewhere has the other kinds, and the package whose tests run them.
var elsewhere = map[string]string{
	"kdf-xor-fold":     "seal",
	"cmac-aes256":      "seal",
	"ecdh-derived-key": "seal",
	"packet-mac-trap":  "seal",
	"packet":           "wire",
	"packet-relayed":   "wire",
	"endpoint":         "wire",
	"tcp-frame":        "wire",
	"http-body":        "wire",
	"zone-dictionary":  "zone",
	"zone-uri-dns":     "zone",
	"zone-uri-ip":      "zone",
	"uri-parse":        "zone",
}

func TestVectors(t *testing.T) {
	run := map[string]int{}
	for _, v := range loadVectors(t) {
		run[v.Kind]++
		check := checks[v.Kind]
		if check == nil {
			if elsewhere[v.Kind] == "" {
				t.Errorf("vectors of kind %q, which nobody runs", v.Kind)
			}
			continue
		}
		t.Run(v.Kind+" "+v.Name, func(t *testing.T) { check(t, v) })
	}
	for kind := range checks {
		if run[kind] == 0 {
			t.Errorf("no vectors of kind %q", kind)
		}
	}
}

// Every kind that is said to be run elsewhere is named by that package's tests.
func TestVectorsElsewhere(t *testing.T) {
	for kind, pkg := range elsewhere {
		files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(b, []byte(strconv.Quote(kind)))
		}
		if !found {
			t.Errorf("no test in %s has the kind %q", pkg, kind)
		}
	}
}

// checkTrace follows the digest step by step, with the keys of the vector.
func checkTrace(t *testing.T, v vector) {
	var state [16]byte
	for i, s := range v.Steps {
		step(&state, (*[32]byte)(s.Key))
		if !bytes.Equal(state[:], s.Digest) {
			t.Fatalf("step %d: got %x, want %x", i, state, s.Digest)
		}
	}
	if got := Digest(v.Input); got != state {
		t.Errorf("Digest is %x, its steps %x", got, state)
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func BenchmarkDigestAddress(b *testing.B) {
	a := Address{1}
	b.ReportAllocs()
	for b.Loop() {
		a.ID()
	}
}
