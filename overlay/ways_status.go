package overlay

import (
	"errors"
	"syscall"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// WayStatus is one way to a peer that is known, or an endpoint that it names.
type WayStatus struct {
	Endpoint string         `json:"endpoint"`
	Via      *anode.Address `json:"via"`     // the relay; null: none
	Machine  uint8          `json:"machine"` // peer ID; 0: not known
	Origin   string         `json:"origin"`  // who named it: beacon, heard, roamed, told, predicted, relay, stored, static
	OnLink   bool           `json:"on_link"`
	State    WayState       `json:"state"`
	Reason   Reason         `json:"reason"`  // why it is not used; empty: it is, or another one is as good
	Used     bool           `json:"used"`    // packets leave on it now
	RTT      float64        `json:"rtt_ms"`  // 0: not measured
	Loss     float64        `json:"loss"`    // of checks, 0 to 1
	Size     int            `json:"size"`    // of the longest datagram, bytes; 0: not known
	Proven   bool           `json:"proven"`  // one of that size was answered
	Silent   bool           `json:"silent"`  // several packets to it were not answered
	Since    float64        `json:"since_s"` // how long the state has been this one
	// Transport is udp, tcp, http or ethernet. Trouble is why no connection to the endpoint came
	// about the last time, in words; empty: one did, or none was tried.
	Transport string `json:"transport"`
	Trouble   string `json:"trouble"`
	// TroubleReason is the trouble as a reason; empty: there is none, or no reason for it.
	TroubleReason Reason `json:"trouble_reason"`
}

// WayState says what is known of a way.
type WayState string

// The states of ways.
const (
	WayUntried   WayState = "untried"     // nothing was sent there yet
	WayChecking  WayState = "checking"    // no answer yet
	WayWorks     WayState = "works"       // it answers, and large packets get through
	WayUnproven  WayState = "unproven"    // it answers, and no large packet was tried or answered yet
	WaySmall     WayState = "works_small" // it answers, and large packets get lost
	WayStale     WayState = "stale"       // it worked, and NATs may have forgotten it
	WayFailed    WayState = "failed"      // it did not answer
	WayNotUsable WayState = "not_usable"  // the peer names it, and nothing is sent there: on no link of ours, or ourselves
)

// AttemptsStatus is what is known of the attempts to open a direct way to a peer, by both
// sides at the same moment.
type AttemptsStatus struct {
	Takes    bool               `json:"takes"`     // the peer takes part in them
	Kind     string             `json:"peer_nat"`  // of the NAT in front of the peer: unknown, none, independent, dependent
	Ports    string             `json:"peer_port"` // how that chooses ports: unknown, preserved, sequential, random
	Count    int                `json:"count"`
	Requests int                `json:"requests"` // that they sent
	Last     peer.AttemptResult `json:"last"`     // running, direct, small, failed, nothing, budget; empty: none yet
	LastAge  float64            `json:"last_age_s"`
	Targets  int                `json:"last_targets"`
	Next     float64            `json:"next_in_s"` // before the next one, while data flows; 0: at once
}

// ways lists what is known of the ways to a peer.
func (l *loop) ways(accounts []peer.Account) []WayStatus {
	list := []WayStatus{}
	for _, a := range accounts {
		for _, w := range a.Ways {
			s := WayStatus{Endpoint: w.Endpoint.String(), Transport: w.Endpoint.Kind.String(), Machine: a.PeerID, Origin: w.First.String(), OnLink: w.OnLink,
				State: wayState(&w), Used: w.Used, Silent: w.Unanswered(), RTT: float64(w.RTT.Microseconds()) / 1000, Loss: w.Loss.Rate(),
				Size: w.Size, Proven: w.Proven, Since: seconds(l.now.Sub(w.Since))}
			s.Trouble, s.TroubleReason = l.trouble(w.Endpoint)
			if !w.Direct() {
				via := w.Via
				s.Via = &via
			}
			list = append(list, s)
		}
		for _, ep := range a.Useless {
			list = append(list, WayStatus{Endpoint: ep.String(), Transport: ep.Kind.String(), Machine: a.PeerID, Origin: path.Told.String(), State: WayNotUsable})
		}
	}
	return list
}

// trouble is why no connection to an endpoint came about the last time.
func (l *loop) trouble(ep link.Endpoint) (text string, r Reason) {
	if l.n.mux == nil || !ep.Kind.Connected() || ep.Conn != 0 {
		return "", NoReason
	}
	err := l.n.mux.Trouble(ep)
	if err == nil {
		return "", NoReason
	}
	t, ok := errors.AsType[*link.Trouble](err)
	switch {
	case ok && t.Kind == link.CaptivePortal:
		r = ReasonCaptivePortal
	case ok && t.Kind == link.ProxyAuth:
		r = ReasonProxyAuth
	case ok && t.Kind == link.ProxyRefused:
		r = ReasonProxyRefused
	case errors.Is(err, syscall.ECONNREFUSED):
		r = ReasonTCPRefused
	}
	return err.Error(), r
}

func wayState(w *peer.WayAccount) WayState {
	switch {
	case w.State == path.Failed:
		return WayFailed
	case w.State == path.Candidate && w.Checking():
		return WayChecking
	case w.State == path.Candidate:
		return WayUntried
	}
	switch w.Fitness {
	case path.Stale:
		return WayStale
	case path.Small:
		return WaySmall
	case path.Unproven:
		return WayUnproven
	}
	return WayWorks
}

// attempts sums up the attempts with a peer: those of the machine with which there was one
// last.
func (l *loop) attempts(accounts []peer.Account) *AttemptsStatus {
	var last *peer.Account
	for k := range accounts {
		if last == nil || accounts[k].Last.At >= last.Last.At {
			last = &accounts[k]
		}
	}
	if last == nil {
		return nil
	}
	s := &AttemptsStatus{Takes: last.Takes, Kind: last.Kind.String(), Ports: last.Ports.String(), Count: last.Attempts,
		Requests: last.Requests, Last: last.Last.Result, Targets: last.Last.Targets}
	if last.Last.At.Happened() {
		s.LastAge = seconds(l.now.Sub(last.Last.At))
	}
	s.Next = seconds(max(mono.Time(last.Next).Sub(l.now), 0))
	return s
}
