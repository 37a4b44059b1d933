package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"anodenet/anode"
	"anodenet/anode/whole"
)

// Joined is what JoinZone did.
type Joined struct {
	Before anode.Address `json:"before"` // zero: there was no identity
	After  anode.Address `json:"address"`
	Kept   string        `json:"kept"` // the file with the earlier identity; empty: none
}

// JoinZone gives a state directory an address in a zone: that of its key in that zone, or of
// a new key if there is none. The earlier identity is kept in a file beside it, and the peers
// stay. It fails with store.ErrStateBusy while a daemon uses the directory. A key has one
// address in each zone, so whoever joins an earlier zone again has the earlier address.
func JoinZone(dir string, z anode.Zone) (j Joined, err error) {
	s, err := OpenStore(dir) // nobody else uses it meanwhile
	if err != nil {
		return Joined{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	path := filepath.Join(dir, identityFile)
	id, err := anode.LoadIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := checkLost(dir, s, s.Repaired() != nil); err != nil {
			return Joined{}, err
		}
		made, _, err := makeIdentity(dir, z)
		if err != nil {
			return Joined{}, err
		}
		_, err = Mark(s, made.Address())
		return Joined{After: made.Address()}, err
	}
	if err != nil {
		return Joined{}, err
	}
	if id.Address().Zone() == z {
		return Joined{Before: id.Address(), After: id.Address()}, nil
	}
	next := id.InZone(z)
	kept, err := keepIdentity(dir, id)
	if err != nil {
		return Joined{}, withRemedy(dir, err)
	}
	whole.Sweep(path, time.Now())
	if err := whole.Replace(path, []byte(next.Export()+"\n")); err != nil {
		return Joined{}, withRemedy(dir, err)
	}
	_, err = Mark(s, next.Address())
	return Joined{id.Address(), next.Address(), kept}, err
}

// keepIdentity writes an identity into a file that is named after its zone, unless that is
// there already. It never replaces another identity.
func keepIdentity(dir string, id *anode.Identity) (path string, err error) {
	path = filepath.Join(dir, identityFile+".zone-"+id.Address().Zone().String())
	err = whole.Write(path, []byte(id.Export()+"\n"))
	if !errors.Is(err, fs.ErrExist) {
		return path, err
	}
	there, err := anode.LoadIdentity(path)
	switch {
	case err != nil:
		return "", err
	case there.Address() != id.Address():
		return "", fmt.Errorf("%s holds another identity; try: move it somewhere else", path)
	}
	return path, nil
}
