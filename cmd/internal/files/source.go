package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Source is files and directories that can be sent.
type Source struct {
	Manifest
	Failed  []Failure // what cannot be sent
	Skipped []Failure // what is no file: devices, sockets, links that lead out

	tops map[string]top
}

// top is one file or directory that was named.
type top struct {
	file string   // its path
	root *os.Root // of a directory
}

// Open looks at files and directories, and at all that the directories hold. Links that are
// named are followed, others are sent as links if they stay inside.
func Open(ctx context.Context, names []string) (*Source, error) {
	s := &Source{tops: map[string]top{}}
	for _, name := range names {
		if err := s.add(ctx, name); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close closes the directories.
func (s *Source) Close() {
	for _, t := range s.tops {
		if t.root != nil {
			t.root.Close()
		}
	}
}

func (s *Source) add(ctx context.Context, name string) error {
	whole, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(whole)
	if err != nil {
		return err
	}
	base := filepath.Base(whole)
	if _, twice := s.tops[base]; twice {
		return fmt.Errorf("%s: two files of that name; try: send them one after the other, or the directory that holds both", Shown(base))
	}
	switch {
	case info.Mode().IsRegular():
		s.tops[base] = top{file: whole}
		return s.Manifest.add(entryOf(base, info))
	case !info.IsDir():
		return fmt.Errorf("%s: neither a file nor a directory", Shown(name))
	}
	root, err := os.OpenRoot(whole)
	if err != nil {
		return err
	}
	s.tops[base] = top{file: whole, root: root}
	if err := s.Manifest.add(entryOf(base, info)); err != nil {
		return err
	}
	return s.walk(ctx, root, base, ".")
}

// entryOf returns the entry of a file or a directory.
func entryOf(name string, info fs.FileInfo) Entry {
	e := Entry{Path: name, Kind: Directory, Mode: uint16(info.Mode().Perm()), Time: info.ModTime().UnixNano()}
	if info.Mode().IsRegular() {
		e.Kind, e.Size = Regular, info.Size()
	}
	return e
}

// walk adds what a directory holds. It returns an error if nothing can be sent at all.
func (s *Source) walk(ctx context.Context, root *os.Root, base, dir string) error {
	list, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		s.fail(path.Join(base, dir), err)
	}
	for _, item := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		inner := path.Join(dir, item.Name())
		name := path.Join(base, inner)
		info, err := item.Info()
		if err != nil {
			s.fail(name, err)
			continue
		}
		if err := s.take(ctx, root, base, inner, info); err != nil {
			return err
		}
	}
	return nil
}

// take adds one thing that a directory holds.
func (s *Source) take(ctx context.Context, root *os.Root, base, inner string, info fs.FileInfo) error {
	name := path.Join(base, inner)
	e := entryOf(name, info)
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		target, err := root.Readlink(inner)
		if err != nil {
			s.fail(name, err)
			return nil
		}
		e.Kind, e.Mode, e.Target = Link, 0, filepath.ToSlash(target)
		if err := checkTarget(name, e.Target, s.windows); err != nil {
			s.Skipped = append(s.Skipped, Failure{name, errors.New("a link that leads out of what is sent")})
			return nil
		}
	case !mode.IsRegular() && !mode.IsDir():
		s.Skipped = append(s.Skipped, Failure{name, errors.New("neither a file nor a directory")})
		return nil
	}
	err := s.Manifest.add(e)
	var bad *nameError
	switch {
	case errors.As(err, &bad):
		s.fail(name, fmt.Errorf("%w: %s", ErrName, bad.why)) // the name is told beside it
		return nil
	case err != nil:
		return err
	case e.Kind == Directory:
		return s.walk(ctx, root, base, inner)
	}
	return nil
}

func (s *Source) fail(name string, err error) {
	s.Failed = append(s.Failed, Failure{name, err})
}

// errChanged says that a file is not what was announced.
var errChanged = errors.New("it changed while it was sent; try: the same command again")

// open opens a file of the manifest, which has to be as it was.
func (s *Source) open(e Entry) (*os.File, error) {
	name, inner, below := strings.Cut(e.Path, "/")
	t := s.tops[name]
	var f *os.File
	var err error
	if below {
		f, err = t.root.OpenFile(inner, os.O_RDONLY|nonblock, 0)
	} else {
		f, err = os.OpenFile(t.file, os.O_RDONLY|nonblock, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := unchanged(f, e); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unchanged returns an error if an open file is no longer what its entry says.
func unchanged(f *os.File, e Entry) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if now := entryOf(e.Path, info); !info.Mode().IsRegular() || now.Size != e.Size || now.Time != e.Time {
		return errChanged
	}
	return nil
}
