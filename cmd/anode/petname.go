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

// nearName returns a name for a peer that is like a text; "" if none is.
func nearName(text string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(text)) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case r > '~': // of letters of other alphabets, a person knows better
			return ""
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := b.String()
	name = strings.TrimRight(name[:min(len(name), book.MaxName)], "-")
	if book.CheckName(name) != nil {
		return ""
	}
	return name
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
	if errors.As(err, &remote) && remote.Message == book.ErrTaken.Error() {
		return &failure{exitOf(remote.Code), fmt.Sprintf("you have another peer named %q", name), "anode invite " + remote.Try}
	}
	return err
}
