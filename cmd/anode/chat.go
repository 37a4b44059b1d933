package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// chatPast is how many entries of the history a chat begins with.
const chatPast = 500

func (a *app) chatCommand() *cobra.Command {
	o := chatOptions{}
	var network, program string
	cmd := &cobra.Command{
		Use:   "chat",
		Short: "Talk with everybody on the network; line by line in a pipe",
		Long: "Talk with everybody on the network.\n\n" +
			"On a terminal: type a line and Enter; PgUp and PgDn scroll, Up and Down bring back what\n" +
			"you typed, Esc or Ctrl-C clears the line and then quits, /help lists the rest. A text that\n" +
			"begins with a slash needs two. \"via\" names the neighbour that brought a text; nobody can\n" +
			"know who wrote it.\n\n" +
			"If input or output is not a terminal, or TERM is dumb, each line of the input is said, and\n" +
			"each text that others say is printed, until the input ends. Lines of a pipe are said as they\n" +
			"are, slashes too. To only listen: anode info2 log -f.\n\n" + execHelp,
		GroupID: groupPeople,
		Args:    want(0, 0),
	}
	networkFlag(cmd, &network)
	cmd.Flags().BoolVar(&o.yes, "yes", false, "say texts that look like a secret without asking")
	execFlag(cmd, &program)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.network = control.Network(network)
		if err := checkExec(cmd, program); err != nil {
			return err
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		ctx, stop := context.WithCancel(cmd.Context())
		defer stop()
		status, err := client.Info2(ctx)
		if err == nil {
			err = mayTalk(cmd, status, o.network)
		}
		if err != nil {
			return err // printed where it can still be read
		}
		in := cmd.InOrStdin()
		o.typed = isTerminal(in)
		if !o.typed || !a.terminal || *asJSON || os.Getenv("TERM") == "dumb" {
			hook, err := newHook(ctx, program, a.out, a.err)
			if err != nil {
				return err
			}
			defer hook.close()
			return a.chatLines(ctx, client, in, o, hook, a.newPrinter(*asJSON))
		}
		return a.chatScreen(ctx, client, o, program)
	}
	return cmd
}

type chatOptions struct {
	network control.Network
	yes     bool // secrets too
	typed   bool // by a person, who may give commands such as /quit
}

// mayTalk returns why nothing could be said on a network, which is better known before
// somebody has typed a line.
func mayTalk(cmd *cobra.Command, s control.Info2Status, network control.Network) error {
	if network != "" && network != control.NetworkAdapter && network != control.NetworkBare {
		return usage(cmd, "--network %s: want adapter or bare", network)
	}
	for _, n := range s.Networks {
		switch {
		case network != "" && n.Network != string(network):
		case n.Failed != "":
			return &failure{exitFailed, fmt.Sprintf("Info2 on the %s network does not run: %s", n.Network, n.Failed), "anode info2 status"}
		default:
			return nil
		}
	}
	if network == control.NetworkBare {
		return &failure{exitFailed, "Info2 on the bare network is off", "anode up --info2-bare (unencrypted)"}
	}
	return &failure{exitFailed, "Info2 is off", "info2.enabled = true in the configuration, and a daemon with an adapter"}
}

// chatLines says the lines of in and prints what others say, until in ends.
func (a *app) chatLines(ctx context.Context, client *control.Client, in io.Reader, o chatOptions, hook *hook, p *printer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	heard := make(chan error, 1)
	go func() {
		heard <- client.Log(ctx, control.LogRequest{Follow: true}, func(e control.Entry) error {
			if e.Own {
				return nil
			}
			hook.run(e)
			return p.print(e)
		})
	}()
	read := make(chan error, 1)
	lines := make(chan string)
	go func() {
		s := bufio.NewScanner(in)
		for s.Scan() {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
		read <- s.Err()
	}()
	var failed error
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-heard:
			return err
		case err := <-read:
			stop()
			<-heard
			if err == nil {
				err = failed
			}
			return err
		case line := <-lines:
			err := a.chatLine(ctx, client, o, line)
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, errQuit):
				stop()
				<-heard
				return failed
			case err == nil:
				wait(ctx, linePause) // ctx's end is seen above
			case errors.Is(err, control.ErrNoDaemon):
				return err
			default:
				f := explain(err)
				fmt.Fprintf(a.err, "anode: %s\n", f.message)
				if o.typed {
					fmt.Fprintf(a.err, "try: %s\n", f.try)
					continue // a person has read it
				}
				failed = &failure{exit: f.exit} // it was printed
			}
		}
	}
}

// errQuit ends a chat that is line by line.
var errQuit = errors.New("quit")

// chatLine says a line, or does what it commands.
func (a *app) chatLine(ctx context.Context, client *control.Client, o chatOptions, line string) error {
	if o.typed {
		text, command, err := parseLine(line)
		switch {
		case err != nil:
			return err
		case command == chatQuits:
			return errQuit
		case command == chatHelps:
			fmt.Fprint(a.err, chatLinesHelp)
		}
		line = text
	}
	if info2.Clean(line) == "" {
		return nil
	}
	if err := checkText(line); err != nil {
		return err
	}
	if !o.yes {
		if _, err := a.maySay(ctx, line, nil, false); err != nil {
			return err
		}
	}
	_, err := client.Say(ctx, control.SayRequest{Network: o.network, Text: line, Anyway: o.yes})
	return err
}

// chatScreen runs the full-screen chat until the user quits.
func (a *app) chatScreen(ctx context.Context, client *control.Client, o chatOptions, execute string) error {
	var program *tea.Program
	hook, err := newHook(ctx, execute, io.Discard, noticeWriter(func(text string) { program.Send(noticeMsg{text}) }))
	if err != nil {
		return err
	}
	m := newChatModel(a.color, time.Local)
	m.yes = o.yes
	m.say = func(text string, anyway bool) tea.Cmd {
		return func() tea.Msg {
			_, err := client.Say(ctx, control.SayRequest{Network: o.network, Text: text, Anyway: anyway})
			return saidMsg{err}
		}
	}
	m.look = func() tea.Msg {
		status, err := client.Info2(ctx)
		return linksMsg{status, err}
	}
	began := a.now() // programs run for what comes after it
	m.follow = func() tea.Msg {
		first, last := true, began
		err := client.Log(ctx, control.LogRequest{Last: chatPast, Follow: true}, func(e control.Entry) error {
			if e.Time.After(began) {
				hook.run(e)
			}
			program.Send(entryMsg{e, first})
			first, last = false, e.Time
			return nil
		})
		began = last // the next stream begins with some of this one
		return endedMsg{err}
	}
	program = tea.NewProgram(m, tea.WithContext(ctx), tea.WithOutput(a.out), tea.WithEnvironment(os.Environ()))
	_, err = program.Run()
	hook.close()
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// noticeWriter shows the output of a program, line by line as it comes.
type noticeWriter func(text string)

// Write never fails.
func (f noticeWriter) Write(b []byte) (int, error) {
	f(info2.Clean(string(b)))
	return len(b), nil
}
