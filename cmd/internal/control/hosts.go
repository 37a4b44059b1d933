package control

import (
	"net/netip"
	"time"

	"anodenet/overlay/book"
)

// Host is an endpoint that was given by the name of a machine, and what came of it.
type Host struct {
	Endpoint  book.Host    `json:"endpoint"`
	State     HostState    `json:"state"`
	Addresses []netip.Addr `json:"addresses"` // that it has, as far as they are used
	Problem   string       `json:"problem"`   // what went wrong, in words; empty: nothing
	Since     *time.Time   `json:"since"`     // since when every look had this state; null: there was none
}

// HostState says how far things are with a host name.
type HostState string

// The states of a host name. The addresses of the last success are used until others
// come, so a name that is not found now may have some.
const (
	HostUnknown  HostState = "unknown"   // no daemon runs, so nobody asks
	HostAsking   HostState = "asking"    // no answer has come yet
	HostFound    HostState = "found"     // it has addresses
	HostNotFound HostState = "not_found" // there is no such name, or it has no address
	HostFailed   HostState = "failed"    // the resolver did not answer, or with an error
	HostUnusable HostState = "unusable"  // none of its addresses can be a peer's
)

// HostLook returns what is known of a host name. It may be called from any goroutine.
type HostLook func(book.Host) Host

// of asks look, or answers for nobody.
func (look HostLook) of(h book.Host) Host {
	if look == nil {
		return Host{Endpoint: h, State: HostUnknown, Addresses: []netip.Addr{}}
	}
	return look(h)
}

// Places lists the endpoints that people gave, of both kinds.
func (e Endpoints) Places() []book.Place {
	of := book.Entry{Endpoints: e.Given}
	for _, h := range e.Hosts {
		of.Hosts = append(of.Hosts, h.Endpoint)
	}
	return of.Places()
}

// SetHosts has a server answer what look knows of host names. It is called before Serve.
func (s *Server) SetHosts(look HostLook) { s.look = look }
