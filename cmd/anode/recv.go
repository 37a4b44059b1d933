package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/files"
	"anodenet/overlay"
)

// recvFlags are the flags of recv.
type recvFlags struct {
	transferFlags
	dir       string
	yes, keep bool
	mute      bool // nobody can be asked
	from      []string
}

func (a *app) recvCommand() *cobra.Command {
	var f recvFlags
	cmd := &cobra.Command{
		Use:   "recv",
		Short: "Receive files that a peer sends by anode send",
		Long: "Receive files that a peer sends by \"anode send\", and end after one transfer.\n\n" +
			"It shows who sends what, and asks, unless --yes or --from is given, or files.trust in the\n" +
			"configuration names the peer; what begins with a dot is refused then, since programs obey\n" +
			"such files. Only peers that you added can send. Nothing is overwritten: if\n" +
			"a name is taken, the file is called \"report (2).pdf\". Until it is complete, it is called\n" +
			"report.pdf.part.\n\n" +
			fmt.Sprintf("Senders connect to port %d of this machine's IPv6 address in the network.", files.Port),
		GroupID:           groupPeople,
		Args:              want(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.dir, "dir", "", "the `directory` to receive into (default files.dir of the configuration, else the current one)")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "accept what any added peer sends without asking, hidden names excepted")
	cmd.Flags().StringArrayVar(&f.from, "from", nil, "accept what this `PEER` sends without asking, and nothing from others")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "go on receiving until Ctrl-C")
	cmd.RegisterFlagCompletionFunc("from", a.completePeer(0))
	cmd.MarkFlagDirname("dir")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		set, err := a.fileSettings(cmd)
		if err != nil {
			return err
		}
		if !cmd.Flags().Changed("dir") {
			if f.dir, err = set.Folder(os.UserHomeDir); err != nil {
				return fmt.Errorf("files.dir: %w; try: --dir DIRECTORY", err)
			}
		}
		in := cmd.InOrStdin()
		f.mute = !(isTerminal(in) && isTerminal(a.err))
		if !f.yes && len(f.from)+len(set.Trust) == 0 && f.mute {
			return usage(cmd, "there is no terminal to ask on: want --yes or --from PEER, or files.trust in the configuration")
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		return a.recv(cmd.Context(), client, f, set.Trust, in)
	}
	return cmd
}

// fileSettings returns what the configuration says about files. A user who may not read the
// system's gets the defaults, which trust nobody.
func (a *app) fileSettings(cmd *cobra.Command) (config.Files, error) {
	c, err := a.source().Load()
	if errors.Is(err, fs.ErrPermission) && !a.configGiven {
		cmd.PrintErrf("anode: warning: %s: files.trust and files.dir do not apply\n", oneLine(pathOnce(err)))
		return config.Files{}, nil
	}
	return c.Files, err
}

// admit returns who may send.
func (a *app) admit(ctx context.Context, client *control.Client, status overlay.Status, f recvFlags, trust []string) (admission, error) {
	who := admission{all: f.yes, mute: f.mute}
	for _, text := range f.from {
		r, err := a.findPeer(ctx, clientBook{client}, text)
		if err != nil {
			return who, err
		}
		who.only = append(who.only, r.Address)
	}
	if who.all || len(who.only) > 0 {
		return who, nil
	}
	var err error
	who.trusted, err = trustedPeers(status.Peers, trust, a.config)
	return who, err
}

// trustedPeers returns the addresses of peers that a configuration trusts. It takes whole names,
// addresses, ULAs and short IDs alone: the beginning of one, or what DNS says, may be another
// peer's tomorrow.
func trustedPeers(peers []overlay.PeerStatus, trust []string, file string) (list []anode.Address, err error) {
	for _, text := range trust {
		i := slices.IndexFunc(peers, func(p overlay.PeerStatus) bool {
			return text != "" && slices.Contains([]string{p.Name, p.Address.String(), p.ULA.String(), p.ID.String()}, text)
		})
		switch {
		case i < 0:
			return nil, &failure{exitUnknownPeer, fmt.Sprintf("files.trust: no peer has the name %q, nor that address, ULA or short ID", text), "anode peers list; or change files.trust in " + file}
		case !peers[i].Allowed:
			return nil, &failure{exitUnknownPeer, fmt.Sprintf("files.trust: %s is not a peer that you added", label(peers[i])), "anode peers add ADDRESS; or change files.trust in " + file}
		}
		list = append(list, peers[i].Address)
	}
	return list, nil
}

