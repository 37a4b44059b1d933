package main

import (
	"fmt"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay"
)

// eventType names an event of up. Scripts read these words.
type eventType string

const (
	eventRunning     eventType = "running"     // the node has started
	eventStopped     eventType = "stopped"     // and has ended
	eventFound       eventType = "found"       // a stranger was heard
	eventForgotten   eventType = "forgotten"   // a stranger was not heard for some time
	eventAdded       eventType = "added"       // by somebody here, as the next four
	eventRemoved     eventType = "removed"     //
	eventRenamed     eventType = "renamed"     //
	eventBlocked     eventType = "blocked"     //
	eventUnblocked   eventType = "unblocked"   //
	eventConnected   eventType = "connected"   // a session and a path
	eventPath        eventType = "path"        // another path
	eventIdle        eventType = "idle"        // the session ended, as nothing is sent
	eventConnecting  eventType = "connecting"  // a session or path was lost, and is looked for
	eventUnreachable eventType = "unreachable" // the last try failed
	eventReason      eventType = "reason"      // why packets do not get through is known, or has changed
	eventAdmitted    eventType = "admitted"    // the peer has added this machine
	eventCopies      eventType = "copies"      // another machine has the same address
	eventProblem     eventType = "problem"     // the adapter is not as it must be
	eventMended      eventType = "mended"      // and is again
	eventWarning     eventType = "warning"     // of the log
	eventError       eventType = "error"       // of the log
	eventInfo        eventType = "info"        // of the log, if its level is info or debug
)

// event is something that up reports. Its JSON is for scripts: fields are only ever added.
type event struct {
	Schema  int                 `json:"schema"`
	Time    time.Time           `json:"time"`
	Type    eventType           `json:"type"`
	Peer    *eventPeer          `json:"peer,omitempty"`
	Path    *overlay.PathStatus `json:"path,omitempty"`   // of connected and path
	Reason  overlay.Reason      `json:"reason,omitempty"` // of unreachable and reason
	Node    *eventNode          `json:"node,omitempty"`   // of running
	Message string              `json:"message"`          // for people
	Try     string              `json:"try,omitempty"`
}

type eventPeer struct {
	Address anode.Address `json:"address"`
	ID      anode.ID      `json:"id"`
	ULA     anode.ULA     `json:"ula"`
	Name    string        `json:"name"`
}

// eventNode is what running says about this node.
type eventNode struct {
	Address anode.Address      `json:"address"`
	ID      anode.ID           `json:"id"`
	ULA     anode.ULA          `json:"ula"`
	Version string             `json:"version"`
	Tun     *overlay.TunStatus `json:"tun"` // null without an adapter
	Listen  []string           `json:"listen"`
	Open    bool               `json:"open"`
	Secret  bool               `json:"secret"`
	Relay   bool               `json:"relay"`
	Bridged bool               `json:"info2_bridge"`
	Zone    anode.Zone         `json:"zone"`
	Relays  bool               `json:"relays_zone"` // for all addresses of the zone
	Added   int                `json:"peers_added"`
	Warns   []string           `json:"warnings"`
	Local   []proxy.Status     `json:"local"` // proxies, and forwarded and exposed ports
}

// changes returns what happened between two lists of peers. It knows nothing but these, so
// what came and went in between is not seen.
func changes(before []overlay.PeerStatus, s overlay.Status) (list []event) {
	old := make(map[anode.Address]overlay.PeerStatus, len(before))
	for _, p := range before {
		old[p.Address] = p
	}
	names := namesOf(s.Peers)
	for _, p := range s.Peers {
		was, known := old[p.Address]
		delete(old, p.Address)
		list = append(list, decisions(was, p, known)...)
		list = append(list, connections(was, p, names, s.Address)...)
	}
	for _, p := range before {
		if _, gone := old[p.Address]; gone {
			list = append(list, vanished(p))
		}
	}
	return list
}

func peerEvent(kind eventType, p overlay.PeerStatus, format string, args ...any) event {
	return event{Type: kind, Peer: &eventPeer{p.Address, p.ID, p.ULA, p.Name}, Message: label(p) + fmt.Sprintf(format, args...)}
}

// vanished is the event of a peer that is in the list no longer.
func vanished(p overlay.PeerStatus) event {
	switch {
	case p.Blocked:
		return peerEvent(eventUnblocked, p, " is not blocked any more")
	case p.Allowed:
		return peerEvent(eventRemoved, p, " was removed")
	}
	return peerEvent(eventForgotten, p, " is not heard any more")
}

// decisions are the events that follow from what people here did about a peer.
func decisions(was, p overlay.PeerStatus, known bool) (list []event) {
	decided := p.Allowed || p.Blocked
	switch {
	case !known && !decided:
		e := peerEvent(eventFound, p, "")
		e.Message, e.Try = "found "+e.Message, "anode peers ask "+p.Address.String()
		return []event{e}
	case p.Blocked && !was.Blocked:
		return []event{peerEvent(eventBlocked, p, " was blocked")}
	case !p.Blocked && was.Blocked:
		list = append(list, peerEvent(eventUnblocked, p, " is not blocked any more"))
	case p.Allowed && !was.Allowed:
		list = append(list, peerEvent(eventAdded, p, " was added"))
	case !p.Allowed && was.Allowed:
		list = append(list, peerEvent(eventRemoved, was, " was removed"))
	}
	if p.Allowed && was.Allowed && p.Name != was.Name {
		e := peerEvent(eventRenamed, p, " is its name now")
		e.Message = label(was) + " is now named " + p.Name
		if p.Name == "" {
			e.Message = label(was) + " has no name now"
		}
		list = append(list, e)
	}
	return list
}

