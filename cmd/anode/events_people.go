package main

import (
	"fmt"

	"anodenet/cmd/internal/daemon"
	"anodenet/info2"
	"anodenet/overlay/people"
)

// The events of what people said and did elsewhere.
const (
	eventAsks       eventType = "asks"       // somebody asks to be let in
	eventIntroduced eventType = "introduced" // a peer introduced somebody
	eventGuest      eventType = "guest"      // somebody came by an invitation
	eventLate       eventType = "late"       // or came too late
	eventFriend     eventType = "friend"     // a peer let this machine in
	eventLeft       eventType = "left"       // or removed it
	eventBrought    eventType = "brought"    // another machine of yours let somebody in
	eventTaken      eventType = "taken"      // or removed somebody
	eventJoin       eventType = "join"       // the link that was used let nobody in
	eventRefused    eventType = "refused"    // a peer does not take what it was told
	eventUnanswered eventType = "unanswered" // a peer that was asked never answered
	eventWithdrawn  eventType = "withdrawn"  // a peer was accepted that had withdrawn its request
)

// occasion is an event of what people said and did elsewhere. What others wrote is cleaned. It
// reports false for what another event says already.
func occasion(o daemon.Occasion) (e event, ok bool) {
	p := &eventPeer{Address: o.Address, ID: o.Address.ID(), ULA: o.Address.ULA(), Name: info2.Clean(o.Name)}
	who, decide := labelOf(p.Name, p.ID), fmt.Sprintf("anode peers accept %s, or decline", p.ID)
	e = event{Peer: p}
	switch o.Kind {
	case people.EventAsks:
		e.Type, e.Message, e.Try = eventAsks, claim(p)+" asks to be let in"+byWhom(", introduced by ", o.Via)+noteWords(o.Text), decide
	case people.EventIntroduced:
		e.Type, e.Message, e.Try = eventIntroduced, claim(p)+" is introduced"+byWhom(" by ", o.Via)+noteWords(o.Text), decide
	case people.EventGuest:
		e.Type, e.Message = eventGuest, who+" joined by your invitation "+o.Text[:min(len(o.Text), shownID)]
	case people.EventLate:
		e.Type, e.Message, e.Try = eventLate, who+" came with a link that somebody else has used"+byWhom(", from ", o.Text), "anode invite list"
	case people.EventFriend:
		if !o.Asked { // the one who accepted, joined or added knows, or is told by another event
			return event{}, false
		}
		e.Type, e.Message = eventFriend, who+" lets this machine in"
	case people.EventLeft:
		e.Type, e.Message, e.Try = eventLeft, who+" has removed this machine", "anode peers remove "+p.ID.String()
	case people.EventBrought:
		e.Type, e.Message = eventBrought, who+" was let in"+byWhom(" by your machine ", o.Via)
	case people.EventTaken:
		e.Type, e.Message = eventTaken, who+" was removed"+byWhom(" by your machine ", o.Via)
	case people.EventJoin:
		if o.Failed == "" {
			e.Type, e.Message = eventFriend, who+" lets this machine in: the link was good"
			break
		}
		e.Type, e.Message, e.Try = eventJoin, who+" did not let this machine in, and is asked now: "+o.Failed, "ask for another link"
	case people.EventUnanswered:
		e.Type, e.Message, e.Try = eventUnanswered, who+" did not accept within 30 days, and is asked no more", "anode peers ask "+o.Address.String()
	case people.EventWithdrawn:
		e.Type, e.Message, e.Try = eventWithdrawn, who+" had withdrawn its request before you accepted it, and is let in no more", "anode peers ask "+o.Address.String()
	default:
		e.Type, e.Message, e.Try = eventRefused, who+" did not take what it was told: "+info2.Clean(o.Text), "anode why "+p.ID.String()
	}
	return e, true
}

// claim names somebody who is no peer: anybody can say that it is north.
func claim(p *eventPeer) string {
	if said := saidWord(p.Name); said != "" {
		return p.ID.String() + ", who says it is " + said + ","
	}
	return p.ID.String()
}

// byWhom puts words before a name, if there is one.
func byWhom(words, name string) string {
	if name == "" {
		return ""
	}
	return words + info2.Clean(name)
}

// noteWords are what somebody who asks wrote.
func noteWords(note string) string {
	if note == "" {
		return ""
	}
	return fmt.Sprintf(": %q", info2.Clean(note))
}
