package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"anodenet/cmd/internal/daemon"
	"anodenet/overlay/people"
)

// TestOccasions: what people said elsewhere is one event, with the command that decides, and nothing in
// it can control a terminal.
func TestOccasions(t *testing.T) {
	p := fixtureStatus().Peers[0]
	about := func(kind people.EventKind, text string) daemon.Occasion {
		return daemon.Occasion{Kind: kind, Address: p.Address, Name: "ea\x1b[2Jst", Via: "north", Text: text}
	}
	asked, failed := about(people.EventFriend, ""), about(people.EventJoin, "")
	asked.Asked, failed.Failed = true, "the link was used by somebody else"
	id := p.ID.String()
	for _, c := range []struct {
		o              daemon.Occasion
		kind           eventType
		message, wants string // of Try
	}{
		{about(people.EventAsks, "hi\x07"), eventAsks, " asks to be let in, introduced by north: \"hi", "anode peers accept " + id + ", or decline"},
		{about(people.EventIntroduced, ""), eventIntroduced, " is introduced by north", "anode peers accept " + id + ", or decline"},
		{about(people.EventGuest, "0123456789abcdef"), eventGuest, " joined by your invitation 01234567", ""},
		{about(people.EventLate, "udp:10.0.0.9:8737"), eventLate, " came with a link that somebody else has used, from udp:10.0.0.9:8737", "anode invite list"},
		{about(people.EventFriend, ""), "", "", ""},
		{asked, eventFriend, " lets this machine in", ""},
		{about(people.EventLeft, ""), eventLeft, " has removed this machine", "anode peers remove " + id},
		{about(people.EventBrought, ""), eventBrought, " was let in by your machine north", ""},
		{about(people.EventTaken, ""), eventTaken, " was removed by your machine north", ""},
		{about(people.EventJoin, ""), eventFriend, " lets this machine in: the link was good", ""},
		{failed, eventJoin, " did not let this machine in, and is asked now: the link was used by somebody else", "ask for another link"},
		{about(people.EventUnanswered, ""), eventUnanswered, " did not accept within 30 days, and is asked no more", "anode peers ask " + p.Address.String()},
		{about(people.EventWithdrawn, ""), eventWithdrawn, " had withdrawn its request before you accepted it, and is let in no more", "anode peers ask " + p.Address.String()},
		{about(people.EventRefused, "ASK: not now"), eventRefused, " did not take what it was told: ASK: not now", "anode why " + id},
	} {
		e, ok := occasion(c.o)
		if ok != (c.kind != "") || e.Type != c.kind || !strings.Contains(e.Message, c.message) || e.Try != c.wants {
			t.Errorf("%s: %v %+v", c.o.Kind, ok, e)
		}
		if !ok {
			continue
		}
		var out bytes.Buffer
		e.Time = time.Unix(0, 0)
		(&eventText{out: &out, width: 80}).print(e)
		if strings.ContainsAny(out.String(), "\x1b\x07") {
			t.Errorf("%q", out.String())
		}
	}
}
