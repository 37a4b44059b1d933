package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"time"
)

// When what was received is written to the disk.
const (
	syncFiles = 256
	syncBytes = 64 << 20
)

// folder is where a transfer is received. It has one owner.
type folder struct {
	root    *os.Root
	windows bool
	journal *journal
	hash    hasher

	unsynced      []string // local names of files that may not be on the disk
	unsyncedBytes int64
}

// openFolder opens the folder for what a peer sends.
func openFolder(root *os.Root, peer string, tops []Top) (*folder, error) {
	windows := runtime.GOOS == "windows"
	j, err := openJournal(root, journalName(peer, tops), windows)
	if err != nil {
		return nil, err
	}
	return &folder{root: root, windows: windows, journal: j, hash: newHasher()}, nil
}

// local returns the name that an entry has here, if nothing else has it.
func (f *folder) local(name string) string {
	dir := path.Dir(name)
	if dir == "." {
		return name
	}
	if d, ok := f.journal.dirs[dir]; ok {
		dir = d
	}
	return path.Join(dir, path.Base(name))
}

// maxTries is how many names are tried for one thing.
const maxTries = 10_000

// fresh calls make with names until one is not taken, and returns that.
func (f *folder) fresh(name, suffix string, make func(name string) error) (string, error) {
	for k := 1; k <= maxTries; k++ {
		try := numbered(name, k, suffix)
		if err := make(try); !errors.Is(err, fs.ErrExist) {
			return try, err
		}
	}
	return "", fmt.Errorf("%s: too many files of that name exist", Shown(name))
}

// mkdir makes a directory, unless the transfer made it before.
func (f *folder) mkdir(e Entry) error {
	if local, ok := f.journal.dirs[e.Path]; ok {
		if info, err := f.root.Lstat(local); err == nil && info.IsDir() && ours(info) {
			return nil
		}
	}
	_, err := f.fresh(f.local(e.Path), "", func(name string) error {
		if err := f.announce(record{Dir: e.Path, Local: name}); err != nil {
			return err
		}
		return f.root.Mkdir(name, fs.FileMode(e.Mode)&0o755|0o700)
	})
	return err
}

