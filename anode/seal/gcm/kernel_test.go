//go:build amd64 && !purego

package gcm

import (
	"encoding/hex"
	"strings"
	"testing"
)

// FIPS 197, appendix A.3: the expansion of a 256-bit key.
func TestExpand(t *testing.T) {
	if !available() {
		t.Log("no VAES and VPCLMULQDQ here: there is no kernel to test")
		return
	}
	want := strings.Join([]string{
		"603deb1015ca71be2b73aef0857d7781", "1f352c073b6108d72d9810a30914dff4",
		"9ba354118e6925afa51a8b5f2067fcde", "a8b09c1a93d194cdbe49846eb75d5b9a",
		"d59aecb85bf3c917fee94248de8ebe96", "b5a9328a2678a647983122292f6c79b3",
		"812c81addadf48ba24360af2fab8b464", "98c5bfc9bebd198e268c3ba709e04214",
		"68007bacb2df331696e939e46c518d80", "c814e20476a9fb8a5025c02d59c58239",
		"de1369676ccc5a71fa2563959674ee15", "5886ca5d2e2f31d77e0af1fa27cf73c3",
		"749c47ab18501ddae2757e4f7401905a", "cafaaae3e4d59b349adf6acebd10190d",
		"fe4890d1e6188d0b046df344706c631e",
	}, "")
	var k kernel
	k.expand((*[KeySize]byte)(unhex(t, want[:64])))
	var got []byte
	for _, r := range k.rounds {
		got = append(got, r[:]...)
	}
	if hex.EncodeToString(got) != want {
		t.Errorf("round keys %x,\nwant %s", got, want)
	}
}
