package daemon

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/dns"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/people"
)

// TestEqualServices: any difference is one.
func TestEqualServices(t *testing.T) {
	s := dns.Service{Port: 1, Proto: "tcp", Type: "http", Name: "web", TXT: []string{"a"}}
	if !equalServices([]dns.Service{s}, []dns.Service{s}) {
		t.Error("the same is something else")
	}
	for _, f := range []func(*dns.Service){
		func(s *dns.Service) { s.Port++ }, func(s *dns.Service) { s.Proto = "udp" }, func(s *dns.Service) { s.Type = "ssh" },
		func(s *dns.Service) { s.Name = "" }, func(s *dns.Service) { s.TXT = nil },
	} {
		o := s
		if f(&o); equalServices([]dns.Service{s}, []dns.Service{o}) {
			t.Errorf("%+v", o)
		}
	}
	if equalServices([]dns.Service{s}, nil) {
		t.Error("none is one")
	}
}

// TestPeopleServices: a service is told with its protocol's number.
func TestPeopleServices(t *testing.T) {
	got := peopleServices([]dns.Service{{Port: 1, Proto: "tcp", Type: "http"}, {Port: 2, Proto: "udp", Type: "domain", Name: "x", TXT: []string{"a"}}})
	if len(got) != 2 || got[0].Proto != protoTCP || got[1].Proto != protoUDP || got[1].Name != "x" || got[1].Port != 2 || !slices.Equal(got[1].TXT, []string{"a"}) {
		t.Errorf("%+v", got)
	}
}

// TestPublishOffers: names hear of each change of what friends offer, and of nothing else. What is of no
// protocol that a name can have is left out.
func TestPublishOffers(t *testing.T) {
	var addresses []anode.Address
	for range 3 {
		id, err := anode.NewIdentity(0)
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, id.Address())
	}
	self, north, east := addresses[0], addresses[1], addresses[2]
	b, _, err := book.Open(self, &book.Memory{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := people.Now{Wall: time.Unix(1e9, 0), Mono: mono.At(time.Hour)}
	for i, a := range addresses[1:] {
		if _, err := b.Add(a, fmt.Sprint("peer", i), nil, now.Wall); err != nil {
			t.Fatal(err)
		}
	}
	core, _, err := people.New(people.Config{
		Self: self, Book: b, Name: func() string { return "me" }, Services: func() []people.Service { return nil }, Secret: func() [32]byte { return [32]byte{} },
		Policy: func() people.Policy { return people.FromAll }, Found: func(anode.Address) []wire.Endpoint { return nil },
		Random: func(b []byte) { rand.Read(b) },
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	heard, ids := 0, byte(0)
	s := &peopleService{core: core, offered: func() { heard++ }}
	tells := func(a anode.Address, services ...string) {
		t.Helper()
		var f wire.Fields
		for _, x := range services {
			f = append(f, wire.Field{Type: wire.FieldService, Value: []byte(x)})
		}
		ids++
		now.Mono = now.Mono.Add(time.Minute)
		core.Heard(now, people.Heard{From: a, Msg: wire.TellMsg{ID: wire.TellID{7: ids}, Kind: wire.TellProfile, Body: f.Append(nil)}})
		core.Take()
		s.publishOffers()
	}
	s.publishOffers()
	before := heard
	const web, dnsOf, sctp = "\x1f\x90\x06http\x00web\x00path=/", "\x00\x35\x11domain\x00", "\x00\x35\x84domain\x00"
	tells(north, web, dnsOf, sctp)
	want := []dns.Service{{Port: 8080, Proto: "tcp", Type: "http", Name: "web", TXT: []string{"path=/"}}, {Port: 53, Proto: "udp", Type: "domain"}}
	if got := s.friendServices(); len(got) != 1 || !equalServices(got[north], want) {
		t.Errorf("%+v", got)
	}
	tells(north, web, dnsOf, sctp)
	if heard != before+1 {
		t.Errorf("names heard %d times of one change", heard-before)
	}
	tells(east, dnsOf)
	if got := s.friendServices(); len(got) != 2 || heard != before+2 {
		t.Errorf("%+v, heard %d times", got, heard-before)
	}
	kept := s.friendServices()
	tells(north, web)
	if len(kept[north]) != 2 || len(s.friendServices()[north]) != 1 {
		t.Error("what was published has changed")
	}
	if _, err := b.Block(north); err != nil {
		t.Fatal(err)
	}
	core.Decided(now, north)
	s.publishOffers()
	if got := s.friendServices(); len(got) != 1 || got[north] != nil {
		t.Errorf("of a blocked friend: %+v", got)
	}
}
