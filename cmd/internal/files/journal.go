package files

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// record is a line of a journal. It is one of
//
//	{"version":1}                                       the first line
//	{"dir":"a/b","local":"a (2)/b"}                     a directory was made
//	{"begun":"a/x","local":"a (2)/x.part"}              a partial file was made
//	{"done":"a/x","local":"a (2)/x","size":7,"time":0,"root":"…"}
//	{"synced":true}                                     all before is on the disk
type record struct {
	Version int    `json:"version,omitempty"`
	Dir     string `json:"dir,omitempty"`
	Begun   string `json:"begun,omitempty"`
	Done    string `json:"done,omitempty"`
	Local   string `json:"local,omitempty"`
	Size    int64  `json:"size,omitempty"`
	Time    int64  `json:"time,omitempty"`
	Root    []byte `json:"root,omitempty"`
	Synced  bool   `json:"synced,omitempty"`
}

// complete is a file that was received.
type complete struct {
	local  string
	size   int64
	time   int64
	root   Hash
	synced bool // it is on the disk, whatever happened since
}

// past is what a journal says.
type past struct {
	dirs  map[string]string // local names of directories that were made
	parts map[string]string // and of partial files
	done  map[string]complete
}

// partSuffix ends the names of partial files.
const partSuffix = ".part"

// Limits of a journal that is read. It is a file that others may have changed.
const (
	maxJournal = 512 << 20
	maxLine    = 8 * maxPath // bytes; JSON makes some names longer
)

// readJournal returns what a journal says, as far as it can be read: its end may be missing
// after the machine lost power. whole is the length of that part.
func readJournal(r io.Reader, windows bool) (p past, whole int64) {
	p = past{map[string]string{}, map[string]string{}, map[string]complete{}}
	lines := bufio.NewReaderSize(io.LimitReader(r, maxJournal), maxLine)
	var unsynced []string
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return p, whole
		}
		var rec record
		if json.Unmarshal(line, &rec) != nil || whole == 0 && rec.Version != 1 || !p.take(rec, windows) {
			return p, whole
		}
		whole += int64(len(line))
		switch {
		case rec.Done != "":
			unsynced = append(unsynced, rec.Done)
		case rec.Synced:
			for _, name := range unsynced {
				c := p.done[name]
				c.synced = true
				p.done[name] = c
			}
			unsynced = nil
		}
	}
}

// take adds a record, and reports whether it makes sense.
func (p *past) take(r record, windows bool) bool {
	name := r.Dir + r.Begun + r.Done
	if name == "" {
		return true
	}
	if checkPath(name, windows) != nil || checkPath(r.Local, windows) != nil {
		return false
	}
	switch name {
	case r.Dir:
		p.dirs[name] = r.Local
	case r.Begun:
		if !strings.HasSuffix(r.Local, partSuffix) {
			return false
		}
		p.parts[name] = r.Local
	case r.Done:
		if len(r.Root) != hashSize || r.Size < 0 {
			return false
		}
		delete(p.parts, name)
		p.done[name] = complete{r.Local, r.Size, r.Time, Hash(r.Root), false}
	default:
		return false
	}
	return true
}

// journal is an open journal.
type journal struct {
	root *os.Root
	name string
	file *os.File
	past
}

// journalName returns the name of the journal for what a peer sends.
func journalName(peer string, tops []Top) string {
	h := sha256.New()
	for _, text := range append([]string{peer}, topNames(tops)...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
		io.WriteString(h, text)
	}
	return fmt.Sprintf("%s%x", journalPrefix, h.Sum(nil)[:8])
}

func topNames(tops []Top) (names []string) {
	for _, t := range tops {
		names = append(names, t.Name)
	}
	return names
}

// openJournal opens a journal, or returns a new one, which has no file until something is
// written.
func openJournal(root *os.Root, name string, windows bool) (*journal, error) {
	j := &journal{root: root, name: name}
	f, err := root.OpenFile(name, os.O_RDWR|nonblock, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.past, _ = readJournal(bytes.NewReader(nil), windows)
		return j, nil
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || !ours(info)) {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("somebody else made it; try: remove it, or another --dir")}
	}
	var whole int64
	if err == nil {
		j.past, whole = readJournal(f, windows)
		err = errors.Join(f.Truncate(whole), seekTo(f, whole))
	}
	if err == nil && whole == 0 {
		err = writeRecord(f, record{Version: 1})
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	j.file = f
	return j, nil
}

func seekTo(f *os.File, offset int64) error {
	_, err := f.Seek(offset, io.SeekStart)
	return err
}

// write adds a record, and takes it for true.
func (j *journal) write(r record) error {
	if j.file == nil {
		f, err := j.root.OpenFile(j.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		j.file = f
		if err := writeRecord(f, record{Version: 1}); err != nil {
			return err
		}
	}
	j.take(r, false)
	return writeRecord(j.file, r)
}

func writeRecord(f *os.File, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return err
}

// close closes the file.
func (j *journal) close() {
	if j.file != nil {
		j.file.Close()
	}
}

// remove removes the journal: the transfer is over.
func (j *journal) remove() error {
	j.close()
	if j.file == nil {
		return nil
	}
	return j.root.Remove(j.name)
}