// announce writes a record about something that is about to get a name, so that one who ends
// meanwhile finds it again. It returns fs.ErrExist if something has the name.
func (f *folder) announce(r record) error {
	_, err := f.root.Lstat(r.Local)
	switch {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return f.journal.write(r)
}

// has reports whether a file was received before, and is still there.
func (f *folder) has(e Entry) bool {
	c, ok := f.journal.done[e.Path]
	return ok && f.holds(c, e)
}

// named completes a file whose partial file got its name just before an earlier attempt ended,
// and reports whether it was so.
func (f *folder) named(e Entry) (bool, error) {
	c, ok := f.journal.naming[e.Path]
	if !ok || !f.holds(c, e) {
		return false, nil
	}
	part, begun := f.journal.parts[e.Path]
	if err := f.journal.write(doneRecord(e, c.local, c.root)); err != nil {
		return false, err
	}
	if begun && f.same(part, c.local) {
		return true, f.root.Remove(part)
	}
	return true, nil
}

// holds reports whether a file is what a journal says about it, and what is sent now.
func (f *folder) holds(c complete, e Entry) bool {
	if c.size != e.Size || c.time != e.Time {
		return false
	}
	info, err := f.root.Lstat(c.local)
	if err != nil || !info.Mode().IsRegular() || info.Size() != e.Size {
		return false
	}
	if c.synced {
		return true
	}
	// The machine may have lost power before the data reached the disk.
	file, err := f.root.OpenFile(c.local, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	var t tree
	err = f.hashes(file, e.Size, func(h Hash) error { t.add(h); return nil })
	return err == nil && t.root() == c.root
}

// hashes calls found with the hash of each whole piece of a file of a size.
func (f *folder) hashes(file io.Reader, size int64, found func(Hash) error) error {
	buffer := make([]byte, min(pieceSize, size))
	for p := range piecesOf(size) {
		b := buffer[:pieceLength(size, p)]
		if _, err := io.ReadFull(file, b); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
		if err := found(f.hash.piece(b)); err != nil {
			return err
		}
	}
	return nil
}

// kept calls found with the hash of each piece of a file that was received before.
func (f *folder) kept(e Entry, found func(Hash) error) error {
	local, ok := f.journal.parts[e.Path]
	if !ok {
		return nil
	}
	file, err := f.openPart(local, false)
	if err != nil || file == nil {
		return err
	}
	defer file.Close()
	return f.hashes(file, e.Size, found)
}

// openPart opens a partial file of an earlier time; nil: there is none.
func (f *folder) openPart(local string, write bool) (*os.File, error) {
	info, err := f.root.Lstat(local)
	if err != nil || !info.Mode().IsRegular() || !ours(info) {
		return nil, nil
	}
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	file, err := f.root.OpenFile(local, flag|nonblock, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Somebody else who may write the folder may have put a link in its place meanwhile.
	if opened, err := file.Stat(); err != nil || !os.SameFile(info, opened) {
		file.Close()
		return nil, nil
	}
	return file, nil
}

// incoming is a file that is being received.
type incoming struct {
	entry Entry
	file  *os.File
	local string // name of the partial file
	next  int64  // piece
	tree  tree
}

// begin opens the partial file of an entry, that of an earlier time if there is one.
func (f *folder) begin(e Entry) (*incoming, error) {
	local, begun := f.journal.parts[e.Path]
	if made, ok := f.journal.making[e.Path]; ok && !begun && f.empty(made) {
		local = made // and perhaps somebody else's, so it has to be empty
	}
	if local != "" {
		file, err := f.openPart(local, true)
		switch {
		case err != nil:
			return nil, err
		case file != nil && begun:
			return &incoming{entry: e, file: file, local: local}, nil
		case file != nil:
			return f.begun(e, local, file)
		}
	}
	var file *os.File
	local, err := f.fresh(f.local(e.Path), partSuffix, func(name string) (err error) {
		if err := f.announce(record{Making: e.Path, Local: name}); err != nil {
			return err
		}
		// The system takes the umask from the mode. Writing has to be possible until the end.
		file, err = f.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fs.FileMode(e.Mode)&0o775|0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f.begun(e, local, file)
}

// begun notes that a partial file is there, and nobody else's.
func (f *folder) begun(e Entry, local string, file *os.File) (*incoming, error) {
	if err := f.journal.write(record{Begun: e.Path, Local: local}); err != nil {
		return nil, errors.Join(err, file.Close(), f.root.Remove(local))
	}
	return &incoming{entry: e, file: file, local: local}, nil
}

// empty reports whether a name is that of an empty file of this user's.
func (f *folder) empty(name string) bool {
	info, err := f.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == 0 && ours(info)
}

// write writes the next piece.
func (in *incoming) write(h Hash, data []byte) error {
	if _, err := in.file.WriteAt(data, in.next*pieceSize); err != nil {
		return err
	}
	in.skip(h)
	return nil
}

// skip goes on to the next piece: this one is there.
func (in *incoming) skip(h Hash) {
	in.tree.add(h)
	in.next++
}

// publish gives a file, of which all pieces are there, its name.
func (f *folder) publish(in *incoming) (local string, err error) {
	defer in.file.Close()
	if err := in.file.Truncate(in.entry.Size); err != nil {
		return "", err
	}
	f.dress(in)
	root := in.tree.root()
	local, err = f.fresh(f.local(in.entry.Path), "", func(name string) error {
		naming := doneRecord(in.entry, name, root)
		naming.Naming, naming.Done = naming.Done, ""
		if err := f.announce(naming); err != nil && !f.same(in.local, name) {
			return err
		}
		return f.rename(in.local, name)
	})
	if err != nil {
		return "", err
	}
	if err := f.journal.write(doneRecord(in.entry, local, root)); err != nil {
		return "", err
	}
	f.unsynced = append(f.unsynced, local)
	f.unsyncedBytes += in.entry.Size
	if len(f.unsynced) >= syncFiles || f.unsyncedBytes >= syncBytes {
		return local, f.sync()
	}
	return local, nil
}

// doneRecord is the record of a file that is complete.
func doneRecord(e Entry, local string, root Hash) record {
	return record{Done: e.Path, Local: local, Size: e.Size, Time: e.Time, Root: root[:]}
}

// dress gives a partial file the mode and the time of its entry, where the system can.
func (f *folder) dress(in *incoming) {
	if info, err := in.file.Stat(); err == nil && in.entry.Mode&0o200 == 0 {
		in.file.Chmod(info.Mode().Perm() &^ 0o222)
	}
	f.root.Chtimes(in.local, time.Time{}, time.Unix(0, in.entry.Time))
}

// rename renames a file to a name that nothing has: it never replaces anything.
func (f *folder) rename(from, to string) error {
	err := f.root.Link(from, to)
	switch {
	case err == nil:
		return f.root.Remove(from)
	case errors.Is(err, fs.ErrExist):
		if f.same(from, to) { // an earlier attempt ended between these two steps
			return f.root.Remove(from)
		}
		return err
	}
	// A file system without links. An empty file reserves the name.
	file, err := f.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), f.root.Rename(from, to))
}

func (f *folder) same(a, b string) bool {
	one, err := f.root.Lstat(a)
	if err != nil {
		return false
	}
	other, err := f.root.Lstat(b)
	return err == nil && os.SameFile(one, other)
}

// discard removes a partial file that will not become whole.
func (f *folder) discard(in *incoming) error {
	err := errors.Join(in.file.Close(), f.root.Remove(in.local))
	delete(f.journal.parts, in.entry.Path)
	return err
}

// sync has all that was received on the disk, and notes it.
func (f *folder) sync() error {
	if len(f.unsynced) == 0 {
		return nil
	}
	if err := syncAll(f.journal.file, f.root, f.unsynced); err != nil {
		return err
	}
	f.unsynced, f.unsyncedBytes = f.unsynced[:0], 0
	return f.journal.write(record{Synced: true})
}

// finish makes the links, and gives directories their times, after all files are there. It
// returns the links that could not be made.
func (f *folder) finish(entries []Entry) (failed []Failure, err error) {
	for _, e := range entries {
		if e.Kind != Link {
			continue
		}
		if err := f.link(e); err != nil {
			failed = append(failed, Failure{e.Path, err})
		}
	}
	for name, local := range f.journal.parts { // of files that are no longer sent
		delete(f.journal.parts, name)
		f.root.Remove(local)
	}
	for name, local := range f.journal.making {
		delete(f.journal.making, name)
		if f.empty(local) {
			f.root.Remove(local)
		}
	}
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if local, ok := f.journal.dirs[e.Path]; ok && e.Kind == Directory {
			f.root.Chtimes(local, time.Time{}, time.Unix(0, e.Time)) // where the system can
		}
	}
	return failed, f.sync()
}

// link makes a symbolic link, unless it is there.
func (f *folder) link(e Entry) error {
	local := f.local(e.Path)
	if target, err := f.root.Readlink(local); err == nil && target == e.Target {
		return nil
	}
	_, err := f.fresh(local, "", func(name string) error { return f.root.Symlink(e.Target, name) })
	return err
}

// Failure is something that was not transferred.
type Failure struct {
	Path string
	Err  error
}
