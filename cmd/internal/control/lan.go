package control

import (
	"context"
	"net/http"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// LAN is what the server needs of the virtual LAN beside the node.
type LAN interface {
	View() LANView
	SetGames(on bool) error
}

// LANView is how the adapter takes part in the virtual LAN. The node's status has the rest.
type LANView struct {
	Adapter    bool   `json:"adapter"`     // there is one
	LikeLAN    bool   `json:"like_lan"`    // programs take it for the interface of a LAN; that is decided at the daemon's start
	Games      bool   `json:"games"`       // what names no interface goes to the adapter
	IP4Refused string `json:"ip4_refused"` // why IPv4 aliases are not used; empty: they are, or they are off
}

// PeerLANRequest puts an added peer into our virtual LAN, or takes it out.
type PeerLANRequest struct {
	Address anode.Address `json:"address"`
	On      bool          `json:"on"`
}

func (r PeerLANRequest) check() error { return book.CheckAddress(r.Address) }

// GamesRequest leads the discovery of games to the adapter, or no longer.
type GamesRequest struct {
	On bool `json:"on"`
}

// ServeLAN has a server answer about the virtual LAN. It is called before Serve.
func (s *Server) ServeLAN(l LAN) { s.lan = l }

func (s *Server) setLAN(ctx context.Context, r PeerLANRequest) (Done, error) {
	change, err := s.node.SetLAN(ctx, r.Address, r.On)
	s.act(ctx, change, err)
	return Done{}, err
}

func (s *Server) lanView(context.Context) (LANView, error) {
	if s.lan == nil {
		return LANView{}, nil
	}
	return s.lan.View(), nil
}

func (s *Server) games(ctx context.Context, r GamesRequest) (LANView, error) {
	if s.lan == nil {
		return LANView{}, &Error{Code: CodeRefused, Message: "there is no virtual LAN"}
	}
	if err := s.lan.SetGames(r.On); err != nil {
		return LANView{}, err
	}
	s.log.Info("games were switched", "on", r.On, "by", caller(ctx))
	return s.lan.View(), nil
}

// SetLAN puts an added peer into the daemon's virtual LAN, or takes it out.
func (c *Client) SetLAN(ctx context.Context, r PeerLANRequest) error {
	_, err := call[Done](ctx, c, http.MethodPost, "peers/lan", r)
	return err
}

// LAN returns how the adapter takes part in the virtual LAN.
func (c *Client) LAN(ctx context.Context) (LANView, error) {
	return call[LANView](ctx, c, http.MethodGet, "lan", nil)
}

// SetGames leads the discovery of games to the adapter, or no longer.
func (c *Client) SetGames(ctx context.Context, r GamesRequest) (LANView, error) {
	return call[LANView](ctx, c, http.MethodPost, "lan/games", r)
}
