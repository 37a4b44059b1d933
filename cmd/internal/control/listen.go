package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// group is the name of the group that may use the socket, beside its owner.
const group = "anode"

// Listen opens the socket. It replaces one that a dead daemon left, and returns ErrInUse
// if a daemon answers on it.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	// Two daemons that start at once must not both find it dead.
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()

	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("the socket %s: %w", path, err)
	}
	if err := admitGroup(path); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes a socket that nothing listens on, and nothing else.
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
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("%w (it answers on %s)", ErrInUse, path)
	}
	return os.Remove(path)
}

// admitGroup sets the socket's group, if the system has it, and its mode.
func admitGroup(path string) error {
	if g, err := user.LookupGroup(group); err == nil {
		// If we are neither root nor in the group, only the owner may use the socket.
		if gid, err := strconv.Atoi(g.Gid); err == nil {
			if err := os.Lchown(path, -1, gid); err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
		}
	}
	return os.Chmod(path, 0o660)
}
