package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// ErrInvalid means that a configuration cannot be used. Every error of Load is one,
// except those of opening and reading the file.
var ErrInvalid = errors.New("the configuration is not valid")

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Origin Origin // where it was written
	Text   string // "KEY: what is wrong"
}

// String returns where and what: "anode.toml:3:8: listen.port: want ...".
func (p Problem) String() string { return p.Origin.String() + ": " + p.Text }

// Problems is everything that is wrong with a configuration: the file's problems in the order
// of their lines, then those of the environment and of flags. It is an error that wraps
// ErrInvalid.
type Problems []Problem

// Error returns all problems, a line each.
func (list Problems) Error() string {
	lines := make([]string, len(list))
	for i, p := range list {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes every list wrap ErrInvalid.
func (list Problems) Unwrap() error { return ErrInvalid }

// Usage reports whether the command line has a part in it.
func (list Problems) Usage() bool {
	return slices.ContainsFunc(list, func(p Problem) bool { return p.Origin.Kind == FromFlag })
}

// sorted returns the list in its order, or nil as an error if it is empty.
func (list Problems) sorted() error {
	if len(list) == 0 {
		return nil
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := &list[i].Origin, &list[j].Origin
		return cmp.Or(
			cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Name, b.Name),
		) < 0
	})
	return list
}

// Kind is the kind of an Origin.
type Kind uint8

// The origins, from the weakest to the strongest.
const (
	FromDefault Kind = iota
	FromFile
	FromEnvironment
	FromFlag
)

var kinds = [...]string{FromDefault: "default", FromFile: "file", FromEnvironment: "environment", FromFlag: "flag"}

// String returns the word for a kind.
func (k Kind) String() string { return kinds[k] }

// MarshalText returns the word for a kind.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Origin is where a value comes from.
type Origin struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name,omitempty"` // of the file, the variable or the flag
	Line   int    `json:"line,omitempty"` // of a file, from 1
	Column int    `json:"-"`
}

// String returns "default", "FILE:LINE:COLUMN", "environment ANODE_X" or "--flag".
func (o Origin) String() string {
	switch {
	case o.Kind == FromDefault:
		return o.Kind.String()
	case o.Kind == FromEnvironment:
		return "environment " + o.Name
	case o.Kind == FromFile && o.Column > 0:
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Column)
	case o.Kind == FromFile && o.Line > 0:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	}
	return o.Name
}

// line returns the origin without the column.
func (o Origin) line() Origin {
	o.Column = 0
	return o
}
