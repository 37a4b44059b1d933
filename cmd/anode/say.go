package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// maxLines is how many texts one command may say.
const maxLines = 200

// linePause is the time between lines that belong together. Each is delayed by up to 600
// ms on its way, so closer ones would arrive in any order.
const linePause = 700 * time.Millisecond

// sayAnswer is the JSON of say.
type sayAnswer struct {
	Schema  int             `json:"schema"`
	Network control.Network `json:"network"`
	Said    []saidText      `json:"said"`
}

type saidText struct {
	MID  info2.MID `json:"mid"`
	Text string    `json:"text"`
}

func (a *app) sayCommand() *cobra.Command {
	var network string
	var yes bool
	cmd := &cobra.Command{
		Use:   "say TEXT...",
		Short: "Say a text to everybody on the network",
		Long: "Say a text to everybody on the network: it is sent to your neighbours, and they\nforward it.\n\n" +
			"Its words are joined by spaces. With - each line of the standard input is a text.\n" +
			"A text that looks like a password, a key or the like is not said without --yes.",
		GroupID: groupPeople,
		Args:    want(1, math.MaxInt),
	}
	networkFlag(cmd, &network)
	cmd.Flags().BoolVar(&yes, "yes", false, "even if it looks like a secret")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		texts := []string{strings.Join(args, " ")}
		if len(args) == 1 && args[0] == "-" {
			var err error
			if texts, err = readTexts(cmd.InOrStdin()); err != nil {
				return err
			}
		}
		// All texts are checked before the first one is said.
		asks := isTerminal(cmd.InOrStdin()) && a.terminal && args[0] != "-"
		anyway := make([]bool, len(texts))
		for i, text := range texts {
			if err := checkText(text); err != nil {
				return err
			}
			if anyway[i] = yes; !yes {
				var err error
				if anyway[i], err = a.maySay(cmd.Context(), text, cmd.InOrStdin(), asks); err != nil {
					return err
				}
			}
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		return a.say(cmd.Context(), client, control.Network(network), texts, anyway, *asJSON)
	}
	return cmd
}

// networkFlag adds --network.
func networkFlag(cmd *cobra.Command, network *string) {
	cmd.Flags().StringVar(network, "network", "", "the `network` to say it on: adapter, or bare (clear text)")
	cmd.RegisterFlagCompletionFunc("network", cobra.FixedCompletions([]cobra.Completion{"adapter", "bare"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) say(ctx context.Context, client *control.Client, network control.Network, texts []string, anyway []bool, asJSON bool) error {
	answer := sayAnswer{Schema: schema, Said: []saidText{}}
	for i, text := range texts {
		if i > 0 {
			if err := wait(ctx, linePause); err != nil {
				return after(i, len(texts), err)
			}
		}
		said, err := client.Say(ctx, control.SayRequest{Network: network, Text: text, Anyway: anyway[i]})
		if err != nil {
			return after(i, len(texts), err)
		}
		answer.Network = said.Network
		answer.Said = append(answer.Said, saidText{said.MID, info2.Clean(text)})
	}
	if asJSON {
		return a.json(answer)
	}
	return nil
}

// wait waits, or returns ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// after adds to an error how many of several texts had been said before it.
func after(said, of int, err error) error {
	if said == 0 {
		return err
	}
	f := *explain(err)
	f.message = fmt.Sprintf("after %d of %d texts: %s", said, of, f.message)
	return &f
}

// readTexts reads one text per line, and skips empty lines.
func readTexts(r io.Reader) (texts []string, err error) {
	in := bufio.NewScanner(io.LimitReader(r, 1<<20))
	for in.Scan() {
		if info2.Clean(in.Text()) != "" {
			texts = append(texts, in.Text())
		}
	}
	switch {
	case in.Err() != nil:
		return nil, in.Err()
	case len(texts) == 0:
		return nil, &failure{exitUsage, "no text in the input", "anode say TEXT"}
	case len(texts) > maxLines:
		return nil, &failure{exitUsage, fmt.Sprintf("%d lines are too many: at most %d at once", len(texts), maxLines), "send a file over the adapter instead, by scp for example"}
	}
	return texts, nil
}

// checkText returns an error if a text does not fit into a message.
func checkText(text string) error {
	switch n := len(info2.Clean(text)); {
	case n == 0:
		return &failure{exitUsage, "no text", "anode say TEXT"}
	case n > info2.MaxText:
		return &failure{exitUsage, fmt.Sprintf("the text is too long: %d bytes, at most %d", n, info2.MaxText), "a shorter text, or several"}
	}
	return nil
}

// maySay reports whether to insist on a text: false if it is harmless, true if it looks
// like a secret and the user wants it said nevertheless. With asks, it asks the user.
func (a *app) maySay(ctx context.Context, text string, in io.Reader, asks bool) (bool, error) {
	what := info2.LooksSecret(text)
	if what == "" {
		return false, nil
	}
	refused := &failure{exitFailed, fmt.Sprintf("the text looks like %s, and everybody could read it; it was not said", what), "repeat with --yes if everybody may read it"}
	if !asks {
		return false, refused
	}
	yes, err := a.yes(ctx, in, fmt.Sprintf("The text looks like %s, and everybody could read it. Say it?", what))
	if err == nil && !yes {
		err = &failure{exitFailed, "it was not said", ""}
	}
	return yes, err
}

func isTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}
