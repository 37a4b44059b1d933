package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
	"anodenet/overlay/book"
)

// maxFile is the most bytes of a configuration file.
const maxFile = 1 << 20

// Source is where a configuration comes from.
type Source struct {
	Base  func() Config // the defaults; nil: Default
	File  string        // "": none
	Maybe bool          // the file may be absent
	Env   []string      // like os.Environ(); nil: no environment
	Set   []string      // "KEY=VALUE" of --set, later ones win
	Flags []Flag        // other flags that set a key, stronger than Set; or add to "peers"
}

// Flag is a flag that sets a key: {"--port", "listen.port", "8738"}.
type Flag struct{ Flag, Key, Value string }

// Loaded is a configuration, and where each of its values comes from.
type Loaded struct {
	Config
	File string // that was to be read; "": none
	Read bool   // whether it was there

	origins  map[string]Origin
	peers    []Origin // of Config.Peers
	services []Origin // of Config.Services
}

// Origin returns where the value of a key comes from.
func (l *Loaded) Origin(key string) Origin { return l.origins[key].line() }

// PeerOrigin returns where the entry Peers[i] comes from.
func (l *Loaded) PeerOrigin(i int) Origin { return l.peers[i].line() }

// ServiceOrigin returns where the entry Services[i] comes from.
func (l *Loaded) ServiceOrigin(i int) Origin { return l.services[i].line() }

// Refuse is the error of a key whose value turned out to be of no use.
func (l *Loaded) Refuse(key, why string) error {
	return Problems{{l.origins[key], key + ": " + why}}
}

// Load reads and checks a configuration.
func (s Source) Load() (Config, error) {
	l, err := s.Read()
	return l.Config, err
}

// Read is Load with the origins. Its error is Problems, or that of reading the file.
func (s Source) Read() (Loaded, error) {
	base := Default
	if s.Base != nil {
		base = s.Base
	}
	l := newLoader(base())
	b, read, err := s.readFile()
	if err != nil {
		return Loaded{}, err
	}
	if read {
		l.parse(s.File, b)
	}
	l.environment(s.Env)
	for _, assignment := range s.Set {
		l.assign(assignment)
	}
	for _, f := range s.Flags {
		l.flag(f)
	}
	loaded, err := l.finish()
	if err != nil {
		return Loaded{}, err
	}
	loaded.File, loaded.Read = s.File, read
	return loaded, nil
}

func (s Source) readFile() (b []byte, read bool, err error) {
	if s.File == "" {
		return nil, false, nil
	}
	f, err := os.Open(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		if s.Maybe {
			return nil, false, nil
		}
		return nil, false, &unreadable{s.File + " does not exist; try: anode config example > " + s.File, err}
	}
	if err != nil {
		return nil, false, inWords(s.File, err)
	}
	defer f.Close()
	b, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, false, inWords(s.File, err)
	}
	if len(b) > maxFile {
		return nil, false, Problems{{Origin{Kind: FromFile, Name: s.File}, fmt.Sprintf("longer than %d bytes", maxFile)}}
	}
	return b, true, nil
}

// unreadable is an error of the system in other words.
type unreadable struct {
	text string
	err  error
}

func (u *unreadable) Error() string { return u.text }
func (u *unreadable) Unwrap() error { return u.err }

// inWords returns an error of opening or reading a file with the path once, and without
// the name of the system call.
func inWords(path string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return &unreadable{path + ": " + at.Err.Error(), err}
	}
	return err
}

// Parse reads a configuration file on top of the defaults. Its error is Problems.
func Parse(b []byte) (Config, error) {
	l := newLoader(Default())
	l.parse("configuration", b)
	loaded, err := l.finish()
	return loaded.Config, err
}

// loader collects a configuration and everything that is wrong with it.
type loader struct {
	config   *Config
	keys     []key
	origins  map[string]Origin
	peers    []sourced
	services []Origin        // of config.Services
	bad      map[string]bool // keys with a wrong value
	problems Problems
}

// sourced is a peer, and where its address and name come from.
type sourced struct {
	Peer
	origin, name Origin
}

func newLoader(c Config) *loader {
	l := &loader{config: &c, origins: map[string]Origin{}, bad: map[string]bool{}}
	l.keys = l.config.keys()
	return l
}

func (l *loader) key(name string) (key, bool) {
	if name == zoneID {
		name = zoneKey
	}
	i := slices.IndexFunc(l.keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return key{}, false
	}
	return l.keys[i], true
}

func (l *loader) problem(o Origin, text string) {
	l.problems = append(l.problems, Problem{o, text})
}

