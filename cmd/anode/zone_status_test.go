package main

import (
	"testing"
	"time"

	"anodenet/overlay"
)

// The line about the zone's relay says when it was last heard, whatever its state.
func TestZoneRelayFact(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := now.Add(-3 * time.Minute)
	a := &app{now: func() time.Time { return now }}
	const ep = "udp:192.0.2.1:8737"
	for _, x := range []struct {
		r    overlay.ZoneRelayStatus
		want string
	}{
		{overlay.ZoneRelayStatus{State: overlay.RelayRegistered, Endpoint: ep, RTT: 16, LastHeard: &at}, ep + ", 16.0 ms, last heard 3 min ago"},
		{overlay.ZoneRelayStatus{State: overlay.RelayRegistered, Endpoint: ep, LastHeard: &at}, ep + ", last heard 3 min ago"},
		{overlay.ZoneRelayStatus{State: overlay.RelaySilent, Endpoint: ep, RTT: 16, LastHeard: &at}, ep + ": does not answer, last heard 3 min ago"},
		{overlay.ZoneRelayStatus{State: overlay.RelaySilent, Address: northAddress}, northAddress.ID().String() + ": has not answered yet"},
		{overlay.ZoneRelayStatus{State: overlay.RelayConnecting, Endpoint: ep}, ep + ": asked, no answer yet"},
	} {
		if got := a.zoneRelayFact(x.r); got != x.want {
			t.Errorf("%s: got %q, want %q", x.r.State, got, x.want)
		}
	}
}
