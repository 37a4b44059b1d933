package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"anodenet/platform"
)

// login is what decides where a user's node has its files.
type login struct {
	root     bool
	base     string                 // for state, such as ~/.local/state; empty: there is none
	writable func(path string) bool // also of what does not exist and could be made
	exists   func(path string) bool
}

// thisLogin returns that of the user who runs the program.
func thisLogin() login {
	base := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); err == nil && !filepath.IsAbs(base) && home != "/" {
		base = filepath.Join(home, ".local", "state")
	}
	if info, err := os.Stat(filepath.Dir(filepath.Dir(base))); base == "" || err != nil || !info.IsDir() {
		base = "" // such as /nonexistent, the home of nobody
	}
	return login{
		root: os.Geteuid() <= 0, // it is -1 where there is no such number
		base: base,
		writable: func(path string) bool {
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				path = filepath.Dir(path)
			}
			return mayWrite(path)
		},
		exists: func(path string) bool { _, err := os.Lstat(path); return err == nil },
	}
}

// own returns the files of a node of the user's own: of one that is not root, and cannot
// write the system's.
func (l login) own(system platform.Directories) (own platform.Directories, ok bool) {
	if l.root || l.base == "" || l.writable(system.State) {
		return platform.Directories{}, false
	}
	state := filepath.Join(l.base, "anode")
	return platform.Directories{State: state, Socket: filepath.Join(state, "socket"), Config: system.Config}, true
}

// settle takes the user's own files in the place of the system's, where no flag or variable
// names others and the user has a node. Commands for a daemon find the system's if it alone
// runs.
func (a *app) settle(l login) {
	own, ok := l.own(platform.DefaultDirectories())
	if !ok {
		return
	}
	a.own = own
	if !l.exists(own.State) {
		return
	}
	if !a.stateGiven {
		a.state = own.State
	}
	if !a.socketGiven && (l.exists(own.Socket) || !l.exists(a.socket)) {
		a.socket = own.Socket
	}
}

// settleDaemon does the same for a daemon: the user's own files are for one without an adapter,
// which needs no root.
func (a *app) settleDaemon(adapter bool) {
	files := a.own
	if files.State == "" {
		return
	}
	if adapter {
		files = platform.DefaultDirectories()
	}
	if !a.socketGiven {
		a.socket = files.Socket
	}
	if !a.stateGiven {
		a.state = files.State
		if !adapter {
			_ = os.MkdirAll(filepath.Dir(a.state), 0o700) // what uses it reports an error better
		}
	}
}
