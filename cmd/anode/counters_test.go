package main

import (
	"testing"

	"anodenet/overlay/link"
)

// Each counter of connections is described in words.
func TestMuxCountersHaveWords(t *testing.T) {
	m := link.NewMux(link.MuxConfig{Streams: new(link.System)})
	defer m.Close()
	all := m.Counters()
	if len(all) < 40 {
		t.Errorf("there are %d counters", len(all))
	}
	for name := range all {
		if connectionMeaning("mux_"+name) == "" {
			t.Errorf("mux_%s is not described", name)
		}
	}
}
