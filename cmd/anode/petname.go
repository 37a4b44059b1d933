package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay/book"
)

// checkPetname refuses a text that is no name for a peer, and offers one that is like it; an empty
// text is no name.
func checkPetname(name string) error {
	if name == "" {
		return nil
	}
	err := book.CheckName(name)
	if err == nil {
		return nil
	}
	try := "a name such as north or laptop-2"
	if near := nearName(name); near != "" {
		try = "the name " + near
	}
	return &failure{exitUsage, err.Error(), try}
}

// nearName returns a name for a peer that is like a text; "" if none is. Of letters of other alphabets, a
// person knows better.
func nearName(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
		return ""
	}
	if _, err := anode.ParseAddress(text); err == nil {
		return ""
	}
	if name := book.NameFrom(text, book.MaxName); book.CheckName(name) == nil {
		return name
	}
	return ""
}

// noteUnusual says that some programs do not take a name, if it has a "_", or a "-" at its end. try is the command
// that gives another one.
func (a *app) noteUnusual(ctx context.Context, client *control.Client, name string, try func(near string) string) {
	near, who, what := nearName(name), "browsers", `the "_"`
	switch {
	case near == "":
		return
	case strings.HasSuffix(name, "-"):
		who, what = "some programs", `the "-" at its end`
	case !strings.Contains(name, "_"):
		return
	}
	fmt.Fprintf(a.err, "note: %s do not take %s.%s, because of %s\ntry: %s\n", who, name, suffixOf(ctx, client), what, try(near))
}

// inviteFailure names the peer that has the name of an invitation already.
func inviteFailure(err error, name string) error {
	var remote *control.Error
	if errors.As(err, &remote) && remote.Code == control.CodeTaken {
		return &failure{exitOf(remote.Code), fmt.Sprintf("you have a peer named %q", name),
			"anode invite " + remote.Try + "; to let " + name + " itself in again: anode invite"}
	}
	return err
}
