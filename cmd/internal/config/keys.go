package config

import (
	"encoding"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"anodenet/overlay/portmap"
)

// key is one scalar of a Config: its name as in the file, where its value is, and its
// comment in the example.
type key struct {
	name  string
	value value
	doc   string
}

// zoneKey is both a key and a section, which TOML does not allow: within the section it is
// written zoneID.
const (
	zoneKey = "zone"
	zoneID  = "zone.id"
)

// written is the name of a key in a file with all keys.
func (k key) written() string {
	if k.name == zoneKey {
		return zoneID
	}
	return k.name
}

// value is the value of a key.
type value interface {
	want() string      // what can be set, for an error
	set(x any) bool    // takes a value as TOML has it, unless it is not what is wanted
	parse(string) bool // takes a text of the environment or a flag
	format() string    // as TOML
	plain() any        // as JSON
	quoted() bool      // whether the file has it in quotes
}

// number is a whole number within bounds.
type number[T uint16 | int] struct {
	p         *T
	low, high int64
}

func (v number[T]) want() string { return fmt.Sprintf("a number from %d to %d", v.low, v.high) }
func (v number[T]) set(x any) bool {
	n, ok := x.(int64)
	if !ok || n < v.low || n > v.high {
		return false
	}
	*v.p = T(n)
	return true
}
func (v number[T]) parse(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && v.set(n)
}
func (v number[T]) format() string { return strconv.FormatInt(int64(*v.p), 10) }
func (v number[T]) plain() any     { return *v.p }
func (v number[T]) quoted() bool   { return false }

// truth is true or false.
type truth struct{ p *bool }

func (v truth) want() string { return "true or false" }
func (v truth) set(x any) bool {
	b, ok := x.(bool)
	if ok {
		*v.p = b
	}
	return ok
}
func (v truth) parse(s string) bool {
	b, err := strconv.ParseBool(s)
	return err == nil && v.set(b)
}
func (v truth) format() string { return strconv.FormatBool(*v.p) }
func (v truth) plain() any     { return *v.p }
func (v truth) quoted() bool   { return false }

// text is anything that is written in quotes.
type text struct {
	wanted string
	take   func(string) bool
	give   func() string
}

func (v text) want() string { return v.wanted }
func (v text) set(x any) bool {
	s, ok := x.(string)
	return ok && v.take(s)
}
func (v text) parse(s string) bool { return v.take(s) }
func (v text) format() string      { return quote(v.give()) }
func (v text) plain() any          { return v.give() }
func (v text) quoted() bool        { return true }

// list is texts, in brackets in the file, and separated by blanks or commas elsewhere.
type list struct {
	wanted string
	fit    func([]string) bool
	p      *[]string
}

func (v list) want() string { return v.wanted }
func (v list) set(x any) bool {
	items, ok := x.([]any)
	var words []string
	for _, item := range items {
		s, isText := item.(string)
		words, ok = append(words, s), ok && isText
	}
	if !ok || !v.fit(words) {
		return false
	}
	*v.p = words
	return true
}
func (v list) parse(s string) bool {
	words := append([]string(nil), listWords(s)...) // nil if there are none
	if !v.fit(words) {
		return false
	}
	*v.p = words
	return true
}

