package config

import (
	"errors"
	"net"
	"strconv"
	"strings"
)

// MaxServers is the most STUN servers.
const MaxServers = 2

// Server is a server by UDP, "udp:HOST:PORT".
type Server struct{ text string }

// Servers is a list of them.
type Servers []Server

var errServer = errors.New("want udp:HOST:PORT")

// String returns the text.
func (s Server) String() string { return s.text }

// HostPort returns both parts.
func (s Server) HostPort() (host string, port uint16) {
	host, text, _ := net.SplitHostPort(strings.TrimPrefix(s.text, "udp:")) // it was read before
	n, _ := strconv.ParseUint(text, 10, 16)
	return host, uint16(n)
}

// UnmarshalText reads udp:HOST:PORT; the port must not be 0.
func (s *Server) UnmarshalText(b []byte) error {
	place, ok := strings.CutPrefix(string(b), "udp:")
	host, port, err := net.SplitHostPort(place)
	n, wrong := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || wrong != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t\"\\") {
		return errServer
	}
	s.text = string(b)
	return nil
}

// MarshalText returns the text.
func (s Server) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// servers is a value that is a list of servers.
type servers struct{ p *Servers }

func (v servers) want() string {
	return "a list of at most " + strconv.Itoa(MaxServers) + " servers, each \"udp:HOST:PORT\""
}

func (v servers) set(x any) bool {
	list, ok := x.([]any)
	texts := make([]string, 0, len(list))
	for _, e := range list {
		s, isText := e.(string)
		ok = ok && isText
		texts = append(texts, s)
	}
	return ok && v.take(texts)
}

// parse takes them separated by commas or blanks; nothing is none.
func (v servers) parse(s string) bool {
	return v.take(listWords(s))
}

func (v servers) take(texts []string) bool {
	if len(texts) > MaxServers {
		return false
	}
	list := make(Servers, len(texts))
	for k, text := range texts {
		if list[k].UnmarshalText([]byte(text)) != nil {
			return false
		}
	}
	*v.p = nil // none is as not set
	if len(list) > 0 {
		*v.p = list
	}
	return true
}

// culprit is that of list.
func (v servers) culprit(x any) any {
	items, _ := x.([]any)
	for _, item := range items {
		if s, ok := item.(string); !ok || new(Server).UnmarshalText([]byte(s)) != nil {
			return item
		}
	}
	return x
}

func (v servers) format() string {
	quoted := make([]string, 0, len(*v.p))
	for _, s := range *v.p {
		quoted = append(quoted, quote(s.text))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func (v servers) plain() any {
	list := []string{}
	for _, s := range *v.p {
		list = append(list, s.text)
	}
	return list
}

func (v servers) quoted() bool { return false }
