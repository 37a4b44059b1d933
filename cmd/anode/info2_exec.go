package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
)

const execHelp = "--exec runs a program for each text that comes from others, without a shell: the command\n" +
	"is split at spaces. The text is its standard input, and ANODE_TEXT; ANODE_FROM is the\n" +
	"address that brought it, ANODE_NAME that peer's name, ANODE_NETWORK adapter or bare,\n" +
	"ANODE_MID and ANODE_TIME the rest. Anybody may have written the text; do not trust it."

func execFlag(cmd *cobra.Command, program *string) {
	cmd.Flags().StringVar(program, "exec", "", "run a `command` for each text that comes")
}

// checkExec refuses an --exec that names no program.
func checkExec(cmd *cobra.Command, program string) error {
	if cmd.Flags().Changed("exec") && strings.TrimSpace(program) == "" {
		return usage(cmd, "--exec: no program is named")
	}
	return nil
}

// Bounds of the programs that texts start.
const (
	execAtOnce  = 4
	execWaiting = 64 // texts that wait for their turn
	execTime    = time.Minute
	execLinger  = time.Second // after that, for the output of its children
)

// hook runs a program for each text, in order, a few at a time. A nil hook does nothing.
type hook struct {
	args     []string
	out, err io.Writer
	jobs     chan control.Entry
	stop     context.CancelFunc
	group    sync.WaitGroup

	mu   sync.Mutex // of writing to err
	lost int        // texts without room; owned by the caller of run
}

// newHook prepares a command; its output goes to out and err.
func newHook(ctx context.Context, command string, out, err io.Writer) (*hook, error) {
	args := strings.Fields(command)
	if len(args) == 0 {
		return nil, nil
	}
	if _, lookErr := exec.LookPath(args[0]); lookErr != nil {
		return nil, &failure{exitUsage, fmt.Sprintf("--exec: %v", lookErr), "the full path of the program"}
	}
	ctx, stop := context.WithCancel(ctx)
	h := &hook{args: args, out: out, err: err, jobs: make(chan control.Entry, execWaiting), stop: stop}
	for range execAtOnce {
		h.group.Go(func() {
			for e := range h.jobs {
				if ctx.Err() == nil {
					h.exec(ctx, e)
				}
			}
		})
	}
	return h, nil
}

// run has the program started for a text soon. It never waits: texts without room are
// counted, and reported with the next one.
func (h *hook) run(e control.Entry) {
	if h == nil || e.Own {
		return
	}
	select {
	case h.jobs <- e:
		if h.lost > 0 {
			h.say("%s arrived too fast for the program", count(h.lost, "text"))
			h.lost = 0
		}
	default:
		h.lost++
	}
}

// close ends the running programs, and waits for them.
func (h *hook) close() {
	if h == nil {
		return
	}
	close(h.jobs)
	h.stop()
	h.group.Wait()
	if h.lost > 0 {
		h.say("%s arrived too fast for the program", count(h.lost, "text"))
	}
}

func (h *hook) exec(ctx context.Context, e control.Entry) {
	limited, cancel := context.WithTimeout(ctx, execTime)
	defer cancel()
	cmd := exec.CommandContext(limited, h.args[0], h.args[1:]...)
	cmd.Stdin = bytes.NewReader([]byte(e.Text + "\n"))
	cmd.Stdout, cmd.Stderr = h.out, h.err
	cmd.WaitDelay = execLinger
	cmd.Env = append(os.Environ(),
		"ANODE_TEXT="+e.Text, "ANODE_FROM="+e.From.String(), "ANODE_NAME="+e.Name, "ANODE_NETWORK="+string(e.Network),
		"ANODE_MID="+e.MID.String(), "ANODE_TIME="+e.Time.UTC().Format(time.RFC3339))
	err := cmd.Run()
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		h.say("it ran for more than %v and was killed", execTime)
	default:
		h.say("%v", err)
	}
}

func (h *hook) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(h.err, "anode: --exec %s: %s\n", h.args[0], fmt.Sprintf(format, args...))
}
