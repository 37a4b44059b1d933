package link

import (
	"net/netip"
	"testing"
)

var allRungs = []string{RungGSO, RungBatch, RungPlain}

// checkLocal: the packet was sent to a, over the loopback interface.
func checkLocal(t *testing.T, e Endpoint, a netip.Addr) {
	t.Helper()
	if e.Local != a || e.If != 1 {
		t.Errorf("came to %v by %d, want %v by 1", e.Local, e.If, a)
	}
}
