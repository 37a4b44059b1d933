package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
)

func TestPathOnce(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/x/state.db", Err: syscall.EACCES}
	for _, test := range []struct {
		err  error
		want string
	}{
		{denied, "/x/state.db: permission denied"},
		{fmt.Errorf("/x/state.db: %w", denied), "/x/state.db: permission denied"},
		{fmt.Errorf("the network's secret: %w", denied), "the network's secret: /x/state.db: permission denied"},
		{errors.New("open the door"), "open the door"},
	} {
		if got := explain(test.err).message; got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// TestExplainAdvice gives what cannot be opened, made or asked one piece of advice each.
func TestExplainAdvice(t *testing.T) {
	file := func(err error) error { return &fs.PathError{Op: "open", Path: "/x", Err: err} }
	for _, test := range []struct {
		err  error
		want failure
	}{
		{file(syscall.EACCES), failure{exitFailed, "/x: permission denied", "sudo; or another path"}},
		{file(syscall.ENOENT), failure{exitFailed, "/x: no such file or directory", "another path, or make the file or the directory first"}},
		{file(syscall.EISDIR), failure{exitFailed, "/x: is a directory", "the path of a file"}},
		{file(syscall.EROFS), failure{exitFailed, "/x: read-only file system", "another path; or for a daemon --read-only"}},
		{file(syscall.ENOSPC), failure{exitFailed, "/x: no space left on device", "free some space on the disk"}},
		{fmt.Errorf("/x.sock: %w", fs.ErrPermission), failure{exitFailed, "/x.sock: permission denied", thisService().admit()}},
		{fmt.Errorf("%w (/x.sock)", control.ErrSilent), failure{exitFailed, "the daemon does not answer (/x.sock)", "anode doctor"}},
	} {
		if got := *explain(test.err); got != test.want {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
}

// TestExplainProblems keeps a line for each problem of a configuration; only what stands on
// the command line is wrong usage.
func TestExplainProblems(t *testing.T) {
	file := config.Problem{Origin: config.Origin{Kind: config.FromFile, Name: "f", Line: 2, Column: 3}, Text: "a: b"}
	flag := config.Problem{Origin: config.Origin{Kind: config.FromFlag, Name: "--set"}, Text: "c"}
	for _, test := range []struct {
		problems config.Problems
		want     failure
	}{
		{config.Problems{file}, failure{exitFailed, "f:2:3: a: b", "anode config example"}},
		{config.Problems{file, flag}, failure{exitUsage, "f:2:3: a: b\n--set: c", "anode config example"}},
	} {
		if got := *explain(test.problems); got != test.want {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
}