// recv receives.
func (a *app) recv(ctx context.Context, client *control.Client, f recvFlags, trust []string, in io.Reader) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	who, err := a.admit(ctx, client, status, f, trust)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return &failure{exitFailed, dir + ": not a directory", "--dir with the path of a directory"}
	}
	l := newLines(client)
	listener, err := l.listen(ctx, status)
	if err != nil {
		return err
	}
	report := a.newTransferReport(f.transferFlags, "received")
	if !f.quiet && !f.json {
		fmt.Fprintf(a.err, "receiving into %s\non the other machine: anode send FILE... %s\n", dir, status.ULA)
	}
	ask := &asker{out: a.err, in: in, dir: dir, ended: ctx.Done()}
	if !f.mute {
		ask.listen()
	}
	var failed error
	err = files.Receive(ctx, listener, files.ReceiveConfig{
		Dir: dir, Who: l.who(who), Ask: ask.ask, Keep: f.keep, Patience: f.patience,
		Tell: report.event,
		Complete: func(from files.Peer, o files.Outcome) {
			report.end(from, o)
			failed = incomplete(o)
		},
	})
	if f.keep && errors.Is(err, context.Canceled) {
		return nil // as it was asked to
	}
	if err != nil {
		return transferFailure(err, "the sender")
	}
	return failed
}

// asker asks a person about offers.
type asker struct {
	out   io.Writer
	in    io.Reader
	dir   string
	ended <-chan struct{} // recv is over
	lines chan string
}

// listen begins to read before anything is asked: what was typed until then answers nothing.
// It reads until the input or the program ends, since nothing else ends a read of a terminal.
func (a *asker) listen() {
	a.lines = make(chan string)
	go a.read()
}

// ask shows an offer, and returns whether the person accepts it.
func (a *asker) ask(ctx context.Context, o files.Offer) (bool, error) {
	fmt.Fprint(a.out, offerText(o, a.dir))
	select {
	case line, ok := <-a.lines:
		if !ok {
			fmt.Fprintln(a.out)
			return false, &failure{exitFailed, "the input ended without an answer", "repeat with --yes or --from PEER"}
		}
		return isYes(line), nil
	case <-ctx.Done():
		select {
		case <-a.ended:
			fmt.Fprintln(a.out)
		default:
			fmt.Fprintln(a.out, "(the sender has gone)")
		}
		return false, ctx.Err()
	}
}

// read reads answers. What is typed while nobody is asked answers no later question.
func (a *asker) read() {
	defer close(a.lines)
	s := bufio.NewScanner(a.in)
	for s.Scan() {
		select {
		case a.lines <- s.Text():
		default:
		}
	}
}

// offerText is an offer with its question.
func offerText(o files.Offer, dir string) string {
	const most = 10
	var b strings.Builder
	fmt.Fprintf(&b, "%s sends %s, %s:\n", o.Peer.Name, plural(o.Files, "file", "files"), size(o.Bytes))
	for i, t := range o.Tops {
		switch {
		case i == most:
			fmt.Fprintf(&b, "  and %d more\n", len(o.Tops)-most)
		case i > most:
		case t.Dir:
			fmt.Fprintf(&b, "  %s/  %s, %s\n", files.Shown(t.Name), plural(t.Files, "file", "files"), size(t.Bytes))
		default:
			fmt.Fprintf(&b, "  %s  %s\n", files.Shown(t.Name), size(t.Bytes))
		}
	}
	if o.Kept > 0 {
		fmt.Fprintf(&b, "%s of that are here already\n", size(o.Kept))
	}
	fmt.Fprintf(&b, "Receive into %s? [y/N] ", dir)
	return b.String()
}
