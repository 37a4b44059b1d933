package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay/store"
	"anodenet/platform"
	"anodenet/tun"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNoDaemon    = 3
	exitUnknownPeer = 4
	exitUnreachable = 5
)

// failure is an error as people get it: what was wrong, and what to try.
type failure struct {
	exit    int
	message string // empty: it was said already
	try     string // empty: nothing comes to mind
}

func (f *failure) Error() string { return f.message }

// usage is the error of a command line that makes no sense.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &failure{exitUsage, fmt.Sprintf(format, args...), cmd.CommandPath() + " --help"}
}

// explain makes a failure of any error.
func explain(err error) *failure {
	var already *failure
	if errors.As(err, &already) {
		return already
	}
	var remote *control.Error
	if errors.As(err, &remote) {
		return &failure{exitOf(remote.Code), oneLine(remote.Message), remote.Try}
	}
	f := &failure{exit: exitFailed}
	f.message, f.try, _ = strings.Cut(oneLine(err.Error()), "; try: ") // some errors know best
	if f.try != "" {
		return f
	}
	switch {
	case errors.Is(err, context.Canceled):
		f.message = "interrupted"
	case errors.Is(err, control.ErrNoDaemon):
		f.exit, f.try = exitNoDaemon, "anode up, or --socket PATH of the daemon's socket"
	case errors.Is(err, store.ErrStateBusy):
		f.try = "anode down, or another --state DIR and --socket PATH"
	case errors.Is(err, control.ErrInUse):
		f.try = "anode status, or anode down first, or another --socket PATH"
	case errors.Is(err, config.ErrInvalid):
		f.try = "anode config example"
	case errors.Is(err, tun.ErrOpen), errors.Is(err, platform.ErrConfigure):
		f.try = "--tun NAME for another adapter, --tun none to go without, or as root (sudo)"
	case errors.Is(err, syscall.EADDRINUSE):
		f.try = "--port 0 for any free port, or stop the program that has it"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EPERM):
		f.try = "as root (sudo), or as a member of the group anode where a daemon runs"
	default: // what a daemon would have said
		e := control.AsError(err)
		f.exit, f.try = exitOf(e.Code), e.Try
	}
	return f
}

func exitOf(c control.Code) int {
	switch c {
	case control.CodeInvalid:
		return exitUsage
	case control.CodeUnknownPeer:
		return exitUnknownPeer
	case control.CodeUnreachable:
		return exitUnreachable
	}
	return exitFailed
}

func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }
