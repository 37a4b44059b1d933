package info2

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// MaxText is how many bytes of text one message holds, after cleaning.
const MaxText = maxText

// Config is what a Servent is given. Only Dial is required.
type Config struct {
	// Name is for logs and Status: "adapter", "bare".
	Name string
	// Port to listen on and to dial; 0 is Port. Another port is another network.
	Port uint16

	// Dial opens a stream; it must return when ctx ends.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Listen opens the listener; nil: outbound only.
	Listen func(ctx context.Context, port uint16) (net.Listener, error)
	// Allow reports who may be a neighbour, dialled or accepted; nil: anybody. On
	// the adapter, the peers that the user added. Called from Run's goroutine.
	Allow func(netip.Addr) bool
	// NameOf names a neighbour for Message and Status, "" if it has none;
	// nil: nobody has one. For links whose other end is authenticated. Called
	// from Run's goroutine.
	NameOf func(netip.Addr) string

	// Friends are linked first, kept when links must go, and never forgotten.
	Friends []netip.Addr
	// Closed means that only the friends are to be found: no host is asked which
	// others it knows, and nothing is dialled to see more of the network, so that a
	// servent with nothing to say is silent.
	Closed bool
	// Known are addresses to start from, as hearsay.
	Known []netip.Addr

	// History receives every message, own ones included; nil: none is kept.
	History History

	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // seeds delays and identifiers; nil: crypto/rand
	Logger *slog.Logger     // nil: none

	// AllowLoopback lets 127/8 and ::1 be dialled. For tests.
	AllowLoopback bool
}
