package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"anodenet/anode"
	"anodenet/anode/private"
	"anodenet/cmd/internal/chat"
	"anodenet/overlay/book"
	"anodenet/overlay/store"
)

// NoState in the place of a state directory means that nothing is read and nothing kept.
const NoState = "none"

// ErrNoIdentity says that a state directory has no identity, and never had one.
var ErrNoIdentity = errors.New("there is no identity yet")

// ErrIdentityLost says that a state directory has the peers of an identity, and not the
// identity.
var ErrIdentityLost = errors.New("the identity file is missing")

// identityFile is the identity's name within the state directory.
const identityFile = "identity"

// Names of values in the database.
const (
	metaIdentity = "identity" // the address that the database belongs to
	metaPeerID   = "peer-id"  // what a node of an earlier version left
)

// state is what a node keeps, for good or for one run.
type state interface {
	book.Store
	chat.Store
	Close() error
}

// LoadIdentity loads the identity of a state directory. Without one, its error wraps
// ErrNoIdentity, or ErrIdentityLost if there was one.
func LoadIdentity(dir string) (*anode.Identity, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	id, err := anode.LoadIdentity(filepath.Join(dir, identityFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	s, err := store.Read(dir)
	if s == nil {
		return nil, err // a daemon may have it
	}
	if err := checkLost(dir, s, err != nil); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %w", dir, ErrNoIdentity)
}

// Identity loads the identity of a state directory, or makes one in the zone if there was
// none.
func Identity(dir string, zone anode.Zone) (id *anode.Identity, made bool, err error) {
	id, err = LoadIdentity(dir)
	if !errors.Is(err, ErrNoIdentity) {
		return id, false, err
	}
	if err := makeDir(dir); err != nil {
		return nil, false, err
	}
	return makeIdentity(dir, zone)
}

func makeIdentity(dir string, zone anode.Zone) (id *anode.Identity, made bool, err error) {
	path := filepath.Join(dir, identityFile)
	id, made, err = anode.LoadOrCreateIdentity(path, zone)
	var system *fs.PathError
	if errors.As(err, &system) {
		return nil, false, withRemedy(dir, fmt.Errorf("%s: it cannot be written: %w", path, system.Err))
	}
	return id, made, err
}

// OpenStore opens the database of a state directory for writing, and makes both if they
// do not exist.
func OpenStore(dir string) (*store.Store, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	s, err := store.Open(dir)
	return s, withRemedy(dir, err)
}

// makeDir makes a state directory, but none of those above it: a path with a mistake in
// it should not become one. Its mode is 0700.
func makeDir(dir string) error {
	if dir == "" {
		return checkDir(dir)
	}
	err := os.Mkdir(dir, 0o700)
	above := filepath.Dir(filepath.Clean(dir))
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return checkDir(dir)
	case errors.Is(err, fs.ErrNotExist) && !isDir(above):
		return fmt.Errorf("%s: the directory %s does not exist; try: mkdir -p %s", dir, above, above)
	case isDir(dir):
		return checkDir(dir) // it exists, on a disk that is read-only
	}
	return withRemedy(dir, err)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkDir refuses a directory that others can write to, unless it does not exist.
func checkDir(dir string) error {
	if dir == "" {
		return errors.New("the state directory has no name; try: --state DIR")
	}
	f, err := private.OpenDir(dir, private.NotSticky)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return &private.Error{Path: dir, Problem: "not a directory", Try: "another --state DIR"}
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// withRemedy says what to do about a disk that cannot be written.
func withRemedy(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; try: --read-only, which keeps what changes in memory; or --state DIR elsewhere; or --state none", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w; try: sudo; or --state DIR and --socket PATH where this user can write", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; try: make room on the disk of %s; or --state DIR elsewhere", err, dir)
	}
	return err
}

// checkLost returns an error that wraps ErrIdentityLost if a directory without an identity
// has the peers of one. In a database that is damaged the peers alone decide.
func checkLost(dir string, s book.Store, damaged bool) error {
	c, err := s.Load()
	if err != nil {
		return err
	}
	used := damaged
	for _, name := range []string{metaIdentity, metaPeerID} {
		v, err := s.Meta(name)
		if err != nil {
			return err
		}
		used = used || len(v) > 0
	}
	if !used || len(c.Entries) == 0 {
		return nil
	}
	path := filepath.Join(dir, identityFile)
	return fmt.Errorf("%w: %s does not exist, but state.db beside it has peers (%d); try: restore it from a backup; or remove %s to start as a new machine",
		ErrIdentityLost, path, len(c.Entries), filepath.Join(dir, "state.db"))
}

// Mark notes in a database which address it belongs to, and returns the one that it
// belonged to before if that is another.
func Mark(s book.Store, own anode.Address) (before string, err error) {
	v, err := s.Meta(metaIdentity)
	text := []byte(own.String())
	if err != nil || bytes.Equal(v, text) {
		return "", err
	}
	return string(v), s.PutMeta(metaIdentity, text)
}

// openState opens what the options name, and reports in the log what a person should know
// about it.
func openState(o Options, zone anode.Zone, log *slog.Logger) (state, *anode.Identity, error) {
	switch {
	case o.State == NoState:
		log.Warn("nothing is kept: this address and the peers that are added end with this process", "state", NoState)
		id, err := anode.NewIdentity(zone)
		return &store.Memory{}, id, err
	case o.ReadOnly:
		return openReadOnly(o.State, log)
	}
	s, err := OpenStore(o.State)
	if err != nil {
		return nil, nil, err
	}
	id, err := ownIdentity(o, zone, s, log)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, id, nil
}

// ownIdentity loads or makes the identity for a database.
func ownIdentity(o Options, zone anode.Zone, s *store.Store, log *slog.Logger) (*anode.Identity, error) {
	repair := s.Repaired()
	if repair != nil {
		log.Error("the database was damaged", "err", repair)
	}
	id, err := anode.LoadIdentity(filepath.Join(o.State, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := checkLost(o.State, s, repair != nil); err != nil {
			return nil, err
		}
		var made bool
		id, made, err = makeIdentity(o.State, zone)
		if made {
			log.Info("made a new identity", "state", o.State, "address", id.Address())
			if o.Made != nil {
				o.Made(o.State)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	before, err := Mark(s, id.Address())
	switch {
	case err != nil:
		log.Warn("the database cannot be written; it will be retried with each change", "err", err)
	case before != "":
		log.Warn("the identity is another one than at the last start", "was", before, "is", id.Address())
	}
	return id, nil
}

// openReadOnly reads a state directory, and writes nothing to it.
func openReadOnly(dir string, log *slog.Logger) (state, *anode.Identity, error) {
	id, err := LoadIdentity(dir)
	if errors.Is(err, ErrNoIdentity) {
		err = fmt.Errorf("%w; try: a first start without --read-only, which makes one", err)
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := store.Read(dir)
	switch {
	case errors.Is(err, store.ErrDamaged):
		log.Error("the database is damaged; what can be read is used", "err", err)
	case err != nil:
		return nil, nil, err
	}
	log.Warn("the state is only read: peers that are added and texts that are said end with this process", "state", dir)
	return m, id, nil
}
