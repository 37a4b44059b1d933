package control

import (
	"context"
	"net/http"
	"time"

	"anodenet/anode"
	"anodenet/overlay"
)

// ZoneFiles are the zone files that a daemon follows, its own zone's first.
type ZoneFiles struct {
	Files []ZoneFile `json:"zone_files"`
}

// ZoneFile is one of them.
type ZoneFile struct {
	Zone     anode.Zone `json:"zone"`
	Own      bool       `json:"own"`      // the node's address is in the zone
	Name     string     `json:"name"`     // as the file has it; empty: there is no file yet
	Revision uint64     `json:"revision"` // likewise
	Relays   int        `json:"relays"`   // that the file names
	Checked  *time.Time `json:"checked"`  // when the file was last found to be current; null: never
	Source   string     `json:"source"`   // a URI, the path of a file, or SourceSelf; empty: there is no file yet
	Error    string     `json:"error"`    // of the last look at it; empty: none
	Served   string     `json:"served"`   // IP:PORT where this daemon serves it; empty: nowhere
	Listed   bool       `json:"listed"`   // it names this machine as a relay

	Problem ZoneProblem `json:"problem"` // what Error is about; empty: nothing
	// Gate is what on the way keeps the file from being fetched: captive_portal, proxy_auth,
	// proxy_refused; empty: nothing that is known.
	Gate overlay.Reason `json:"gate"`
	Try  string         `json:"try"` // what to do about it; empty: no advice
}

// ZoneProblem is a kind of problem with a zone file.
type ZoneProblem string

// The problems with zone files.
const (
	ZoneUnreachable ZoneProblem = "unreachable" // it cannot be fetched
	ZoneNoFile      ZoneProblem = "no_file"     // what is there is no zone file
	ZoneOlder       ZoneProblem = "older"       // what is there has a lower revision
	ZoneUnreadable  ZoneProblem = "unreadable"  // zone.file
	ZonePortTaken   ZoneProblem = "port_taken"  // where it is to be served
	ZonePortDenied  ZoneProblem = "port_denied" // likewise
	ZoneNotServed   ZoneProblem = "not_served"  // for another reason
)

// SourceSelf is the source of a zone file that the daemon made itself.
const SourceSelf = "this machine"

// Zones is what the server needs of the part that follows zone files.
type Zones interface {
	Files() []ZoneFile
}

// ShowZones makes the server answer for zone files. It is called before Serve.
func (s *Server) ShowZones(z Zones) { s.zones = z }

func (s *Server) zoneFiles(context.Context) (ZoneFiles, error) {
	answer := ZoneFiles{Files: []ZoneFile{}}
	if s.zones != nil {
		answer.Files = append(answer.Files, s.zones.Files()...)
	}
	return answer, nil
}

// ZoneFiles returns the zone files that the daemon follows.
func (c *Client) ZoneFiles(ctx context.Context) (ZoneFiles, error) {
	return call[ZoneFiles](ctx, c, http.MethodGet, "zones", nil)
}
