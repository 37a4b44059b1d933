package daemon

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"anodenet/anode/whole"
	"anodenet/cmd/internal/config"
)

// secretFile is where the state directory has the network's secret that an invitation brought. It is used
// where the configuration names none.
const secretFile = "secret"

// secret is the network's secret.
type secret struct {
	fixed bool   // the configuration names it
	path  string // empty: it is not kept

	mu    sync.Mutex
	value [32]byte // guarded by mu; zeros: none
}

// openSecret reads the secret of the configuration, or else that of the state directory.
func openSecret(c config.Secret, o Options) (*secret, error) {
	value, err := c.Load()
	s := &secret{fixed: c.Path != "", value: value}
	if s.fixed || err != nil || o.State == NoState {
		return s, err
	}
	path := filepath.Join(o.State, secretFile)
	if !o.ReadOnly {
		s.path = path
	}
	s.value, err = config.Secret{Path: path}.Load()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return s, err
}

// errInUse says that this machine is in a network with another secret. Sessions with the issuer need both
// machines to have the same one.
var errInUse = errors.New("this machine is in a network with another secret; try: the same secret on both machines, or no secret here")

// get returns the secret.
func (s *secret) get() [32]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value
}

// set takes a secret that an invitation brought, and keeps it. It reports whether it is new. The error says that it is
// not kept; with errInUse it is not taken at all, because there is another.
func (s *secret) set(value [32]byte) (taken bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.value == value:
		return false, nil
	case s.fixed, s.value != [32]byte{}:
		return false, errInUse
	}
	s.value = value
	if s.path != "" {
		err = whole.Replace(s.path, []byte(hex.EncodeToString(value[:])+"\n"))
	}
	return true, err
}
