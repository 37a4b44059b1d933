package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"anodenet/anode/private"
)

// group is the name of the group that may use the socket, beside its owner.
const group = "anode"

// Listen opens the socket. It replaces one that a dead daemon left, and returns ErrInUse
// if a daemon answers on it. The socket's directory must be one that no other user controls.
func Listen(path string) (net.Listener, error) {
	if err := private.MakeDir(filepath.Dir(path), 0o755, private.MaySticky); err != nil {
		return nil, err
	}
	// Two daemons that start at once must not both find it dead.
	unlock, err := lock(path)
	if err != nil {
		return nil, err
	}
	defer unlock()

	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := listenAt(path)
	if err != nil {
		return nil, fmt.Errorf("the socket %s: %w", path, err)
	}
	return newLimited(l), nil
}

// removeStale removes a socket of this user's that nothing listens on, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	if err := private.CheckOwner(path, info); err != nil {
		return err
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	if err == nil || !nobodyListens(err) {
		return fmt.Errorf("%w (it answers on %s)", ErrInUse, path)
	}
	return os.Remove(path)
}
