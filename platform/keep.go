package platform

import (
	"log/slog"
	"net/netip"
)

// Options are what a Keeper needs besides the interface.
type Options struct {
	Log *slog.Logger
	// Renamed is called when somebody has given the interface another name. It may be nil.
	Renamed func(name string)
	// Mended is called when something was put back that another program had changed, such as our
	// address. It must not wait. It may be nil.
	Mended func()
	// IP4 is called whenever IPv4 begins or ceases to work, and at the start, with why it does not;
	// "" means that it does. It must not wait. It may be nil, and is not called without IPv4.
	IP4 func(refused string)
}

// Wanted is what leads to an adapter.
type Wanted struct {
	Zones []netip.Prefix // of the zones in use
	Peers []netip.Addr   // ULAs of the peers that were added

	Aliases []netip.Addr // IPv4 aliases of these peers
	// Games leads to the adapter what programs send to 255.255.255.255 and to IPv4 groups without
	// naming an interface.
	Games bool
}

// Problem is something about the adapter that is not as it must be.
type Problem struct {
	Code string // for programs, one of those below
	Text string // for people
}

// The codes of problems. Where the adapter is kept, those but the last four are mended
// and are a problem only if that fails, or if another program undoes it again and again.
const (
	ProblemDown     = "down"           // the interface is down
	ProblemARP      = "arp"            // it asks for addresses of hardware
	ProblemMTU      = "mtu"            // its MTU is another one
	ProblemQueue    = "queue"          // its queue's length is another one
	ProblemGSO      = "gso"            // the size of its super-packets is another one
	ProblemMode     = "address_mode"   // it makes link-local addresses of its own
	ProblemGroup    = "group"          // it left the group of adapters
	ProblemMaster   = "master"         // it belongs to a VRF, bond or other interface
	ProblemIPv6     = "ipv6_off"       // IPv6 is switched off on it
	ProblemAddress  = "address"        // our address is missing
	ProblemAlias    = "alias"          // our IPv4 alias is missing
	ProblemForeign  = "link_local"     // it has a link-local address
	ProblemRoutes   = "routes"         // routes are missing
	ProblemUnwanted = "unwanted"       // routes are left over
	ProblemRange    = "range"          // another program made a route for all aliases
	ProblemRule     = "rule"           // the policy rule is missing
	ProblemGuard    = "no_guard"       // nf_tables cannot be had, or does not take peers: packets from outside are not filtered
	ProblemDiverted = "diverted"       // another program's route or rule leads peers' packets elsewhere
	ProblemWatch    = "changes_unseen" // changes of the interface cannot be watched
	ProblemIP4      = "ip4_refused"    // IPv4 aliases are not used
)

// State is how the interface is.
type State struct {
	Name     string
	Index    int       // 0: not known
	Problems []Problem // sorted by code
	IP4      string    // why IPv4 aliases are not used; "": they are, or nobody wants them
}
