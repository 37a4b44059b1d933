package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"anodenet/anode/whole"
)

// A damaged file is replaced in this order, so that a crash loses nothing:
//
//	build   the new file beside it, with everything that can be read
//	keep    the damaged file under another name as well
//	rename  the new file over the damaged one

// keptMax is how many damaged files are kept.
const keptMax = 3

// Repair says what was done because a file was damaged.
type Repair struct {
	Problem error  // why
	Peers   int    // peers and blocks that could be read
	Kept    string // where the damaged file is now; empty: it held nothing
}

func (r *Repair) Error() string {
	what := fmt.Sprintf("%d peers and blocks that could be read are in the new file, others that were made on this machine are lost", r.Peers)
	if r.Peers == 0 {
		what = "the peers that were added on this machine, and the blocks, are lost"
	}
	kept := ""
	if r.Kept != "" {
		kept = "; the damaged file is kept as " + r.Kept
	}
	return fmt.Sprintf("%v, and was replaced: %s; the identity and the peers of the configuration are not affected%s", r.Problem, what, kept)
}

// Unwrap returns ErrDamaged.
func (r *Repair) Unwrap() error { return ErrDamaged }

// read reads all of a file that nobody changes meanwhile. The damage is nil if bbolt can
// use the file.
func read(f *os.File) (c *content, damage, err error) {
	c = newContent()
	im, err := examine(f, c.take)
	if err != nil {
		return nil, nil, err
	}
	im.scanLost(c.takeLost)
	return c, im.damage(f.Name()), nil
}

// check returns why bbolt cannot use a file, nil if it can.
func check(f *os.File) (damage, err error) {
	im, err := examine(f, func([][]byte, []byte, []byte) {})
	if err != nil {
		return nil, err
	}
	return im.damage(f.Name()), nil
}

func examine(f *os.File, visit func(path [][]byte, key, value []byte)) (*image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readImage(f, info.Size(), visit), nil
}

func (im *image) damage(name string) error {
	if len(im.faults) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", name, ErrDamaged, im.faults[0])
}

// replace puts a new file with everything that can be read in the place of a damaged one,
// which is locked.
func replace(path string, damaged *os.File) (*Repair, error) {
	c, damage, err := read(damaged)
	if err != nil {
		return nil, err
	}
	temp, err := build(path, c.fill)
	if err != nil {
		return nil, fmt.Errorf("%w; and %w", damage, err)
	}
	defer os.Remove(temp) // it is gone if all went well
	kept, err := keep(path, damaged, time.Now())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = whole.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("%w; and it cannot be replaced: %w", damage, err)
	}
	return &Repair{damage, len(c.Entries), kept}, nil
}

// keep gives a damaged file another name besides its own, and removes the oldest such
// files. A file without content is not kept.
func keep(path string, f *os.File, now time.Time) (kept string, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return "", err
	}
	base := path + ".damaged-"
	if old := whole.Beside(filepath.Dir(path), filepath.Base(base)); len(old) >= keptMax {
		for _, name := range old[:len(old)-keptMax+1] {
			os.Remove(name)
		}
	}
	base += now.UTC().Format("20060102-150405")
	kept = base
	for n := 2; ; n++ {
		if err = os.Link(path, kept); err != nil && !errors.Is(err, fs.ErrExist) {
			err = copyTo(kept, f) // no hard links here
		}
		if !errors.Is(err, fs.ErrExist) {
			return kept, err
		}
		kept = fmt.Sprintf("%s-%d", base, n)
	}
}

// copyTo copies a file to a new one.
func copyTo(path string, f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	return whole.Write(path, b)
}
