package files

import (
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"
)

// lastCall is how old the journal of a transfer has to be to be removed by another one's receiver.
// Until then, a sender that has not heard that all is there may come again, and would send all of it
// for another name.
const lastCall = time.Hour

// sweep removes the journals of transfers that were over when their receiver was killed. It leaves
// those that a sender may go on with, and whatever is not a journal of this user's and of no other
// process. What goes wrong is left for the next time.
func sweep(root *os.Root, now time.Time) {
	dir, err := root.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if isJournal(name) {
			removeLeft(root, name, now)
		}
	}
}

// isJournal reports whether a name is one of journalName.
func isJournal(name string) bool {
	id, found := strings.CutPrefix(name, journalPrefix)
	return found && len(id) == 16 && strings.Trim(id, "0123456789abcdef") == ""
}

// removeLeft removes the journal of a transfer that was over long ago. It holds the lock of it, so no receiver goes on
// with it meanwhile.
func removeLeft(root *os.Root, name string, now time.Time) {
	f, err := root.OpenFile(name, os.O_RDWR|nonblock, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < lastCall || !lock(f) || !own(root, name, info) {
		return
	}
	p, whole := readJournal(f, runtime.GOOS == "windows")
	if p.over && whole == info.Size() {
		_ = root.Remove(name) // harmless if it stays
	}
}

// own reports whether an open file is the one that has a name, and a file of this user's without
// another name.
func own(root *os.Root, name string, open fs.FileInfo) bool {
	there, err := root.Lstat(name) // a link would lead to another file
	return err == nil && os.SameFile(open, there) && open.Mode().IsRegular() && ours(open) && single(open)
}
