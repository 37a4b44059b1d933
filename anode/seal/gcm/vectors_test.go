package gcm

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"strings"
	"testing"
)

// vector is one message under one key, in hex.
type vector struct {
	name, key, nonce, ad, text, sealed string
	invalid                            bool // to be rejected
}

// published are the AES-256 vectors with 12-byte nonces of D. McGrew, J. Viega: The
// Galois/Counter Mode of Operation (GCM), appendix B, and some of NIST's CAVP file
// gcmEncryptExtIV256.rsp.
var published = []vector{
	{"McGrew-Viega 13", "0000000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b", false},
	{"McGrew-Viega 14", "0000000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000", "", "00000000000000000000000000000000",
		"cea7403d4d606b6e074ec5d3baf39d18 d0d1c8a799996bf0265b98b5d48ab919", false},
	{"McGrew-Viega 15", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
			"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
			"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad" +
			"b094dac5d93471bdec1a502270e3cc6c", false},
	{"McGrew-Viega 16", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
			"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
			"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
			"76fc6ece0f4e1768cddf8853bb2d551b", false},
	{"CAVP, no text", "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
		"516c33929df5a3284ff463d7", "", "", "bdc1ac884d332457a1d2664f168c76f0", false},
	{"CAVP, no ad", "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
		"0d18e06c7c725ac9e362e1ce", "", "2db5168e932556f8089a0622981d017d",
		"fa4362189661d163fcd6a56d8bf0405a d636ac1bbedd5cc3ee727dc2ab4a9489", false},
	{"CAVP, both", "92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b",
		"ac93a1a6145299bde902f21a", "1e0889016f67601c8ebea4943bc23ad6",
		"2d71bcfa914e4ac045b2aa60955fad24",
		"8995ae2e6df3dbf96fac7b7137bae67f eca5aa77d51d4a0a14d9c51e1da474ab", false},
}

func TestPublished(t *testing.T) { testVectors(t, published) }

//go:embed testdata/wycheproof.txt
var wycheproof string

func TestWycheproof(t *testing.T) {
	var vectors []vector
	for line := range strings.Lines(wycheproof) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 8 || f[1] != "valid" && f[1] != "invalid" {
			t.Fatalf("testdata: %q", line)
		}
		for i := range f {
			f[i] = strings.TrimPrefix(f[i], "-")
		}
		vectors = append(vectors, vector{"tcId " + f[0], f[2], f[3], f[4], f[5], f[6] + f[7], f[1] == "invalid"})
	}
	if len(vectors) != 66 {
		t.Fatalf("%d vectors, want 66", len(vectors))
	}
	testVectors(t, vectors)
}

func testVectors(t *testing.T, vectors []vector) {
	both(t, func(t *testing.T, make maker) {
		for _, v := range vectors {
			nonce, ad, text, sealed := unhex(t, v.nonce), unhex(t, v.ad), unhex(t, v.text), unhex(t, v.sealed)
			a := make(t, [KeySize]byte(unhex(t, v.key)))
			opened, err := a.Open(nil, nonce, sealed, ad)
			if v.invalid {
				if err != ErrOpen {
					t.Errorf("%s: Open says %v, want ErrOpen", v.name, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(opened, text) {
				t.Errorf("%s: Open: %x, %v; want %x", v.name, opened, err, text)
			}
			if got := a.Seal(nil, nonce, text, ad); !bytes.Equal(got, sealed) {
				t.Errorf("%s: Seal: %x; want %x", v.name, got, sealed)
			}
		}
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
