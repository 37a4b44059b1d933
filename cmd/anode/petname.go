package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	if name := book.NameFrom(text, book.MaxName); book.CheckName(name) == nil {
		return name
	}
	return ""
}

// noteUnderscore says that some programs do not take a name, if it has a "_". try is the command
// that gives another one.
func (a *app) noteUnderscore(ctx context.Context, client *control.Client, name string, try func(near string) string) {
	near := nearName(name)
	if !strings.Contains(name, "_") || near == "" {
		return
	}
	fmt.Fprintf(a.err, "note: browsers do not take %s.%s, because of the \"_\"\ntry: %s\n", name, suffixOf(ctx, client), try(near))
}

// inviteFailure names the peer that has the name of an invitation already.
func inviteFailure(err error, name string) error {
	var remote *control.Error
	if errors.As(err, &remote) && remote.Code == control.CodeTaken {
		return &failure{exitOf(remote.Code), fmt.Sprintf("you have another peer named %q", name), "anode invite " + remote.Try}
	}
	return err
}
