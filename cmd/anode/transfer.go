package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/chat"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/files"
	"anodenet/overlay"
)

// transferPatience is how long both sides wait for each other without progress.
const transferPatience = 10 * time.Minute

// peerDialLimit is how long one attempt to connect may take.
const peerDialLimit = 20 * time.Second

// transferFlags are what send and recv have in common.
type transferFlags struct {
	quiet, json bool
	patience    time.Duration
}

func (f *transferFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show only errors and the summary")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a line of JSON for each event and the summary")
	secondsVar(cmd.Flags(), &f.patience, "patience", "", transferPatience, "give up after this `time` without progress, in seconds or as 10m")
}

func (f *transferFlags) check(cmd *cobra.Command) error {
	if f.patience < time.Second || f.patience > 30*24*time.Hour {
		return usage(cmd, "--patience %v: want 1s to 720h", f.patience)
	}
	return nil
}

// lines is the way of this machine to the ports of peers.
type lines struct {
	client *control.Client
	peers  func(ctx context.Context) (overlay.Status, error)
}

func newLines(client *control.Client) lines {
	return lines{client: client, peers: client.Status}
}

// dial connects to the receiver of a peer. The daemon may have been restarted since the last
// time.
func (l lines) dial(ctx context.Context, to control.Resolved) (net.Conn, error) {
	status, err := l.peers(ctx)
	if err != nil {
		return nil, err
	}
	if status.Tun == nil {
		return l.open(ctx, to)
	}
	ctx, cancel := context.WithTimeout(ctx, peerDialLimit)
	defer cancel()
	conn, err := system(status, func() int { return status.Tun.Index }).Dial(ctx, netip.AddrPortFrom(to.ULA.Addr(), files.Port))
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, errNobodyReceives
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return nil, errNoAnswer
	case errors.Is(err, syscall.EACCES): // the daemon's answer to a packet that the peer would drop
		return nil, errNotLetIn
	}
	return conn, plainDial(err)
}

// open is dial for a node without an adapter: the daemon has the only way to peers.
func (l lines) open(ctx context.Context, to control.Resolved) (net.Conn, error) {
	s, err := l.client.Open(ctx, to.Address, files.Port)
	var remote *control.Error
	switch {
	case errors.As(err, &remote) && remote.Code == control.CodeRefused:
		return nil, errNobodyReceives
	case errors.As(err, &remote) && remote.Code == control.CodeUnreachable:
		return nil, errNoAnswer
	case err != nil:
		return nil, err
	}
	return newStreamConn(s, net.TCPAddrFromAddrPort(netip.AddrPortFrom(to.ULA.Addr(), files.Port))), nil
}

// plainDial returns the error of a connection without the addresses that it has in it.
func plainDial(err error) error {
	var op *net.OpError
	var call *os.SyscallError
	if errors.As(err, &op) {
		err = op.Err
	}
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

// Why nobody takes files.
var (
	errNobodyReceives = errors.New("nobody receives files there")
	errNoAnswer       = errors.New("no answer")
	errNotLetIn       = errors.New("it does not let this machine in")
)

// listen takes connections of peers.
func (l lines) listen(ctx context.Context, status overlay.Status) (net.Listener, error) {
	if status.Tun == nil {
		return listenStreams(ctx, l.client), nil
	}
	listener, err := system(status, l.adapter(ctx, status)).Listen(ctx, files.Port)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &failure{exitFailed, fmt.Sprintf("port %d: another program uses it, perhaps another anode recv", files.Port), "wait until that has ended; to find it: ss -tlnp"}
	}
	return listener, err
}

// system is the sockets of the operating system, bound to the adapter.
func system(status overlay.Status, index func() int) chat.Transport {
	return chat.FromULA(status.ULA.Addr(), index)
}

// adapter returns a function that returns the adapter's index. It asks the daemon each time, since
// a restarted daemon has made another adapter. While no daemon answers, it is the last one's:
// nothing comes from there, and nothing else is let in. One goroutine at a time may call it.
func (l lines) adapter(ctx context.Context, status overlay.Status) func() int {
	last := status.Tun.Index
	return func() int {
		asking, cancel := context.WithTimeout(ctx, checkLimit)
		defer cancel()
		if now, err := l.peers(asking); err == nil && now.Tun != nil {
			last = now.Tun.Index
		}
		return last
	}
}

// admission is which peers may send, and whose offers need no question.
type admission struct {
	only    []anode.Address // empty: all who were added
	trusted []anode.Address
	all     bool // need no question
	mute    bool // nobody can be asked
}

// who returns which peer a connection comes from.
func (l lines) who(may admission) func(ctx context.Context, from net.Addr) (files.Peer, error) {
	return func(ctx context.Context, from net.Addr) (files.Peer, error) {
		at, err := netip.ParseAddrPort(from.String())
		if err != nil {
			return files.Peer{}, err
		}
		status, err := l.peers(ctx)
		if err != nil {
			return files.Peer{Name: at.Addr().String()}, err
		}
		return may.sender(status.Peers, at.Addr())
	}
}

// sender returns the peer that has an address, if it may send.
func (m admission) sender(peers []overlay.PeerStatus, from netip.Addr) (files.Peer, error) {
	i := slices.IndexFunc(peers, func(p overlay.PeerStatus) bool { return p.ULA.Addr() == from })
	if i < 0 || !peers[i].Allowed {
		return files.Peer{Key: from.String(), Name: from.String()}, errors.New("it is not a peer that you added")
	}
	at := peers[i].Address
	p := files.Peer{Key: at.String(), Name: label(peers[i])}
	if len(m.only) > 0 && !slices.Contains(m.only, at) {
		return p, errors.New("--from does not name it")
	}
	p.Trusted = m.all || len(m.only) > 0 || slices.Contains(m.trusted, at)
	if !p.Trusted && m.mute {
		return p, errors.New("files.trust does not name it, and there is no terminal to ask on")
	}
	return p, nil
}

// transferFailure turns the error of a transfer into one that says how to go on. peer is the
// other side's name.
func transferFailure(err error, peer string) error {
	const again = "the same command again: it goes on where it ended"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return &failure{exitFailed, "interrupted", again}
	case errors.Is(err, errNobodyReceives):
		return &failure{exitUnreachable, err.Error(), "on that machine: anode recv; then " + again}
	case errors.Is(err, errNotLetIn):
		return &failure{exitUnreachable, err.Error(), "on that machine: anode peers add, with the address that \"anode id\" prints here"}
	case errors.Is(err, files.ErrStalled):
		return &failure{exitUnreachable, err.Error(), again}
	case errors.Is(err, files.ErrNoSpace):
		return &failure{exitFailed, err.Error(), "free some space on the disk, then " + again}
	case errors.Is(err, syscall.ENOSPC):
		return &failure{exitFailed, "the disk is full", "free some space, then " + again}
	case errors.Is(err, files.ErrRefused):
		return &failure{exitFailed, peer + ": " + err.Error(), ""}
	}
	return err
}

// incomplete is the failure of a transfer that left some files out.
func incomplete(o files.Outcome) error {
	if len(o.Failed) == 0 {
		return nil
	}
	return &failure{exitFailed, plural(len(o.Failed), "file was", "files were") + " not transferred", "the same command again, when the problem is solved"}
}

// plural is "1 file" or "3 files".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// size is a number of bytes for people.
func size(n int64) string { return bytesOf(uint64(max(n, 0))) }