// connections are the events of the paths and sessions of a peer.
func connections(was, p overlay.PeerStatus, names map[anode.Address]string, self anode.Address) (list []event) {
	switch {
	case p.State == was.State && p.State == overlay.StateUp && route(p.Path, names) != route(was.Path, names):
		list = append(list, withPath(peerEvent(eventPath, p, " has another path now: %s", route(p.Path, names)), p))
	case p.State == was.State:
	case p.State == overlay.StateUp:
		list = append(list, withPath(peerEvent(eventConnected, p, " is connected: %s", route(p.Path, names)), p))
	case p.State == overlay.StateUnreachable:
		e := explained(peerEvent(eventUnreachable, p, " cannot be reached"), p, self)
		return append(list, e)
	case was.State == overlay.StateUp && p.State == overlay.StateIdle:
		list = append(list, peerEvent(eventIdle, p, " is idle: nothing is sent; traffic connects it again"))
	case was.State == overlay.StateUp && p.State == overlay.StateConnecting:
		list = append(list, peerEvent(eventConnecting, p, " was lost; looking for another path"))
	}
	switch {
	case !p.Allowed || p.Reason == was.Reason:
	case p.Reason != overlay.NoReason:
		list = append(list, explained(peerEvent(eventReason, p, " cannot be reached"), p, self))
	case was.Reason == overlay.ReasonNotAddedThere && p.State == overlay.StateUp:
		list = append(list, peerEvent(eventAdmitted, p, " has added this machine"))
	}
	return list
}

func withPath(e event, p overlay.PeerStatus) event {
	e.Path = &p.Path
	return e
}

// explained adds the reason, if it is known.
func explained(e event, p overlay.PeerStatus, self anode.Address) event {
	e.Reason = p.Reason
	if what, try := reasonWords(p, self); what != "" {
		e.Message, e.Try = what, try
	}
	return e
}

// teller reports what changed from one status to the next. Its methods are for one
// goroutine.
type teller struct {
	now     func() time.Time
	print   func(event)
	bridged bool // the bridge between the text networks is on
	doors   []proxy.Status

	began    bool
	adapter  bool // there is one
	copies   bool
	problems []overlay.TunProblem
	last     []overlay.PeerStatus
	peers    map[anode.Address]bool // that people decided about, of last
}

func (t *teller) see(s overlay.Status) {
	if !t.began {
		t.began, t.adapter = true, s.Tun != nil
		t.tell(t.running(s))
		t.last = strangersKnown(s.Peers)
	}
	for _, e := range changes(t.last, s) {
		t.tell(e)
	}
	if s.Copies && !t.copies {
		t.tell(event{Type: eventCopies, Message: copiesWarning(s)})
	}
	t.last, t.copies = s.Peers, s.Copies
	t.peers = make(map[anode.Address]bool, len(s.Peers))
	for _, p := range s.Peers {
		if p.Allowed || p.Blocked {
			t.peers[p.Address] = true
		}
	}
	t.seeAdapter(s)
}

// strangersKnown are the peers at the start as if there were no connections yet: nobody was
// found or added then.
func strangersKnown(peers []overlay.PeerStatus) (list []overlay.PeerStatus) {
	for _, p := range peers {
		if !p.Allowed && !p.Blocked {
			continue // it is found
		}
		if p.State != overlay.StateBlocked {
			p.State, p.Path, p.Reason = overlay.StateIdle, overlay.PathStatus{Kind: overlay.PathNone}, overlay.NoReason
		}
		list = append(list, p)
	}
	return list
}

// seeAdapter reports problems of the adapter as they come and go.
func (t *teller) seeAdapter(s overlay.Status) {
	var now []overlay.TunProblem
	if s.Tun != nil {
		now = s.Tun.Problems
	}
	// The text of a problem that stays may change.
	has := func(list []overlay.TunProblem, p overlay.TunProblem) bool {
		return slices.ContainsFunc(list, func(q overlay.TunProblem) bool { return q.Code == p.Code })
	}
	for _, p := range now {
		if !has(t.problems, p) {
			t.tell(event{Type: eventProblem, Message: "the adapter: " + p.Text, Try: "anode doctor"})
		}
	}
	for _, p := range t.problems {
		if !has(now, p) {
			t.tell(event{Type: eventMended, Message: "the adapter is in order again; it was: " + p.Text})
		}
	}
	t.problems = slices.Clone(now)
}

// running is the first event.
func (t *teller) running(s overlay.Status) event {
	added, _ := split(s.Peers)
	added = slices.DeleteFunc(added, func(p overlay.PeerStatus) bool { return !p.Allowed })
	return event{Type: eventRunning, Message: "running as " + s.ULA.String(), Node: &eventNode{
		Address: s.Address, ID: s.ID, ULA: s.ULA, Version: s.Version, Tun: s.Tun, Listen: s.Listen,
		Open: s.Open, Secret: s.Secret, Relay: s.Relay, Bridged: t.bridged,
		Zone: s.Zone, Relays: slices.Contains(s.Relaying.Zones, s.Zone), Added: len(added),
		Warns: slices.Concat([]string{}, settingWarnings(s.Open, t.bridged), doorWarnings(t.doors)), Local: append([]proxy.Status{}, t.doors...),
	}}
}

// stopped is the last event, if there was a first one.
func (t *teller) stopped() {
	switch {
	case t.began && t.adapter:
		t.tell(event{Type: eventStopped, Message: "Stopped. The adapter, its address and its routes are gone."})
	case t.began:
		t.tell(event{Type: eventStopped, Message: "Stopped."})
	}
}

func (t *teller) tell(e event) {
	e.Schema, e.Time = schema, t.now()
	t.print(e)
}
