package zone

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/anode/private"
	"anodenet/anode/whole"
)

// Cache keeps zone files in a directory, one as zone-XXXXXXXX, which is there as a whole or
// not at all. The time of its last change is when it was last found to be current. Before the
// file as it was fetched come comments with what else is known:
//
//	;anode source http://192.0.2.1/z
//	;anode etag "0123456789abcdef"
//	;anode modified Sat, 28 Nov 2026 12:00:00 GMT
//	;anode lower 1796000000 2          (Lower: since, times)
//	;anode file
//
// The last of them ends the comments: what follows is the web's, whatever it looks like.
//
// The zero value keeps nothing.
type Cache struct {
	Dir      string // "": none
	ReadOnly bool
}

// maxCached is how many files are kept: those of zones that nobody uses any more go when
// there are too many.
const maxCached = 64

// maxHead is the most bytes of the comments.
const maxHead = 2048

const (
	cachePrefix = "zone-"
	headPrefix  = ";anode "
)

func (c Cache) path(z anode.Zone) string { return filepath.Join(c.Dir, cachePrefix+z.String()) }

// Load returns the copy of a zone's file, and when it was last found to be current. A
// directory without one returns an empty Copy and no error.
func (c Cache) Load(z anode.Zone) (copy Copy, checked time.Time, err error) {
	if c.Dir == "" {
		return Copy{}, time.Time{}, nil
	}
	b, err := private.ReadFile(c.path(z), MaxSize+maxHead)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Copy{}, time.Time{}, nil
	case err != nil:
		return Copy{}, time.Time{}, err
	}
	if info, err := os.Lstat(c.path(z)); err == nil {
		checked = info.ModTime()
	}
	body := copy.head(b)
	if copy.File, err = read(bytes.NewReader(body)); err != nil {
		return Copy{}, time.Time{}, fmt.Errorf("%s: %w", c.path(z), err)
	}
	return copy, checked, nil
}

// head reads the comments of ours, and returns what follows them.
func (c *Copy) head(b []byte) (body []byte) {
	for {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		text, ours := strings.CutPrefix(string(line[:min(len(line), maxHead)]), headPrefix)
		if !ok || !ours {
			return b
		}
		b = rest
		key, value, _ := strings.Cut(text, " ")
		switch key {
		case "file":
			return b
		case "source":
			c.Source = value
		case "etag":
			c.ETag = value
		case "modified":
			c.Modified = value
		case "lower":
			c.Lower = parseLower(value)
		}
	}
}

// Save replaces the copy of a zone's file, which is current.
func (c Cache) Save(z anode.Zone, copy Copy) error {
	if c.Dir == "" || c.ReadOnly || copy.File == nil {
		return nil
	}
	var b []byte
	for _, line := range [][2]string{{"source", copy.Source}, {"etag", copy.ETag}, {"modified", copy.Modified}, {"lower", copy.Lower.text()}} {
		if line[1] != "" && len(line[1]) <= maxValidator && !strings.ContainsAny(line[1], "\r\n\x00") {
			b = fmt.Appendf(b, "%s%s %s\n", headPrefix, line[0], line[1])
		}
	}
	b = fmt.Appendf(b, "%sfile\n", headPrefix)
	whole.Sweep(c.path(z), time.Now())
	if err := whole.Replace(c.path(z), append(b, copy.File.raw...)); err != nil {
		return err
	}
	c.trim()
	return nil
}

// Touch notes that the copy of a zone's file was found to be current at a time.
func (c Cache) Touch(z anode.Zone, checked time.Time) error {
	if c.Dir == "" || c.ReadOnly {
		return nil
	}
	return os.Chtimes(c.path(z), checked, checked)
}

// trim removes the oldest files beyond maxCached.
func (c Cache) trim() {
	list := slices.DeleteFunc(whole.Beside(c.Dir, cachePrefix), func(path string) bool {
		digits := strings.TrimPrefix(filepath.Base(path), cachePrefix)
		z, err := anode.ParseZone(digits)
		return err != nil || z.String() != digits
	})
	if len(list) <= maxCached {
		return
	}
	age := func(path string) time.Time {
		if info, err := os.Lstat(path); err == nil {
			return info.ModTime()
		}
		return time.Time{}
	}
	slices.SortFunc(list, func(a, b string) int { return age(a).Compare(age(b)) })
	for _, path := range list[:len(list)-maxCached] {
		os.Remove(path)
	}
}