// wrong is the problem of a key's value, which therefore has no part in the checks of
// several keys.
func (l *loader) wrong(key string, o Origin, text string) {
	l.bad[key] = true
	l.problem(o, text)
}

// takeText sets a key from the environment or a flag.
func (l *loader) takeText(k key, o Origin, text string) {
	if k.value.parse(text) {
		l.origins[k.name] = o
		return
	}
	what := wrong(k, short(text))
	if o.Name != "--set" { // the flag or variable names the key
		what = strings.TrimPrefix(what, k.name+": ")
	}
	l.wrong(k.name, o, what)
}

// envPrefix is how the names of our variables begin.
const envPrefix = "ANODE_"

// envName is a key's variable: ANODE_LISTEN_PORT for listen.port.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// pathVariables are the variables of the flags --state, --socket and --config.
var pathVariables = []string{"ANODE_STATE", "ANODE_SOCKET", "ANODE_CONFIG"}

// inherited are variables that a program gets which Anode or its tests start, and which
// may run Anode again: of "info2 log --exec", and of tests with a seed.
var inherited = []string{"ANODE_TEXT", "ANODE_FROM", "ANODE_NAME", "ANODE_NETWORK", "ANODE_MID", "ANODE_TIME", "ANODE_SEED"}

// variables lists those that people set.
func variables(keys []key) []string {
	list := append(slices.Clone(pathVariables), envName("peers"))
	for _, k := range keys {
		list = append(list, envName(k.name))
	}
	return list
}

// environment takes the variables. One that is empty counts as not set.
func (l *loader) environment(env []string) {
	for _, assignment := range env {
		name, text, _ := strings.Cut(assignment, "=")
		if !strings.HasPrefix(name, envPrefix) || text == "" || slices.Contains(pathVariables, name) || slices.Contains(inherited, name) {
			continue
		}
		o := Origin{Kind: FromEnvironment, Name: name}
		if name == envName("peers") {
			l.peerTexts(o, strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }))
			continue
		}
		i := slices.IndexFunc(l.keys, func(k key) bool { return envName(k.name) == name })
		if i < 0 {
			l.problem(o, unknownVariable(l.keys, name))
			continue
		}
		l.takeText(l.keys[i], o, text)
	}
}

// flag takes a flag of its own.
func (l *loader) flag(f Flag) {
	o := Origin{Kind: FromFlag, Name: f.Flag}
	if f.Key == "peers" {
		l.peerTexts(o, []string{f.Value})
	} else if k, ok := l.key(f.Key); ok {
		l.takeText(k, o, f.Value)
	}
}

// peerTexts takes peers of the environment or a flag.
func (l *loader) peerTexts(o Origin, words []string) {
	for _, word := range words {
		p, err := ParsePeer(word)
		if err != nil {
			l.problem(o, err.Error())
			continue
		}
		l.add(sourced{Peer: p, origin: o, name: o})
	}
}

// assign takes KEY=VALUE of --set.
func (l *loader) assign(assignment string) {
	o := Origin{Kind: FromFlag, Name: "--set"}
	name, text, ok := strings.Cut(assignment, "=")
	name = strings.TrimSpace(name)
	k, known := l.key(name)
	switch {
	case known && ok:
		l.takeText(k, o, strings.TrimSpace(text))
	case known || !ok:
		l.problem(o, fmt.Sprintf("want KEY=VALUE, not %s", short(assignment)))
	case name == "peers" || strings.HasPrefix(name, "peers."):
		l.problem(o, "peers have a flag of their own: --peer [NAME=]ADDRESS[@udp:IP:PORT]")
	case name == "services" || strings.HasPrefix(name, "services."):
		l.problem(o, "services are set in the file alone: [[services]]")
	default:
		l.problem(o, unknownKey(l.keys, name))
	}
}

// add takes a peer from a flag or the environment. If the peer is listed already, it adds
// the endpoints to it, and replaces its name if there is one.
func (l *loader) add(p sourced) {
	i := slices.IndexFunc(l.peers, func(q sourced) bool { return q.Address == p.Address })
	if i < 0 {
		l.peers = append(l.peers, p)
		return
	}
	have := &l.peers[i]
	have.Endpoints = slices.Concat(have.Endpoints, p.Endpoints)
	if p.Name != "" {
		have.Name, have.name = p.Name, p.name
	}
}

// addOnce takes a peer of the file, which lists each once.
func (l *loader) addOnce(p sourced) {
	i := slices.IndexFunc(l.peers, func(q sourced) bool { return q.Address == p.Address })
	if i >= 0 {
		l.problem(p.origin, fmt.Sprintf("peers.address: %s appears twice, first in line %d", p.Address, l.peers[i].origin.Line))
		return
	}
	l.peers = append(l.peers, p)
}

