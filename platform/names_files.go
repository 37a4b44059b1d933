package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// resolverFiles are the files in /etc/resolver by which macOS is told, see resolver(5). A file is
// called like the domain:
//
//	# made by anode, process 1234
//	nameserver fd12::1
//	port 8753
//
// They outlive a process that was killed. Whoever finds one whose process is gone removes it. A
// file without our first line is somebody else's.
type resolverFiles struct {
	dir   string
	pid   int
	lives func(pid int) bool
}

const resolverMark = "# made by anode, process "

// errForeignFile means that somebody else has set up the domain.
var errForeignFile = errors.New("the file is not anode's; try: remove it, if nothing else needs it")

// owner returns the process that made a file; 0: it is not ours.
func (r resolverFiles) owner(name string) (pid int, err error) {
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	number, ours := strings.CutPrefix(line, resolverMark)
	if pid, err = strconv.Atoi(number); !ours || err != nil || pid <= 0 {
		return 0, nil
	}
	return pid, nil
}

// apply makes the files for the settings, and removes others of ours.
func (r resolverFiles) apply(s NameSettings) error {
	wanted := map[string]bool{}
	var errs []error
	for _, d := range s.Domains {
		wanted[d] = true
		errs = append(errs, r.write(d, s))
	}
	_, err := r.remove(func(name string, pid int) bool { return !wanted[name] && pid == r.pid })
	return errors.Join(append(errs, err)...)
}

func (r resolverFiles) write(domain string, s NameSettings) error {
	if pid, err := r.owner(domain); err == nil && pid == 0 {
		return fmt.Errorf("%s: %w", filepath.Join(r.dir, domain), errForeignFile)
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("%s%d\nnameserver %s\nport %d\n", resolverMark, r.pid, s.Server.Addr(), s.Server.Port())
	return os.WriteFile(filepath.Join(r.dir, domain), []byte(text), 0o644)
}

// remove removes the files of ours for which which is true.
func (r resolverFiles) remove(which func(name string, pid int) bool) (removed []string, err error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		pid, err := r.owner(e.Name())
		if err != nil || pid == 0 || !which(e.Name(), pid) {
			continue
		}
		path := filepath.Join(r.dir, e.Name())
		if err := os.Remove(path); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, path)
	}
	return removed, errors.Join(errs...)
}

// cleanup removes what processes left that are gone.
func (r resolverFiles) cleanup() ([]string, error) {
	return r.remove(func(_ string, pid int) bool { return !r.lives(pid) })
}

// revert removes what this process made.
func (r resolverFiles) revert() error {
	_, err := r.remove(func(_ string, pid int) bool { return pid == r.pid })
	return err
}
