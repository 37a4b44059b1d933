package control

import (
	"context"
	"net/http"
	"net/netip"

	"anodenet/cmd/internal/names"
)

// Names is what the server needs of what names peers for other programs.
type Names interface {
	View() NamesView
	Suffix() string // of host names, without dots around it
}

// NamesView is how other programs find peers by name.
type NamesView struct {
	Suffix  string          `json:"suffix"`
	Off     string          `json:"off"`     // why nothing answers, in words; empty: something is to answer
	Server  *netip.AddrPort `json:"server"`  // where DNS is answered; null: nowhere
	Problem string          `json:"problem"` // why nowhere, or not at the port that was wanted; empty: no problem
	Try     string          `json:"try"`     // what to do about it

	Names    int      `json:"names"`    // of peers
	Services int      `json:"services"` // of this machine, which its friends are told of
	Domains  []string `json:"domains"`  // that are answered for: the suffix, and those of ULAs
	Search   bool     `json:"search"`   // programs may leave the suffix out

	Resolver NamesResolver     `json:"resolver"`
	Counters map[string]uint64 `json:"counters"`
}

// NamesResolver is whether the system's resolver asks for the names.
type NamesResolver struct {
	Managed      bool   `json:"managed"` // the daemon may tell it
	Manager      string `json:"manager"` // that was found, such as systemd-resolved; "none"
	Applied      bool   `json:"applied"` // it was told, and has not forgotten
	Why          string `json:"why"`     // it was not told, in words
	Try          string `json:"try"`
	Instructions string `json:"instructions"` // the page that fits; empty: none
	Error        string `json:"error"`        // of the last attempt; empty: it succeeded
}

// ServeNames has a server answer about names. It is called before Serve.
func (s *Server) ServeNames(n Names) { s.names = n }

func (s *Server) namesView(context.Context) (NamesView, error) {
	if s.names == nil {
		return NamesView{Suffix: s.suffix(), Off: "this daemon has no names", Domains: []string{}, Counters: map[string]uint64{}}, nil
	}
	return s.names.View(), nil
}

// suffix returns the domain of host names.
func (s *Server) suffix() string {
	if s.names == nil {
		return names.Suffix
	}
	return s.names.Suffix()
}

// Names returns how other programs find peers by name.
func (c *Client) Names(ctx context.Context) (NamesView, error) {
	return call[NamesView](ctx, c, http.MethodGet, "names", nil)
}
