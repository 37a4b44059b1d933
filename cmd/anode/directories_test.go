package main

import (
	"slices"
	"testing"

	"anodenet/platform"
)

// TestSettle: who has files of their own, and which socket commands take.
func TestSettle(t *testing.T) {
	system := platform.DefaultDirectories()
	const ownState, ownSocket = "/home/u/.local/state/anode", "/home/u/.local/state/anode/socket"
	for _, c := range []struct {
		name              string
		root, noHome      bool
		writes, exists    []string
		state, socket     bool // given
		wantState, wantAt string
		daemon            string // the socket of a daemon
	}{
		{name: "root", root: true, wantState: system.State, wantAt: system.Socket, daemon: system.Socket},
		{name: "service user", writes: []string{system.State}, wantState: system.State, wantAt: system.Socket, daemon: system.Socket},
		{name: "no home", noHome: true, wantState: system.State, wantAt: system.Socket, daemon: system.Socket},
		{name: "user", wantState: ownState, wantAt: ownSocket, daemon: ownSocket},
		{name: "user beside the system's daemon", exists: []string{system.Socket}, wantState: ownState, wantAt: system.Socket, daemon: ownSocket},
		{name: "both run", exists: []string{system.Socket, ownSocket}, wantState: ownState, wantAt: ownSocket, daemon: ownSocket},
		{name: "given", state: true, socket: true, wantState: system.State, wantAt: system.Socket, daemon: system.Socket},
	} {
		a := &app{state: system.State, socket: system.Socket, stateGiven: c.state, socketGiven: c.socket}
		l := login{root: c.root, base: "/home/u/.local/state",
			writable: func(p string) bool { return slices.Contains(c.writes, p) },
			exists:   func(p string) bool { return slices.Contains(c.exists, p) }}
		if c.noHome {
			l.base = ""
		}
		a.settle(l)
		if a.state != c.wantState || a.socket != c.wantAt {
			t.Errorf("%s: %s, %s", c.name, a.state, a.socket)
		}
		a.stateGiven = true // nothing is made
		a.settleDaemon()
		if a.socket != c.daemon {
			t.Errorf("%s: a daemon listens on %s", c.name, a.socket)
		}
	}
}
