package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"anodenet/cmd/internal/names"
)

// maxFile is the most bytes of a configuration file.
const maxFile = 1 << 20

// Source is where a configuration comes from.
type Source struct {
	Base  func() Config                    // the defaults; nil: Default
	File  string                           // "": none
	Maybe bool                             // the file may be absent
	Env   func(name string) (string, bool) // like os.LookupEnv; nil: no environment
	Set   []string                         // "KEY=VALUE" of flags, later ones win
	Peers []Peer                           // of flags, in addition to the others
}

// Load reads and checks a configuration.
func (s Source) Load() (Config, error) {
	c := Default()
	if s.Base != nil {
		c = s.Base()
	}
	if err := s.loadFile(&c); err != nil {
		return Config{}, err
	}
	if err := s.loadEnv(&c); err != nil {
		return Config{}, err
	}
	for _, assignment := range s.Set {
		if err := c.assign(assignment); err != nil {
			return Config{}, err
		}
	}
	for _, p := range s.Peers {
		c.add(p)
	}
	return c, c.check()
}

func (s Source) loadFile(c *Config) error {
	if s.File == "" {
		return nil
	}
	f, err := os.Open(s.File)
	if errors.Is(err, fs.ErrNotExist) && s.Maybe {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, s.File, maxFile)
	}
	if err := c.parse(b); err != nil {
		return fmt.Errorf("%s: %w", s.File, err)
	}
	return nil
}

// Parse reads a configuration file on top of the defaults.
func Parse(b []byte) (Config, error) {
	c := Default()
	if err := c.parse(b); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

func (c *Config) parse(b []byte) error {
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(c)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		first := unknown.Errors[0]
		line, _ := first.Position()
		return fmt.Errorf("line %d: %w", line, c.unknown(strings.Join(first.Key(), ".")))
	case errors.As(err, &wrong):
		line, column := wrong.Position()
		return fmt.Errorf("line %d, column %d: %w: %s", line, column, ErrInvalid, strings.TrimPrefix(wrong.Error(), "toml: "))
	case err != nil:
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func (s Source) loadEnv(c *Config) error {
	if s.Env == nil {
		return nil
	}
	for _, k := range c.keys() {
		name := envName(k.name)
		text, ok := s.Env(name)
		if !ok {
			continue
		}
		if err := set(k.value, text); err != nil {
			return fmt.Errorf("environment: %s: %w: %w", name, ErrInvalid, err)
		}
	}
	text, _ := s.Env(envName("peers"))
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := ParsePeer(word)
		if err != nil {
			return fmt.Errorf("environment: %s: %w: %w", envName("peers"), ErrInvalid, err)
		}
		c.add(p)
	}
	return nil
}

// add takes a peer from a flag or the environment. If the peer is listed already, it adds
// the endpoints to it.
func (c *Config) add(p Peer) {
	for i := range c.Peers {
		if c.Peers[i].Address == p.Address {
			// A copy: the slice may be shared with the Source.
			e := append(c.Peers[i].Endpoints[:len(c.Peers[i].Endpoints):len(c.Peers[i].Endpoints)], p.Endpoints...)
			c.Peers[i].Endpoints = e
			return
		}
	}
	c.Peers = append(c.Peers, p)
}

// assign takes KEY=VALUE.
func (c *Config) assign(assignment string) error {
	name, text, ok := strings.Cut(assignment, "=")
	if !ok {
		return fmt.Errorf("%w: %q: want KEY=VALUE", ErrInvalid, assignment)
	}
	name = strings.TrimSpace(name)
	for _, k := range c.keys() {
		if k.name == name {
			if err := set(k.value, strings.TrimSpace(text)); err != nil {
				return fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
			}
			return nil
		}
	}
	return c.unknown(name)
}

// unknown is the error of a key that does not exist.
func (c *Config) unknown(name string) error {
	known := []string{"peers.address", "peers.name", "peers.endpoints"}
	for _, k := range c.keys() {
		known = append(known, k.name)
		if section, _, ok := strings.Cut(k.name, "."); ok {
			known = append(known, section)
		}
	}
	if near := names.Nearest(name, known); near != "" {
		return fmt.Errorf("%w: unknown key %q; did you mean %q?", ErrInvalid, name, near)
	}
	return fmt.Errorf("%w: unknown key %q", ErrInvalid, name)
}

// envName is a key's variable: ANODE_LISTEN_PORT for listen.port.
func envName(key string) string {
	return "ANODE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Example returns a file with every key, its meaning, and its default, commented out.
func Example() string {
	var b strings.Builder
	b.WriteString("# Anode's configuration. Every key is optional; the values below are the defaults.\n" +
		"# The environment (ANODE_LISTEN_PORT=8737) and flags (--port 8737) override it.\n")
	c := Default()
	section := ""
	for _, k := range c.keys() {
		name := k.name
		if s, rest, ok := strings.Cut(k.name, "."); ok {
			if s != section {
				section = s
				fmt.Fprintf(&b, "\n[%s]\n", s)
			}
			name = rest
		} else {
			b.WriteByte('\n')
		}
		for line := range strings.Lines(k.doc) {
			fmt.Fprintf(&b, "# %s\n", strings.TrimSuffix(line, "\n"))
		}
		fmt.Fprintf(&b, "%s = %s\n", name, format(k.value))
	}
	b.WriteString("\n# Peers that are added while they are listed here; \"anode peers add\" adds them for good.\n" +
		"# [[peers]]\n" +
		"# address = \"64 characters, as shown by anode id\"\n" +
		"# name = \"north\"\n" +
		"# endpoints = [\"udp:192.0.2.1:8737\"]\n")
	return b.String()
}
