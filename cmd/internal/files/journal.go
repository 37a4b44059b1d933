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
//	{"dir":"a/b","local":"a (2)/b"}                     a directory is made
//	{"making":"a/x","local":"a (2)/x.part"}             a partial file is about to be made
//	{"begun":"a/x","local":"a (2)/x.part"}              a partial file was made
//	{"naming":"a/x","local":"a (2)/x","size":7,"time":0,"root":"…"}  the file is about to get its name
//	{"done":"a/x","local":"a (2)/x","size":7,"time":0,"root":"…"}
//	{"synced":true}                                     all before is on the disk
//	{"over":true}                                       the sender is about to hear that all is here
type record struct {
	Version int    `json:"version,omitempty"`
	Dir     string `json:"dir,omitempty"`
	Making  string `json:"making,omitempty"`
	Begun   string `json:"begun,omitempty"`
	Naming  string `json:"naming,omitempty"`
	Done    string `json:"done,omitempty"`
	Local   string `json:"local,omitempty"`
	Size    int64  `json:"size,omitempty"`
	Time    int64  `json:"time,omitempty"`
	Root    []byte `json:"root,omitempty"`
	Synced  bool   `json:"synced,omitempty"`
	Over    bool   `json:"over,omitempty"`
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
	dirs   map[string]string   // local names of directories that were made
	making map[string]string   // of partial files that may have been made
	parts  map[string]string   // and of those that were
	naming map[string]complete // partial files that may have got their names
	done   map[string]complete
	over   bool // the last record says so
}

// partSuffix ends the names of partial files.
const partSuffix = ".part"

// Limits of a journal that is read. It is a file that others may have changed.
const (
	maxJournal = 512 << 20
	maxLine    = 2*6*maxPath + 1024 // bytes; JSON takes six for some characters
)

// readJournal returns what a journal says, as far as it can be read: its end may be missing
// after the machine lost power. whole is the length of that part.
func readJournal(r io.Reader, windows bool) (p past, whole int64) {
	p = past{dirs: map[string]string{}, making: map[string]string{}, parts: map[string]string{}, naming: map[string]complete{}, done: map[string]complete{}}
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
		p.over = rec.Over
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
	name := r.Dir + r.Making + r.Begun + r.Naming + r.Done
	if name == "" {
		return true
	}
	if checkPath(name, windows) != nil || checkPath(r.Local, windows) != nil {
		return false
	}
	switch name {
	case r.Dir:
		p.dirs[name] = r.Local
	case r.Making, r.Begun:
		if !strings.HasSuffix(r.Local, partSuffix) {
			return false
		}
		delete(p.making, name)
		if r.Begun == "" {
			p.making[name] = r.Local
			break
		}
		p.parts[name] = r.Local
	case r.Naming, r.Done:
		if len(r.Root) != hashSize || r.Size < 0 {
			return false
		}
		c := complete{r.Local, r.Size, r.Time, Hash(r.Root), false}
		if r.Done == "" {
			p.naming[name] = c
			break
		}
		delete(p.parts, name)
		delete(p.naming, name)
		p.done[name] = c
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

// Why a journal is not opened. A journal names files to write to, so it has to be this user's own.
const (
	foreignJournal = "somebody else made it; try: remove it, or another --dir"
	journalInUse   = "another anode recv uses it; try: wait until that has ended, or another --dir"
)

func (j *journal) unfit(why string) error {
	return &fs.PathError{Op: "open", Path: j.name, Err: errors.New(why)}
}

// openJournal opens a journal, or returns a new one, which has no file until something is
// written. Only one process has it open at a time.
func openJournal(root *os.Root, name string, windows bool) (*journal, error) {
	j := &journal{root: root, name: name}
	f, err := root.OpenFile(name, os.O_RDWR|nonblock, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.past, _ = readJournal(bytes.NewReader(nil), windows)
		return j, nil
	case err != nil:
		if info, unseen := root.Lstat(name); unseen == nil && !(info.Mode().IsRegular() && ours(info)) {
			return nil, j.unfit(foreignJournal)
		}
		return nil, err
	}
	if err := j.read(f, windows); err != nil {
		f.Close()
		return nil, err
	}
	j.file = f
	return j, nil
}

// read checks that a file is a journal of this user's and of nobody else's now, and reads it.
func (j *journal) read(f *os.File, windows bool) error {
	if !lock(f) {
		return j.unfit(journalInUse)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !own(j.root, j.name, info) { // a file that is about to be cut
		return j.unfit(foreignJournal)
	}
	var whole int64
	j.past, whole = readJournal(f, windows)
	if err := errors.Join(f.Truncate(whole), seekTo(f, whole)); err != nil || whole > 0 {
		return err
	}
	return writeRecord(f, record{Version: 1})
}

func seekTo(f *os.File, offset int64) error {
	_, err := f.Seek(offset, io.SeekStart)
	return err
}

// write adds a record, and takes it for true.
func (j *journal) write(r record) error {
	if j.file == nil {
		f, err := j.root.OpenFile(j.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		switch {
		case errors.Is(err, fs.ErrExist): // since the transfer began
			return j.unfit(journalInUse)
		case err != nil:
			return err
		}
		j.file = f
		if !lock(f) {
			return j.unfit(journalInUse)
		}
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

// end notes that the transfer is over. A receiver that is killed from here on leaves the journal to
// the next one, which removes it (sweep).
func (j *journal) end() error {
	if j.file == nil {
		return nil
	}
	return j.write(record{Over: true})
}

// remove removes the journal: the transfer is over.
func (j *journal) remove() error {
	j.close()
	if j.file == nil {
		return nil
	}
	return j.root.Remove(j.name)
}