// listWords are the items of a list outside of a file: separated by commas or blanks. Those
// who write it as in the file are understood.
func listWords(s string) []string {
	if inner, ok := strings.CutPrefix(strings.TrimSpace(s), "["); ok && strings.HasSuffix(inner, "]") {
		s = strings.ReplaceAll(strings.TrimSuffix(inner, "]"), `"`, "")
	}
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func (v list) format() string {
	var quoted []string
	for _, s := range *v.p {
		quoted = append(quoted, quote(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
func (v list) plain() any   { return append([]string{}, *v.p...) }
func (v list) quoted() bool { return false }

// culprit returns what is wrong with a value of a file: its first bad item, or all of it if
// it is no list.
func (v list) culprit(x any) any {
	items, _ := x.([]any)
	for _, item := range items {
		if s, ok := item.(string); !ok || !v.fit([]string{s}) {
			return item
		}
	}
	return x
}

// networksOf are networks as package portmap reads them.
func networksOf(p *[]string) list {
	return list{
		"a list of interfaces and networks, such as [\"eth0\", \"192.168.7.0/24\"]",
		func(words []string) bool { _, err := portmap.ParsePlaces(words); return err == nil },
		p,
	}
}

// textOf is a text that its type reads and writes.
func textOf(wanted string, p interface {
	encoding.TextUnmarshaler
	encoding.TextMarshaler
}) text {
	return text{
		wanted,
		func(s string) bool { return p.UnmarshalText([]byte(s)) == nil },
		func() string {
			b, err := p.MarshalText()
			if err != nil {
				return ""
			}
			return string(b)
		},
	}
}

// wordOf is one of a few words.
func wordOf(words []string, p interface {
	encoding.TextUnmarshaler
	encoding.TextMarshaler
}) text {
	return textOf("one of "+strings.Join(words, ", "), p)
}

// interfaceName is the name of an adapter.
func interfaceName(p *string) text {
	return text{
		"an interface name: 1 to 15 characters without / : % and blanks",
		func(s string) bool {
			if !isInterface(s) {
				return false
			}
			*p = s
			return true
		},
		func() string { return *p },
	}
}

// isInterface reports whether an interface can have a name.
func isInterface(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/:%") &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError })
}

// maxInterfaces is more interfaces than a machine has use for.
const maxInterfaces = 32

// interfaces are names of interfaces.
func interfaces(p *[]string) list {
	return list{
		"a list of interface names, such as [\"eth0\"]",
		func(words []string) bool {
			return len(words) <= maxInterfaces && !slices.ContainsFunc(words, func(s string) bool {
				_, notIP := netip.ParseAddr(s)
				return !isInterface(s) || strings.ContainsAny(s, ",\"") || notIP == nil
			})
		},
		p,
	}
}

// pathOf is the path of a file.
func pathOf(p *string) text {
	return text{
		"the path of a file",
		func(s string) bool {
			if strings.ContainsRune(s, 0) {
				return false
			}
			*p = s
			return true
		},
		func() string { return *p },
	}
}

// levels are the levels of the log. A slog.Level reads and writes others as well.
var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// levelOf is a level of the log.
func levelOf(p *slog.Level) text {
	return text{
		"one of debug, info, warn, error",
		func(s string) bool {
			l, ok := levels[strings.ToLower(s)]
			if ok {
				*p = l
			}
			return ok
		},
		func() string { return strings.ToLower(p.String()) },
	}
}

// wrong is what an error says of a value that a key cannot have.
func wrong(k key, got string) string {
	if slices.Contains([]string{"secret", "proxy", "proxy_credentials"}, k.name) { // got may hold the secret itself
		return fmt.Sprintf("%s: want %s", k.name, k.value.want())
	}
	return fmt.Sprintf("%s: want %s, not %s", k.name, k.value.want(), got)
}

// wrongTOML is the same for a value of a file.
func wrongTOML(k key, x any) string {
	if l, ok := k.value.(interface{ culprit(x any) any }); ok {
		x = l.culprit(x)
	}
	got := describe(x)
	if _, isText := x.(string); !isText && k.value.quoted() {
		return fmt.Sprintf("%s: want %s, in quotes, not %s", k.name, k.value.want(), got)
	}
	return wrong(k, got)
}

// describe names a value of a file.
func describe(x any) string {
	switch x := x.(type) {
	case string:
		return "the text " + short(x)
	case int64:
		return strconv.FormatInt(x, 10)
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(x)
	case []any:
		return fmt.Sprintf("a list of %d", len(x))
	case map[string]any:
		return "a section"
	case time.Time, toml.LocalDate, toml.LocalDateTime, toml.LocalTime:
		return "a date or time"
	}
	return "that"
}

// maxShown is the most characters of a wrong text that an error repeats.
const maxShown = 80

// short quotes a text for an error, in part if it is long.
func short(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return fmt.Sprintf("%q...", string(r[:maxShown]))
	}
	return fmt.Sprintf("%q", s)
}

// sections lists the sections that have keys.
func sections(keys []key) (list []string) {
	for _, k := range keys {
		if s, _, ok := strings.Cut(k.written(), "."); ok && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// within lists the keys of a section.
func within(keys []key, section string) (list []string) {
	for _, k := range keys {
		if name := k.written(); strings.HasPrefix(name, section+".") {
			list = append(list, name)
		}
	}
	return list
}

// quote makes a basic string (TOML 1.0).
func quote(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = fmt.Appendf(b, "\\u%04x", r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return string(append(b, '"'))
}
