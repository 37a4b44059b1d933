package dns

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of services.
const (
	MaxServices = 16  // of one machine
	maxType     = 15  // characters (RFC 6335)
	maxLabel    = 63  // bytes (RFC 1035)
	maxText     = 255 // bytes of a text
	maxTexts    = 400 // bytes of all texts, each with its length (RFC 6763, 6.2)
	textsMost   = 8   // of a service, as friends are told
	// MaxSize bounds the sum of all Sizes of one machine, so that what tells friends of them has room.
	MaxSize = 3 << 10
)

// Size returns how many bytes tell a friend of the service.
func (s Service) Size() int {
	n := 4 + 2 + 1 + len(s.Type) + 1 + len(s.Name) // field, port, protocol
	for _, t := range s.TXT {
		n += 1 + len(t)
	}
	return n
}

// Check reports why a service cannot be told, in words.
func (s Service) Check() error {
	switch {
	case s.Port == 0:
		return errors.New("port: want 1 to 65535")
	case s.Proto != "tcp" && s.Proto != "udp":
		return errors.New("proto: want tcp or udp")
	case !typeFits(s.Type):
		return errors.New("type: want 1 to 15 letters a-z, digits and - between them, such as http or ssh")
	case s.Name != "" && !labelFits(s.Name):
		return errors.New("name: want small letters a-z, digits, - and _, at most 63, and a letter or digit first")
	}
	return s.checkTXT()
}

func (s Service) checkTXT() error {
	if len(s.TXT) > textsMost {
		return errors.New("txt: more than 8 texts")
	}
	sum := 0
	for _, t := range s.TXT {
		sum += 1 + len(t)
		if len(t) == 0 || len(t) > maxText || !utf8.ValidString(t) || strings.ContainsFunc(t, unprintable) || strings.Trim(t, " ") != t {
			return errors.New("txt: want texts such as \"path=/\" of 1 to 255 bytes, printable, without spaces around them")
		}
	}
	if sum > maxTexts {
		return errors.New("txt: the texts are longer than 400 bytes together")
	}
	return nil
}

// unprintable reports whether a rune is none that people see. Friends do not take texts with such.
func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

func typeFits(t string) bool {
	if t == "" || len(t) > maxType || t[0] == '-' || t[len(t)-1] == '-' {
		return false
	}
	for _, c := range []byte(t) {
		if !small(c) && c != '-' {
			return false
		}
	}
	return true
}

func labelFits(name string) bool {
	for i, c := range []byte(name) {
		if !small(c) && (i == 0 || c != '-' && c != '_') {
			return false
		}
	}
	return len(name) <= maxLabel
}

func small(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// kind returns the labels of its type: _http._tcp.
func (s Service) kind() string { return "_" + s.Type + "._" + s.Proto }

// instance returns the labels of the service in front of its machine's. One without a name is
// called by its type.
func (s Service) instance() string { return s.label() + "." + s.kind() }

func (s Service) label() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Type
}

// Clashes reports whether two services of one machine have the same name.
func (s Service) Clashes(other Service) bool { return s.instance() == other.instance() }
