package overlay

import "encoding/json"

// MarshalJSON writes null for what is not known: a round trip that was not measured yet,
// and the MTU of no path.
func (p PathStatus) MarshalJSON() ([]byte, error) {
	type plain PathStatus
	return json.Marshal(struct {
		plain
		RTT *float64 `json:"rtt_ms"`
		MTU *int     `json:"mtu"`
	}{plain(p), known(p.RTT), known(p.MTU)})
}

// known returns nil for the zero value.
func known[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
