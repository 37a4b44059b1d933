package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/files"
)

// recvFlags are the flags of recv.
type recvFlags struct {
	transferFlags
	dir       string
	yes, keep bool
	from      []string
}

func (a *app) recvCommand() *cobra.Command {
	var f recvFlags
	cmd := &cobra.Command{
		Use:   "recv",
		Short: "Receive files that a peer sends by anode send",
		Long: "Receive files that a peer sends by \"anode send\", and end after one transfer.\n\n" +
			"It shows who sends what, and asks, unless --yes or --from is given. Only peers that you\n" +
			"added can send. Nothing is overwritten: if a name is taken, the file is called\n" +
			"\"report (2).pdf\". Until it is complete, it is called report.pdf.part.\n\n" +
			fmt.Sprintf("Senders connect to port %d of this machine's IPv6 address in the network.", files.Port),
		GroupID:           groupPeople,
		Args:              want(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.dir, "dir", ".", "the `directory` to receive into")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "accept what any added peer sends without asking")
	cmd.Flags().StringArrayVar(&f.from, "from", nil, "accept what this `PEER` sends without asking, and nothing from others")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "go on receiving until Ctrl-C")
	cmd.RegisterFlagCompletionFunc("from", a.completePeer(0))
	cmd.MarkFlagDirname("dir")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		in := cmd.InOrStdin()
		if !f.yes && len(f.from) == 0 && !(isTerminal(in) && isTerminal(a.err)) {
			return usage(cmd, "there is no terminal to ask on: want --yes or --from PEER")
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		return a.recv(cmd.Context(), client, f, in)
	}
	return cmd
}

// recv receives.
func (a *app) recv(ctx context.Context, client *control.Client, f recvFlags, in io.Reader) error {
	var only []anode.Address
	for _, text := range f.from {
		r, err := a.find(ctx, clientBook{client}, text)
		if err != nil {
			return err
		}
		only = append(only, r.Address)
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	l := newLines(client)
	listener, err := l.listen(ctx, status)
	if err != nil {
		return err
	}
	report := a.newTransferReport(f.transferFlags, "received")
	if !f.quiet && !f.json {
		fmt.Fprintf(a.err, "receiving into %s; on the other machine: anode send FILE... %s\n", dir, status.ULA)
	}
	var ask func(context.Context, files.Offer) (bool, error)
	if !f.yes && len(f.from) == 0 {
		ask = (&asker{out: a.err, in: in, dir: dir}).ask
	}
	var failed error
	err = files.Receive(ctx, listener, files.ReceiveConfig{
		Dir: dir, Who: l.who(only), Ask: ask, Keep: f.keep, Patience: f.patience,
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
	lines chan string // nil: nobody reads yet
}

// ask shows an offer, and returns whether the person accepts it.
func (a *asker) ask(ctx context.Context, o files.Offer) (bool, error) {
	fmt.Fprint(a.out, offerText(o, a.dir))
	if a.lines == nil {
		a.lines = make(chan string)
		go a.read() // until the input or the program ends: nothing else can end a read of a terminal
	}
	select {
	case line, ok := <-a.lines:
		if !ok {
			return false, &failure{exitFailed, "the input ended without an answer", "repeat with --yes or --from PEER"}
		}
		answer := strings.ToLower(strings.TrimSpace(line))
		return answer == "y" || answer == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(a.out, "(the sender has gone)")
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
