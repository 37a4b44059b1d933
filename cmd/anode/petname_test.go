package main

import (
	"strings"
	"testing"

	"anodenet/cmd/internal/control"
	"anodenet/overlay/book"
)

func TestNearName(t *testing.T) {
	for text, want := range map[string]string{
		"North Pole": "north-pole", " North\n": "north", "a_b": "a-b", "-x": "x", "_": "", "": "", "Bob's PC!": "bob-s-pc", "a__b--c": "a-b-c",
		"Müller": "", "self": "", "ID": "", "81CFFBA71D231227": "", strings.Repeat("x", book.MaxName-1) + "_yz": strings.Repeat("x", book.MaxName-1), strings.Repeat("Z", 99): strings.Repeat("z", book.MaxName),
		westAddress.String(): "",
	} {
		got := nearName(text)
		if got != want || got != "" && book.CheckName(got) != nil {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestInviteFailure(t *testing.T) {
	f := explain(inviteFailure(&control.Error{Code: control.CodeTaken, Message: book.ErrTaken.Error(), Try: "south-2"}, "south"))
	if f.message != `you have a peer named "south"` || f.try != "anode invite south-2; to let south itself in again: anode invite" || f.exit != exitFailed {
		t.Errorf("%+v", f)
	}
	if f := explain(inviteFailure(control.ErrNoDaemon, "south")); f.exit != exitNoDaemon {
		t.Errorf("%+v", f)
	}
}
