package overlay

import (
	"net/netip"
	"time"

	"anodenet/anode"
)

// Status is what a node reports about itself. Its JSON form is stable: fields are only
// ever added while Schema stays the same.
type Status struct {
	Schema     int               `json:"schema"`
	Address    anode.Address     `json:"address"`
	ID         anode.ID          `json:"id"`
	ULA        anode.ULA         `json:"ula"`
	Zone       anode.Zone        `json:"zone"`
	Version    string            `json:"version"`
	Uptime     int64             `json:"uptime_s"`
	Tun        *TunStatus        `json:"tun"` // null without an adapter
	Listen     []string          `json:"listen"`
	Rung       string            `json:"rung"`    // of package link
	PeerID     uint8             `json:"peer_id"` // of this machine, among those with its address
	Copies     bool              `json:"copies"`  // another machine with this address was noticed lately
	Open       bool              `json:"open"`    // everybody is let in, not only the peers that were added
	Secret     bool              `json:"secret"`  // there is a network secret
	Relay      bool              `json:"relay"`   // packets are forwarded for the peers that were added
	Relaying   RelayingStatus    `json:"relaying"`
	Zones      []ZoneStatus      `json:"zones"` // in use
	Reach      ReachStatus       `json:"reach"`
	Network    NetworkStatus     `json:"network"`
	Transports TransportsStatus  `json:"transports"` // beside UDP
	LAN        LANStatus         `json:"lan"`        // the virtual one
	Peers      []PeerStatus      `json:"peers"`
	Counters   map[string]uint64 `json:"counters"`
}

// RelayingStatus is what the node does as a relay for the clients of its zones, who were
// not added. What it does for peers that were added is in the counters alone.
type RelayingStatus struct {
	Zones   []anode.Zone `json:"zones"`   // whose addresses may register
	Clients int          `json:"clients"` // that are registered
	Packets uint64       `json:"packets"` // of clients that were forwarded
	Bytes   uint64       `json:"bytes"`
	Limits  RelayLimits  `json:"limits"`
	// Packets that were dropped, by the limit that was reached.
	DroppedClient uint64 `json:"dropped_client_limit"`
	DroppedTotal  uint64 `json:"dropped_total_limit"`
}

// ZoneStatus is one zone in use.
type ZoneStatus struct {
	Zone     anode.Zone        `json:"zone"`
	Own      bool              `json:"own"`  // the node's address is in it
	Name     string            `json:"name"` // as the zone file has it
	Revision uint64            `json:"revision"`
	Total    int               `json:"relays_total"` // that the zone file names
	Relays   []ZoneRelayStatus `json:"relays"`       // that are in use
}

// ZoneRelayStatus is one relay of a zone in use.
type ZoneRelayStatus struct {
	Index    uint32        `json:"index"` // of its zr entry
	Address  anode.Address `json:"address"`
	Own      bool          `json:"own"` // the node is registered there to be found
	State    RelayState    `json:"state"`
	Endpoint string        `json:"endpoint"` // empty: none has answered
	RTT      float64       `json:"rtt_ms"`   // 0: not measured

	// TroubleReason is why the last connection to it did not come about; empty: one did, none was
	// tried, or there is no reason for it.
	TroubleReason Reason `json:"trouble_reason"`

	// LastHeard is when it last answered that it forwards for us; null: never. A relay that is
	// silent was there until then.
	LastHeard *time.Time `json:"last_heard"`
}

// RelayState says how far things are with a relay.
type RelayState string

// The states of a relay of a zone. One that is silent is tried again, and another one is
// used meanwhile.
const (
	RelayConnecting RelayState = "connecting" // it has not answered yet
	RelayRegistered RelayState = "registered"
	RelaySilent     RelayState = "silent"
)

// TunStatus names the adapter.
type TunStatus struct {
	Name     string       `json:"name"` // that the interface has now
	MTU      int          `json:"mtu"`
	Index    int          `json:"index"`    // of the interface, 0: not known
	Problems []TunProblem `json:"problems"` // that are there now
}

