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
		name           string
		root, noHome   bool
		writes, exists []string
		given          bool
		state, socket  string // of commands
		daemon         string // the socket of a daemon without an adapter
	}{
		{name: "root", root: true, state: system.State, socket: system.Socket, daemon: system.Socket},
		{name: "service user", writes: []string{system.State}, state: system.State, socket: system.Socket, daemon: system.Socket},
		{name: "no home", noHome: true, state: system.State, socket: system.Socket, daemon: system.Socket},
		{name: "user without a node", state: system.State, socket: system.Socket, daemon: ownSocket},
		{name: "user", exists: []string{ownState}, state: ownState, socket: ownSocket, daemon: ownSocket},
		{name: "user beside the system's daemon", exists: []string{ownState, system.Socket}, state: ownState, socket: system.Socket, daemon: ownSocket},
		{name: "both run", exists: []string{ownState, system.Socket, ownSocket}, state: ownState, socket: ownSocket, daemon: ownSocket},
		{name: "given", exists: []string{ownState}, given: true, state: system.State, socket: system.Socket, daemon: system.Socket},
	} {
		a := &app{state: system.State, socket: system.Socket, stateGiven: c.given, socketGiven: c.given}
		l := login{root: c.root, base: "/home/u/.local/state",
			writable: func(p string) bool { return slices.Contains(c.writes, p) },
			exists:   func(p string) bool { return slices.Contains(c.exists, p) }}
		if c.noHome {
			l.base = ""
		}
		a.settle(l)
		if a.state != c.state || a.socket != c.socket {
			t.Errorf("%s: %s, %s", c.name, a.state, a.socket)
		}
		if a.settleDaemon(true); a.state != system.State || a.socket != system.Socket {
			t.Errorf("%s: a daemon with an adapter has %s, %s", c.name, a.state, a.socket)
		}
		a.stateGiven = true // nothing is made
		if a.settleDaemon(false); a.socket != c.daemon {
			t.Errorf("%s: a daemon listens on %s", c.name, a.socket)
		}
	}
}
