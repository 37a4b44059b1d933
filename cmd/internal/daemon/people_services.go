package daemon

import (
	"maps"
	"slices"

	"anodenet/anode"
	"anodenet/cmd/internal/dns"
	"anodenet/overlay/people"
)

// The numbers of protocols in IP.
const (
	protoTCP = 6
	protoUDP = 17
)

// offers are the services that friends told us of.
type offers map[anode.Address][]dns.Service

// publishOffers has names know the services of friends, as soon as they are others.
func (s *peopleService) publishOffers() {
	next := offers{}
	for _, p := range s.core.Offers() {
		for _, x := range p.Services {
			service := dns.Service{Port: x.Port, Proto: "tcp", Type: x.Type, Name: x.Name, TXT: x.TXT}
			switch x.Proto {
			case protoTCP:
			case protoUDP:
				service.Proto = "udp"
			default:
				continue
			}
			next[p.Address] = append(next[p.Address], service)
		}
	}
	if old := s.offer.Load(); old != nil && maps.EqualFunc(*old, next, equalServices) {
		return
	}
	s.offer.Store(&next)
	if s.offered != nil {
		s.offered()
	}
}

func equalServices(a, b []dns.Service) bool {
	return slices.EqualFunc(a, b, func(x, y dns.Service) bool {
		return x.Port == y.Port && x.Proto == y.Proto && x.Type == y.Type && x.Name == y.Name && slices.Equal(x.TXT, y.TXT)
	})
}

// friendServices returns the services that friends told us of. Any goroutine may call it.
func (s *peopleService) friendServices() map[anode.Address][]dns.Service { return *s.offer.Load() }

// peopleServices returns our own services as friends are told of them.
func peopleServices(list []dns.Service) (services []people.Service) {
	for _, x := range list {
		proto := uint8(protoTCP)
		if x.Proto == "udp" {
			proto = protoUDP
		}
		services = append(services, people.Service{Name: x.Name, Type: x.Type, Proto: proto, Port: x.Port, TXT: x.TXT})
	}
	return services
}
