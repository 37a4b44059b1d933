package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
)

// logAnswer is the JSON of info2 log without -f; with it, and from chat, each entry
// is a line of its own.
type logAnswer struct {
	Schema   int             `json:"schema"`
	Messages []control.Entry `json:"messages"`
}

func (a *app) info2Log() *cobra.Command {
	var last int
	var follow bool
	var program string
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show what was said, and with -f what is being said",
		Long: "Show what was said, and with -f what is being said.\n\n" +
			"Into a pipe each text is a line: time, network, who brought it (\"you\" for your own),\n" +
			"text, separated by tabs; with -f --json a JSON value each.\n\n" + execHelp,
		Args: want(0, 0),
	}
	cmd.Flags().IntVarP(&last, "last", "n", 20, "how `many` past texts")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new texts, until Ctrl-C")
	execFlag(cmd, &program)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case last < 0 || last > control.MaxLast:
			return usage(cmd, "-n %d: want 0 to %d", last, control.MaxLast)
		case cmd.Flags().Changed("exec") && !follow:
			return usage(cmd, "--exec is for new texts: it needs -f")
		}
		if err := checkExec(cmd, program); err != nil {
			return err
		}
		hook, err := newHook(cmd.Context(), program, a.out, a.err)
		if err != nil {
			return err
		}
		defer hook.close()
		client := control.NewClient(a.socket)
		defer client.Close()
		request := control.LogRequest{Last: last, Follow: follow}
		if *asJSON && !follow {
			answer := logAnswer{schema, []control.Entry{}}
			err := client.Log(cmd.Context(), request, func(e control.Entry) error {
				answer.Messages = append(answer.Messages, e)
				return nil
			})
			if err != nil {
				return err
			}
			return a.json(answer)
		}
		p := a.newPrinter(*asJSON)
		began := a.now()
		err = client.Log(cmd.Context(), request, func(e control.Entry) error {
			if e.Time.After(began) {
				hook.run(e)
			}
			return p.print(e)
		})
		if cmd.Context().Err() != nil {
			return nil // Ctrl-C is how it ends
		}
		return err
	}
	return cmd
}

// printer writes texts as lines: JSON, for people, or for scripts.
type printer struct {
	out      io.Writer
	json     bool
	terminal bool
	color    bool
	zone     *time.Location
}

func (a *app) newPrinter(asJSON bool) *printer {
	return &printer{out: a.out, json: asJSON, terminal: a.terminal, color: a.color, zone: time.Local}
}

func (p *printer) print(e control.Entry) error {
	if p.json {
		encoder := json.NewEncoder(p.out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(struct {
			Schema int `json:"schema"`
			control.Entry
		}{schema, e})
	}
	if !p.terminal {
		_, err := fmt.Fprintf(p.out, "%s\t%s\t%s\t%s\n", e.Time.UTC().Format(time.RFC3339), e.Network, broughtBy(e), e.Text)
		return err
	}
	if e.Lost > 0 {
		if _, err := fmt.Fprintf(p.out, "(%s arrived too fast to be shown here)\n", count(int(e.Lost), "text")); err != nil {
			return err
		}
	}
	who := via(e)
	if p.color {
		who = nameColor(e) + who + colorEnd
	}
	_, err := fmt.Fprintf(p.out, "%s  %s  %s\n", e.Time.In(p.zone).Format(time.DateTime), who, e.Text)
	return err
}

// via is shown before a text. It is not the author's name.
func via(e control.Entry) string {
	bare := e.Network == control.NetworkBare
	switch {
	case e.Own && bare:
		return "you, bare"
	case e.Own:
		return "you"
	case bare:
		return "bare " + broughtBy(e)
	}
	return "via " + broughtBy(e)
}

// broughtBy names the neighbour that brought a text.
func broughtBy(e control.Entry) string {
	if e.Own {
		return "you"
	}
	return nameOr(e.Name, e.From)
}

const colorEnd = "\x1b[m"

// nameColor returns the colour of a name, one of six.
func nameColor(e control.Entry) string {
	if e.Own {
		return "\x1b[1m"
	}
	sum := 0
	for _, c := range []byte(broughtBy(e)) {
		sum = sum*31 + int(c)
	}
	return fmt.Sprintf("\x1b[%dm", 31+uint(sum)%6)
}
