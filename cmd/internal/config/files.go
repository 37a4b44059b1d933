package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// Files is how this machine receives files. "anode recv" reads it, the daemon does not.
type Files struct {
	Trust []string `toml:"trust"` // peers whose offers are accepted without a question
	Dir   string   `toml:"dir"`   // "": the current one
}

// home begins a path in the home of the user.
const home = "~/"

// Folder returns the directory to receive into, for a user with a home; "": none is set.
func (f Files) Folder(homeDir func() (string, error)) (string, error) {
	rest, ok := strings.CutPrefix(f.Dir, home)
	if !ok {
		return f.Dir, nil
	}
	dir, err := homeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, rest), nil
}

// The most peers to trust, and the longest text for one: an address has 64 characters.
const (
	maxTrusted = 256
	maxPeer    = 128
)

// trusted are peers, by name, address, ULA or short ID. Which of them exist is known to the daemon alone.
func trusted(p *[]string) list {
	return list{
		"a list of peers, such as [\"laptop\", \"north\"]",
		func(words []string) bool {
			return len(words) <= maxTrusted && !slices.ContainsFunc(words, func(s string) bool {
				return s == "" || len(s) > maxPeer || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f })
			})
		},
		p,
	}
}

// directoryOf is a directory that means the same wherever a program is started, or nothing.
func directoryOf(p *string) text {
	return text{
		"a path from the root, or one that begins with ~/",
		func(s string) bool {
			if strings.ContainsRune(s, 0) || s != "" && !filepath.IsAbs(s) && !strings.HasPrefix(s, home) {
				return false
			}
			*p = s
			return true
		},
		func() string { return *p },
	}
}
