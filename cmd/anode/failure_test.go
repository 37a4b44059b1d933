package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"anodenet/cmd/internal/config"
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
