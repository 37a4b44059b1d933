package config

import (
	"fmt"
	"slices"
	"strings"

	"anodenet/cmd/internal/names"
)

// peerKeys are the keys of an entry of [[peers]].
var peerKeys = []string{"peers.address", "peers.name", "peers.endpoints", "peers.lan"}

// unknownKey is what an error says of a key that does not exist.
func unknownKey(keys []key, name string) string {
	if list := within(keys, name); len(list) > 0 {
		return fmt.Sprintf("%q is a section; its keys are %s", name, strings.Join(list, ", "))
	}
	known := slices.Clone(peerKeys)
	if strings.HasPrefix(name, "services.") { // the word port alone means others
		known = serviceKeys
	}
	for _, k := range keys {
		known = append(known, k.written())
	}
	known = append(known, zoneKey)
	return meant(fmt.Sprintf("unknown key %q", name), name, known)
}

// unknownSection is what an error says of a section that does not exist.
func unknownSection(keys []key, name string) string {
	return meant(fmt.Sprintf("unknown section %q", name), name, append(sections(keys), "peers", "services"))
}

// unknownVariable is what an error says of a variable that begins with ANODE_ and that
// nothing reads.
func unknownVariable(keys []key, variable string) string {
	name := strings.TrimPrefix(variable, envPrefix)
	var known, section []string
	for _, v := range variables(keys) {
		v = strings.TrimPrefix(v, envPrefix)
		known = append(known, v)
		if strings.HasPrefix(v, name+"_") {
			section = append(section, envPrefix+v)
		}
	}
	if len(section) > 0 {
		return "unknown variable; did you mean " + strings.Join(section, " or ") + "?"
	}
	if near := nearest(name, known); near != "" {
		return "unknown variable; did you mean " + envPrefix + near + "?"
	}
	return "unknown variable"
}

// meant adds the name that was probably meant, if there is one: the nearest, or those that
// end with the same word (port: listen.port, info2.port), which come first for a single word.
func meant(problem, name string, known []string) string {
	var list []string
	last := strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	for _, k := range known {
		if last != "" && strings.HasSuffix(k, "."+last) {
			list = append(list, k)
		}
	}
	if near := nearest(name, known); near != "" && (len(list) == 0 || strings.Contains(name, ".")) {
		list = []string{near}
	}
	if len(list) == 0 {
		return problem
	}
	for i, k := range list {
		list[i] = fmt.Sprintf("%q", k)
	}
	return problem + "; did you mean " + strings.Join(list, " or ") + "?"
}

// nearest returns the word that differs least from a name, apart from capitals, - and _;
// never the name itself.
func nearest(name string, known []string) string {
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	folded := make([]string, 0, len(known))
	others := make([]string, 0, len(known))
	for _, k := range known {
		if k != name {
			others = append(others, k)
			folded = append(folded, fold(k))
		}
	}
	near := names.Nearest(fold(name), folded)
	if i := slices.Index(folded, near); near != "" && i >= 0 {
		return others[i]
	}
	return ""
}