// TunProblem is something about the adapter that is not as it must be, and that was not
// mended. Package platform lists the codes.
type TunProblem struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// PeerStatus is one peer, added or just met.
type PeerStatus struct {
	Address  anode.Address `json:"address"`
	ID       anode.ID      `json:"id"`
	ULA      anode.ULA     `json:"ula"`
	Name     string        `json:"name"`
	Allowed  bool          `json:"allowed"` // added and not blocked
	Blocked  bool          `json:"blocked"`
	State    PeerState     `json:"state"`
	Admits   *bool         `json:"admits"`          // the other side has added us; null: it has not told
	Reason   Reason        `json:"reason"`          // why packets do not get through; empty: nothing is known to be wrong
	ReasonAt string        `json:"reason_endpoint"` // the endpoint that the reason is about; empty: none
	Machines int           `json:"machines"`        // with which there are sessions
	Path     PathStatus    `json:"path"`
	RxBytes  uint64        `json:"rx_bytes"`
	TxBytes  uint64        `json:"tx_bytes"`
	LastSeen *time.Time    `json:"last_seen"` // null: never

	PathReason   Reason  `json:"path_reason"`          // why the path is not a better one; empty: there is none, or nothing is known against it
	PathReasonAt string  `json:"path_reason_endpoint"` // the endpoint that it is about; empty: none
	PathAge      float64 `json:"path_s"`               // how long packets have taken this path; 0: there is none

	Ways     []WayStatus     `json:"ways"`     // all that are known
	Attempts *AttemptsStatus `json:"attempts"` // to open a direct way; null: nothing is known of the peer's machines

	LAN        LANState     `json:"lan"`
	LANGroups  []netip.Addr `json:"lan_groups"`  // that its programs have joined
	Alias      string       `json:"alias"`       // its IPv4 address here; empty: it has none
	AliasMoved bool         `json:"alias_moved"` // it has another alias here than elsewhere, since that one is taken
	NoAdapter  bool         `json:"no_adapter"`  // its machines said so: no IPv4, and no virtual LAN
}

// PathStatus is the way that packets to a peer take now. All its fields are always
// there; on kind none the others are empty, and RTT is 0 until it was measured.
type PathStatus struct {
	Kind     PathKind       `json:"kind"`
	Endpoint string         `json:"endpoint"`
	Via      *anode.Address `json:"via"` // the relay; null: none
	RTT      float64        `json:"rtt_ms"`
	MTU      int            `json:"mtu"` // of the adapter's packets that fit
	// Transport is that of the first stretch: udp, tcp, http or ethernet; empty: there is no path.
	Transport string `json:"transport"`
}

// PeerState says how far things are with a peer.
type PeerState string

// The states of a peer:
//
//	idle -> connecting -> up
//	 ^----------'----------'      connecting falls back to unreachable, which is
//	 blocked                      idle with a failure not long ago
const (
	StateIdle        PeerState = "idle"        // no session; made when there is something to send
	StateConnecting  PeerState = "connecting"  // looking for a path, or shaking hands
	StateUp          PeerState = "up"          // a session and a path
	StateUnreachable PeerState = "unreachable" // the last try failed
	StateBlocked     PeerState = "blocked"
)

// PathKind is the kind of a path.
type PathKind string

// The kinds. LAN is direct with both ends on one link.
const (
	PathNone     PathKind = "none"
	PathLAN      PathKind = "lan"
	PathDirect   PathKind = "direct"
	PathRelay    PathKind = "relay"
	PathTCP      PathKind = "tcp"
	PathHTTP     PathKind = "http"
	PathEthernet PathKind = "ethernet"
)

// PingReply is the answer to one ping.
type PingReply struct {
	Address anode.Address `json:"address"`
	Size    int           `json:"size"`   // bytes of payload that came back
	RTT     time.Duration `json:"rtt_ns"` // round trip
	Path    PathStatus    `json:"path"`   // the way that the answer came
	Hops    int           `json:"hops"`   // relays that it crossed
	Sealed  bool          `json:"sealed"` // always, unless cleartext was allowed
}
