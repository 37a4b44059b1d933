package main_test

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// etcWatch hears by inotify(7) of all that is changed in a machine's /etc, also of what is put back
// afterwards.
type etcWatch struct {
	r    *resolving
	dirs map[int32]string // by watch

	mu   sync.Mutex
	seen []string
}

// changes are the kinds of events that count.
const changes = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// watchEtc watches until the test ends.
func (r *resolving) watchEtc() *etcWatch {
	r.t.Helper()
	w := &etcWatch{r: r, dirs: make(map[int32]string)}
	file, err := in(r.host, w.open)
	if err != nil {
		r.t.Fatal(err)
	}
	r.test.Cleanup(func() { file.Close() })
	go w.read(file)
	return w
}

// open runs on the host's thread, which has the host's mounts.
func (w *etcWatch) open() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir("/etc", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		watch, err := unix.InotifyAddWatch(fd, path, changes)
		w.dirs[int32(watch)] = path
		return err
	})
	return os.NewFile(uintptr(fd), "inotify"), err
}

// read notes events until the file is closed.
func (w *etcWatch) read(file *os.File) {
	buf := make([]byte, 1<<16)
	for {
		n, err := file.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			watch, end := int32(binary.NativeEndian.Uint32(b)), unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(b[12:])
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
			w.mu.Lock()
			w.seen = append(w.seen, filepath.Join(w.dirs[watch], name))
			w.mu.Unlock()
			b = b[end:]
		}
	}
}

// untouched reports an error if something was changed until now. A file of its own shows that the watch
// is not deaf, and that it has heard all.
func (w *etcWatch) untouched(t *testing.T) {
	t.Helper()
	const own = "/etc/systemd/the-test-was-here"
	before := len(w.heard())
	w.r.run("touch", own)
	within(t, dialWait, "the watch over /etc", func() bool { return slices.Contains(w.heard()[before:], own) })
	for _, path := range w.heard() {
		if path != own {
			t.Errorf("somebody changed %s", path)
		}
	}
}

func (w *etcWatch) heard() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}