// finish checks what concerns several keys, and returns the result.
func (l *loader) finish() (Loaded, error) {
	l.checkBridge()
	l.checkRelay()
	l.checkPorts()
	l.checkPeers()
	l.checkLocal()
	if err := l.problems.sorted(); err != nil {
		return Loaded{}, err
	}
	loaded := Loaded{Config: *l.config, origins: l.origins, services: l.services}
	for _, p := range l.peers {
		loaded.Peers = append(loaded.Peers, p.Peer)
		loaded.peers = append(loaded.peers, p.origin)
	}
	return loaded, nil
}

func (l *loader) checkBridge() {
	c := l.config.Info2
	sound := !l.bad["info2.bridge"] && !l.bad["info2.enabled"] && !l.bad["info2.bare"]
	if sound && c.Bridge && !(c.Enabled && c.Bare) {
		l.problem(l.origins["info2.bridge"], "info2.bridge: a bridge has two ends: set info2.enabled and info2.bare as well")
	}
}

func (l *loader) checkRelay() {
	c := l.config.Relay
	if !l.bad["relay.zone"] && !l.bad["relay.enabled"] && c.Zone && !c.Enabled {
		l.problem(l.origins["relay.zone"], "relay.zone: needs relay.enabled as well")
	}
}

// checkPorts refuses a TCP port for packets that Info2 needs.
func (l *loader) checkPorts() {
	c := l.config
	sound := !l.bad["listen.tcp"] && !l.bad["info2.port"] && !l.bad["info2.enabled"] && !l.bad["info2.bare"]
	if sound && (c.Info2.Enabled || c.Info2.Bare) && slices.Contains(c.Listen.TCP.For(c.Listen.Port), c.Info2.Port) {
		at := l.origins["listen.tcp"]
		if !c.Listen.TCP.given {
			at = l.origins["listen.port"]
		}
		l.problem(at, fmt.Sprintf("listen.tcp: port %d is that of info2.port; try: another port in listen.tcp, or info2.enabled = false", c.Info2.Port))
	}
}

func (l *loader) checkPeers() {
	owners := map[string]anode.Address{}
	for _, p := range l.peers {
		if other, taken := owners[p.Name]; taken && p.Name != "" {
			l.problem(p.name, fmt.Sprintf("peers.name: two peers are named %q, the other is %s", p.Name, other))
		}
		owners[p.Name] = p.Address
		e := p.Entry()
		if n := len(e.Endpoints); n > book.MaxEndpoints {
			l.problem(p.origin, fmt.Sprintf("peers.endpoints: %d are more than the %d that a peer can have", n, book.MaxEndpoints))
		}
		if n := len(e.Hosts); n > book.MaxHosts {
			l.problem(p.origin, fmt.Sprintf("peers.endpoints: %d host names are more than the %d that a peer can have", n, book.MaxHosts))
		}
	}
}

// ParsePeer reads [NAME=]ADDRESS or [NAME=]ADDRESS@ENDPOINT, as in --peer and
// ANODE_PEERS; more endpoints may follow, as book.ParsePlaces reads them.
func ParsePeer(s string) (p Peer, err error) {
	if name, rest, named := strings.Cut(s, "="); named && !strings.Contains(name, "@") {
		if err := book.CheckName(name); err != nil {
			return Peer{}, err
		}
		p.Name, s = name, rest
	}
	address, rest, more := strings.Cut(s, "@")
	if p.Address, err = parseAddress(address); errors.Is(err, errNoAddress) {
		return Peer{}, fmt.Errorf("want [NAME=]ADDRESS[@udp:IP:PORT], not %s", short(s))
	} else if err != nil {
		return Peer{}, err
	}
	if more {
		p.Endpoints, err = book.ParsePlaces(rest)
	}
	return p, err
}

var errNoAddress = errors.New("want an address of 64 characters, as shown by \"anode id\"")

// parseAddress reads an address as people write it. Its error is errNoAddress, or tells
// what is wrong with one that was not copied well.
func parseAddress(s string) (anode.Address, error) {
	a, err := names.Whole(s)
	switch {
	case errors.Is(err, names.ErrMalformed):
		what, _, _ := strings.Cut(err.Error(), "; try: ")
		return a, errors.New(what)
	case err != nil:
		return a, fmt.Errorf("%w, not %s", errNoAddress, short(s))
	}
	return a, nil
}
