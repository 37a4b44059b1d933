package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/overlay/store"
	"anodenet/platform"
	"anodenet/tun"
)

// The exit codes of the program.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNoDaemon    = 3
	exitUnknownPeer = 4
	exitUnreachable = 5
)

// failure is an error as it is shown: the problem, and what to try.
type failure struct {
	exit    int
	message string // a line for each problem; empty: it was printed already
	try     string // empty: there is no advice
}

func (f *failure) Error() string { return f.message }

// usage makes the error of a wrong command line.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &failure{exitUsage, fmt.Sprintf(format, args...), cmd.CommandPath() + " --help"}
}

// explain turns any error into a failure.
func explain(err error) *failure {
	var already *failure
	if errors.As(err, &already) {
		return already
	}
	var remote *control.Error
	if errors.As(err, &remote) {
		return &failure{exitOf(remote.Code), oneLine(remote.Message), remote.Try}
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		f := &failure{exitFailed, problems.Error(), "anode config example"}
		if len(problems) == 1 { // it may hold its advice
			message, try, ok := strings.Cut(f.message, "; try: ")
			if ok {
				f.message, f.try = message, try
			}
		}
		if problems.Usage() {
			f.exit = exitUsage
		}
		return f
	}
	f := &failure{exit: exitFailed}
	f.message, f.try, _ = strings.Cut(oneLine(pathOnce(err)), "; try: ") // some errors hold their advice
	if f.try != "" {
		f.exit = exitOf(control.AsError(err).Code)
		return f
	}
	switch {
	case errors.Is(err, context.Canceled):
		f.message = "interrupted"
	case errors.Is(err, control.ErrNoDaemon):
		f.exit, f.try = exitNoDaemon, thisService().start()+"; or --socket PATH of a running daemon"
	case errors.Is(err, control.ErrSilent):
		f.try = "anode doctor"
	case errors.Is(err, store.ErrStateBusy):
		f.try = "anode down; or another --state DIR and --socket PATH"
	case errors.Is(err, control.ErrInUse):
		f.try = "anode status; or first anode down; or another --socket PATH"
	case errors.Is(err, config.ErrInvalid):
		f.try = "anode config example"
	case errors.Is(err, anode.ErrIdentity):
		f.try = "restore the file from a backup; without it this machine gets a new address"
	case errors.Is(err, tun.ErrOpen), errors.Is(err, platform.ErrConfigure):
		f.try = "sudo; or --tun NAME for another adapter; or --tun none for no adapter"
	case errors.Is(err, syscall.EADDRINUSE):
		f.try = "--port 0 for any free port, or stop the program that uses it"
	case errors.Is(err, fs.ErrPermission) && errors.As(err, new(*fs.PathError)): // a file: no group helps
		f.try = "sudo; or another path"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EPERM):
		f.try = thisService().admit()
	case errors.Is(err, fs.ErrNotExist):
		f.try = "another path, or make the file or the directory first"
	case errors.Is(err, syscall.EISDIR):
		f.try = "the path of a file"
	case errors.Is(err, syscall.EROFS):
		f.try = "another path; or for a daemon --read-only"
	case errors.Is(err, syscall.ENOSPC):
		f.try = "free some space on the disk"
	default: // as a daemon would answer
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

// pathOnce returns the text of an error with the path of a file once, and without the name
// of the system call.
func pathOnce(err error) string {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return err.Error()
	}
	plain := at.Path + ": " + at.Err.Error()
	text := strings.Replace(err.Error(), at.Error(), plain, 1)
	return strings.Replace(text, at.Path+": "+plain, plain, 1)
}

func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }
